"""The life of a service: start, serve, drain, stop."""

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from futurist import periodics
from oslo_messaging.rpc.server import RPCServer
from oslo_service import service

from minova.context import FreshContextPool

LOG = logging.getLogger(__name__)

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

    PATIENCE: ClassVar[float] = 600.0
    """Seconds after which a timer that has not ended hangs: a server that is away keeps it busy for less."""

    def __init__(self, server: RPCServer) -> None:
        self._server = server
        self._serving = False
        self._timers: list[_Timer] = []
        self._worker: periodics.PeriodicWorker | None = None
        self._stopped = threading.Event()
        self._watches: list[_Timer] = []

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

    def watch(self, seconds: float, look: Callable[[], None]) -> None:
        """Have ``look`` called so often, from the start on, beside the timers: a thread of its own can judge them."""
        self._watches.append(_Timer(seconds, look))

    def lives(self) -> bool:
        """Return whether no timer hangs; one that begins to is told in the log."""
        return not any(timer.hangs(self.PATIENCE) for timer in self._timers)

    def hand_over(self) -> None:
        """Let others have at once what they can go on with: called first of all, while requests may still come in."""

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
        self._timers = [_Timer(seconds, work) for seconds, work in self.timers()]
        works = [timer.periodic() for timer in (*self._timers, *self._watches)]
        pool = functools.partial(FreshContextPool, max_workers=len(works))
        self._worker = periodics.PeriodicWorker([(work, (), {}) for work in works], executor_factory=pool)
        threading.Thread(target=self._worker.start, name="timers", daemon=True).start()

    def stop(self, graceful: bool = True) -> None:
        """Stop: hand over, take no new requests, drain, end the timers (they keep leases alive), close: in this order.

        Handing over comes first because the rest may take long: a server that stops waits for what it has in hand, and
        to notice that it has to alone takes up to a second.

        An error, such as a database that is away, keeps nothing of that from being done, and is raised at the end.
        """
        with ExitStack() as last_to_first:
            last_to_first.callback(self._stopped.set)
            last_to_first.callback(self.close)
            last_to_first.callback(self._stop_timers)
            last_to_first.callback(self.drain)
            last_to_first.callback(self._stop_server)
            last_to_first.callback(self.hand_over)

    def wait(self) -> None:
        """Block until the service has stopped."""
        self._stopped.wait()

    def _stop_server(self) -> None:
        if self._serving:
            # A server that was never started would wait for that.
            self._server.stop()
            self._server.wait()

    def _stop_timers(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker.wait()


class _Timer:
    """Something that is done periodically, and when it was last done."""

    def __init__(self, seconds: float, work: Callable[[], None]) -> None:
        self._seconds = seconds
        self._work = work
        self._ended_at = time.monotonic()
        self._told = False

    def periodic(self) -> Callable[[], None]:
        """Return what a periodic worker takes."""
        tagged: Callable[[], None] = periodics.periodic(self._seconds, run_immediately=True)(
            functools.partial(self._run)
        )
        return tagged

    def hangs(self, patience: float) -> bool:
        """Return whether it should have ended more than ``patience`` seconds ago."""
        silence = time.monotonic() - self._ended_at
        hangs = silence > self._seconds + patience
        if hangs and not self._told:
            name = getattr(self._work, "__qualname__", repr(self._work))
            LOG.error("%s hangs: it has not ended for %d seconds", name, silence)
        self._told = hangs
        return hangs

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self._ended_at = time.monotonic()
