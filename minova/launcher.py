"""How a service becomes processes: a master, and workers that it starts, starts again, reloads and stops."""

import logging
import os
from collections.abc import Callable
from typing import Any

import cotyledon
from oslo_config import cfg

from minova import meditation
from minova.conf import load
from minova.exception import ConfigurationError
from minova.objects import utcnow
from minova.service import Master, Service
from minova.systemd import BEAT_SECONDS, Notifier, Pulse, Vigil

LOG = logging.getLogger(__name__)

Build = Callable[[cfg.ConfigOpts, Master], Service]


class Worker(cotyledon.Service):
    """One worker process: a service of its own, which shares nothing with the other workers but its queue."""

    name = "minova"

    def __init__(
        self, worker_id: int, conf: cfg.ConfigOpts, prog: str, build: Build, master: Master, pulse: Pulse | None
    ) -> None:
        """Build the service; threads and connections do not survive a fork, so everything is made here."""
        super().__init__(worker_id)  # type: ignore[arg-type]
        self._conf = conf
        self._pulse = pulse
        self._service = build(conf, master)
        meditation.answer(conf, prog, self._service.describe)
        if pulse is not None:
            self._service.watch(BEAT_SECONDS, lambda: pulse.beat(worker_id, self._service.is_ready()))

    def run(self) -> None:
        """Serve until told to stop."""
        self._service.start()
        self._service.wait()

    def terminate(self) -> None:
        """Drain and stop."""
        self._service.stop()

    def reload(self) -> None:
        """Read the configuration again."""
        _reload(self._conf)
        self._service.reset()
        if self._pulse is not None:
            self._pulse.reloaded(self.worker_id)


def serve(conf: cfg.ConfigOpts, prog: str, build: Build, workers: int = 1) -> Any:
    """Run a service in worker processes until it is told to stop.

    SIGTERM drains and stops; SIGINT stops at once, which loses nothing; SIGHUP reloads the configuration and resolves
    the pins again; SIGUSR2 makes the process that gets it write a report. A worker that dies is started again.
    oslo.service's own launcher is not used because its threading backend answers SIGHUP with a restart and never calls
    ``reset``; cotyledon is what it is built on.
    """
    notifier = Notifier.take(os.environ)
    vigil = Vigil(notifier, Pulse(workers)) if notifier is not None else None
    manager = cotyledon.ServiceManager(graceful_shutdown_timeout=conf.graceful_shutdown_timeout)
    master = Master(started_at=utcnow(), workers=workers)
    manager.add(Worker, workers, args=(conf, prog, build, master, vigil.pulse if vigil else None))
    if vigil is not None:
        _tell_systemd(manager, vigil)
    # A worker that is started later gets the master's configuration.
    manager.register_hooks(on_reload=lambda: _reload(conf))
    return manager.run()


def _tell_systemd(manager: cotyledon.ServiceManager, vigil: Vigil) -> None:
    manager.register_hooks(
        on_terminate=vigil.stop,
        on_reload=vigil.reload,
        on_dead_worker=lambda _service_id, worker_id, _exit_code: vigil.pulse.start_again(worker_id),
    )
    vigil.start()


def _reload(conf: cfg.ConfigOpts) -> None:
    try:
        load.reload(conf)
    except ConfigurationError as error:
        LOG.error("The configuration stays as it was: %s", error.message)
