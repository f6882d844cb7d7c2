"""The life of a service: start, serve, drain, stop."""

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from futurist import periodics
from oslo_messaging.rpc.server import RPCServer
from oslo_service import service

from minova.context import FreshContextPool

RENEWALS_PER_LEASE = 3
"""How often a lease is renewed while it lasts: two renewals may be lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Master:
    """What a worker knows of the process that has started it.

    :ivar started_at: when the service was started; a worker that takes another's place makes it no younger.
    :ivar workers: how many there are.
    """

    started_at: datetime
    workers: int = 1


class Service(service.ServiceBase):  # type: ignore[misc]  # oslo.service has no types
    """One service: an RPC server, timers, and what there is to do before and after."""

    def __init__(self, server: RPCServer) -> None:
        self._server = server
        self._serving = False
        self._timers: periodics.PeriodicWorker | None = None
        self._stopped = threading.Event()
        self._watches: list[tuple[float, Callable[[], None]]] = []

    def timers(self) -> Sequence[tuple[float, Callable[[], None]]]:
        """Return (seconds, what to do) of everything that is done periodically, from the start on."""
        return ()

    def announce(self) -> None:
        """Make known that the service serves: called once messages are taken, before the timers run."""

    def is_ready(self) -> bool:
        """Return whether the service does what it is for, once it was started."""
        return True

    def describe(self) -> Mapping[str, Any]:
        """Return what the service is doing now, as JSON types: for whoever looks for the reason of a hang."""
        return {}

    def watch(self, seconds: float, beat: Callable[[], None]) -> None:
        """Have ``beat`` called so often, from the start on, as one of the timers: it proves that they run."""
        self._watches.append((seconds, beat))

    def drain(self) -> None:
        """Finish or hand over what runs. No more requests come in, and timers still go."""

    def close(self) -> None:
        """Let go of connections."""

    def reset(self) -> None:
        """Read again what may have changed outside: called at SIGHUP, after the configuration was reloaded."""

    def start(self) -> None:
        """Begin to serve."""
        self._server.start()
        self._serving = True
        self.announce()
        works = [_periodic(seconds, work) for seconds, work in (*self.timers(), *self._watches)]
        pool = functools.partial(FreshContextPool, max_workers=len(works))
        self._timers = periodics.PeriodicWorker([(work, (), {}) for work in works], executor_factory=pool)
        threading.Thread(target=self._timers.start, name="timers", daemon=True).start()

    def stop(self, graceful: bool = True) -> None:
        """Stop: first take no new requests, then drain, then end the timers (they keep leases alive), then close."""
        if self._serving:
            # A server that was never started would wait for that.
            self._server.stop()
            self._server.wait()
        self.drain()
        if self._timers is not None:
            self._timers.stop()
            self._timers.wait()
        self.close()
        self._stopped.set()

    def wait(self) -> None:
        """Block until the service has stopped."""
        self._stopped.wait()


def _periodic(seconds: float, work: Callable[[], None]) -> Callable[[], None]:
    tagged: Callable[[], None] = periodics.periodic(seconds, run_immediately=True)(functools.partial(work))
    return tagged
