"""The life of a service: start, serve, drain, stop."""

import functools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import cotyledon
from futurist import periodics
from oslo_config import cfg
from oslo_messaging.rpc.server import RPCServer
from oslo_service import service

from minova.conf import load
from minova.context import FreshContextPool
from minova.exception import ConfigurationError

LOG = logging.getLogger(__name__)


RENEWALS_PER_LEASE = 3
"""How often a lease is renewed while it lasts: two renewals may be lost."""


class Service(service.ServiceBase):  # type: ignore[misc]  # oslo.service has no types
    """One service: an RPC server, timers, and what there is to do before and after."""

    def __init__(self, server: RPCServer) -> None:
        self._server = server
        self._serving = False
        self._timers: periodics.PeriodicWorker | None = None
        self._stopped = threading.Event()

    def timers(self) -> Sequence[tuple[float, Callable[[], None]]]:
        """Return (seconds, what to do) of everything that is done periodically, from the start on."""
        return ()

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
        works = [_periodic(seconds, work) for seconds, work in self.timers()]
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


class _Worker(cotyledon.Service):
    """One worker process."""

    name = "minova"

    def __init__(self, worker_id: int, conf: cfg.ConfigOpts, build: Callable[[cfg.ConfigOpts], Service]) -> None:
        super().__init__(worker_id)  # type: ignore[arg-type]
        self._conf = conf
        # Threads and connections do not survive a fork: everything is made here, in the child.
        self._service = build(conf)

    def run(self) -> None:
        self._service.start()
        self._service.wait()

    def terminate(self) -> None:
        self._service.stop()

    def reload(self) -> None:
        try:
            load.reload(self._conf)
        except ConfigurationError:
            LOG.error("The configuration stays as it was")
        self._service.reset()


def serve(conf: cfg.ConfigOpts, build: Callable[[cfg.ConfigOpts], Service], workers: int = 1) -> Any:
    """Run a service in worker processes until it is told to stop.

    SIGTERM drains and stops; SIGINT stops at once, which loses nothing; SIGHUP reloads the configuration and resolves
    the pins again. A worker that dies is started again. oslo.service's own launcher is not used because its threading
    backend answers SIGHUP with a restart and never calls ``reset``; cotyledon is what it is built on.
    """
    manager = cotyledon.ServiceManager(graceful_shutdown_timeout=conf.graceful_shutdown_timeout)
    manager.add(_Worker, workers, args=(conf, build))
    return manager.run()
