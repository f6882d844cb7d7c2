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
        self, worker_id: int, conf: cfg.ConfigOpts, prog: str, build: Build, master: Master, pulse: Pulse
    ) -> None:
        """Build the service; threads and connections do not survive a fork, so everything is made here."""
        super().__init__(worker_id)  # type: ignore[arg-type]
        self._conf = conf
        self._pulse = pulse
        self._service = build(conf, master)
        meditation.answer(conf, prog, self._service.describe)
        self._service.watch(BEAT_SECONDS, self._beat)
        self._service.watch(BEAT_SECONDS, self._follow)

    def run(self) -> None:
        """Serve until told to stop."""
        self._service.start()
        self._service.wait()

    def terminate(self) -> None:
        """Drain and stop."""
        self._service.stop()

    def reload(self) -> None:
        """Leave it to the timer: a signal that comes while another is being answered never gets here."""

    def _beat(self) -> None:
        if self._service.lives():
            self._pulse.beat(self.worker_id, self._service.is_ready())

    def _follow(self) -> None:
        self._pulse.follow(self.worker_id, self._read_again)

    def _read_again(self) -> None:
        _reload(self._conf)
        self._service.reset()


def serve(conf: cfg.ConfigOpts, prog: str, build: Build, workers: int = 1) -> Any:
    """Run a service in worker processes until it is told to stop.

    SIGTERM drains and stops; SIGINT stops at once, which loses nothing; SIGHUP to the master reloads the configuration
    and resolves the pins again; SIGUSR2 makes the process that gets it write a report. A worker that dies is started
    again. oslo.service's own launcher is not used because its threading backend answers SIGHUP with a restart and never
    calls ``reset``; cotyledon is what it is built on.
    """
    notifier = Notifier.take(os.environ)
    pulse = Pulse(workers)
    manager = cotyledon.ServiceManager(graceful_shutdown_timeout=conf.graceful_shutdown_timeout)
    master = Master(started_at=utcnow(), workers=workers)
    manager.add(Worker, workers, args=(conf, prog, build, master, pulse))
    # The master first: a worker that is started later gets its configuration.
    manager.register_hooks(on_reload=lambda: _reload(conf))
    manager.register_hooks(
        on_reload=pulse.ask_for_reload,
        on_dead_worker=lambda _service_id, worker_id, _exit_code: pulse.start_again(worker_id),
    )
    if notifier is not None:
        vigil = Vigil(notifier, pulse)
        manager.register_hooks(on_terminate=vigil.stop, on_reload=vigil.reload)
        vigil.start()
    return manager.run()


def _reload(conf: cfg.ConfigOpts) -> None:
    try:
        load.reload(conf)
    except ConfigurationError as error:
        LOG.error("The configuration stays as it was: %s", error.message)
