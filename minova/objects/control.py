"""What every service says of itself in the ``control`` namespace."""

from dataclasses import dataclass
from typing import ClassVar

from minova.objects.base import Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong:
    """The answer to a ping."""

    VERSION: ClassVar[str] = "1.0"
    service: str
    host: str
    uptime: float
    """Seconds since the service started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The version at which a client holds a peer, and why."""

    VERSION: ClassVar[str] = "1.0"
    topic: str
    version: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceVersions:
    """What a service speaks, and what it limits itself to when it speaks to others."""

    VERSION: ClassVar[str] = "1.0"
    service: str
    host: str
    release: str
    rpc_version: str
    pins: tuple[Pin, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One thing that a service is doing.

    :ivar what: the step or method.
    :ivar subject: the UUID of the action or instance that it is about.
    """

    VERSION: ClassVar[str] = "1.0"
    what: str
    subject: str
    since: Moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """What one process of a service says of itself in a roll call.

    :ivar process: its process id.
    :ivar workers: how many such processes the service has on its host.
    :ivar uptime: seconds since it started.
    :ivar tasks: what it is doing now.
    """

    VERSION: ClassVar[str] = "1.0"
    service: str
    host: str
    process: int
    workers: int
    uptime: float
    release: str
    rpc_version: str
    pins: tuple[Pin, ...] = ()
    tasks: tuple[Task, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What a service is doing now."""

    VERSION: ClassVar[str] = "1.0"
    service: str
    host: str
    tasks: tuple[Task, ...] = ()
