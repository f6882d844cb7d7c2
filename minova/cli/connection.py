"""The way to the cluster: over the broker, or to one that is held in this process for as long as a command runs.

What is heavy is imported where it is used, for ``--help`` imports this module too.
"""

import getpass
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from minova.exception import ConfigurationError

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from oslo_config import cfg

    from minova.conductor.rpcapi import ConductorAPI
    from minova.context import RequestContext
    from minova.rpc.control import ControlAPI
    from minova.rpc.rollcall import RollCall

Notify = Callable[[str], None]
"""Tells the user something that is no result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """A cluster that can be talked to.

    :ivar control: makes the client of the ``control`` namespace of a topic.
    :ivar roll_call: begins a roll call, which is over with its context.
    :ivar ctxt: who asks.
    """

    conductor: "ConductorAPI"
    control: "Callable[[str], ControlAPI]"
    roll_call: "Callable[[], AbstractContextManager[RollCall]]"
    ctxt: "RequestContext"


@contextmanager
def connect(conf: "cfg.ConfigOpts", notify: Notify) -> Iterator[Connection]:
    """Connect to the cluster that ``conf`` is about; ``notify`` is told if that has to wait."""
    from minova.rpc.transport import is_fake

    opened = _embedded(conf, notify) if is_fake(conf) else _remote(conf)
    with opened as connection:
        yield connection


@contextmanager
def exclusive(conf: "cfg.ConfigOpts", notify: Notify) -> Iterator[None]:
    """Keep other commands away from ``state_path``; wait, and say so, while one holds it.

    :raises ConfigurationError: ``state_path`` cannot be used.
    """
    from filelock import FileLock

    folder = _private(Path(conf.state_path))
    # Not in the lock file itself: whoever tries to lock it empties it.
    holder = folder / "minova.pid"
    lock = FileLock(folder / "minova.lock")
    with _usable(folder):
        _take(lock, holder, notify)
    try:
        with _usable(folder):
            holder.write_text(str(os.getpid()))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def log_folder(conf: "cfg.ConfigOpts") -> Path:
    """Return where to log: ``state_path`` with the embedded cluster, and else a folder of the user's own.

    :raises ConfigurationError: it cannot be made.
    """
    import platformdirs

    from minova.rpc.transport import is_fake

    # On a real cluster state_path is the daemons'; the user may have no right to it.
    return _private(Path(conf.state_path if is_fake(conf) else platformdirs.user_state_dir("minova")))


def _private(folder: Path) -> Path:
    with _usable(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextmanager
def _usable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(reason=f"folder {folder} cannot be used: {error.strerror}") from None


def _take(lock: "BaseFileLock", holder: Path, notify: Notify) -> None:
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        notify(f"waiting for another minova-manage{_process(holder)}…")
        lock.acquire()


def _process(holder: Path) -> str:
    try:
        return f" (process {int(holder.read_text())})"
    except (OSError, ValueError):
        # It is just about to begin, or to end.
        return ""


@contextmanager
def _embedded(conf: "cfg.ConfigOpts", notify: Notify) -> Iterator[Connection]:
    from minova.embedded import Cluster
    from minova.rpc.rollcall import listen

    hosts = [f"host{number}" for number in range(1, conf.embedded.hosts + 1)]
    with exclusive(conf, notify), Cluster(conf, hosts=hosts) as cluster:
        yield Connection(
            conductor=cluster.conductor_api,
            control=cluster.control,
            roll_call=lambda: listen(cluster.transport),
            ctxt=_context(),
        )


@contextmanager
def _remote(conf: "cfg.ConfigOpts") -> Iterator[Connection]:
    from minova.conductor.rpcapi import TOPIC, ConductorAPI
    from minova.rpc.control import ControlAPI
    from minova.rpc.rollcall import listen
    from minova.rpc.transport import get_transport
    from minova.rpc.versions import Pins

    transport = get_transport(conf)
    control, ctxt = ControlAPI(conf, transport, TOPIC), _context()
    # What could not be reached cannot be left either: that would wait for the broker.
    control.reach_broker(ctxt)
    try:
        yield Connection(
            conductor=ConductorAPI(conf, transport, Pins(conf, control.lowest)),
            control=lambda topic: ControlAPI(conf, transport, topic),
            roll_call=lambda: listen(transport),
            ctxt=ctxt,
        )
    except KeyboardInterrupt:
        # In the midst of reading from the broker a piece of what that says was lost: its answer to a farewell would not
        # be understood, and be waited for for ever. It sees that the process is gone.
        raise
    except BaseException:
        transport.cleanup()
        raise
    transport.cleanup()


def _context() -> "RequestContext":
    from minova.context import RequestContext

    return RequestContext(user=getpass.getuser())
