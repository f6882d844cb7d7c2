"""What every service says of itself in the ``control`` namespace."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar


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
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """What a service is doing now."""

    VERSION: ClassVar[str] = "1.0"
    service: str
    host: str
    tasks: tuple[Task, ...] = ()
