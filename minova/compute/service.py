"""minova-compute as a service: everything it consists of, put together."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import oslo_messaging
from oslo_config import cfg

from minova.compute.host import HostReporter
from minova.compute.lease import HostLease
from minova.compute.live_migrations import LiveMigrations
from minova.compute.manager import ComputeManager
from minova.compute.outbox import Outbox
from minova.compute.rpcapi import HISTORY, TOPIC
from minova.compute.work import WorkQueue
from minova.conductor import rpcapi as conductor_rpcapi
from minova.conductor.rpcapi import ConductorAPI
from minova.exception import MinovaError
from minova.rpc.control import ControlAPI, ControlEndpoint
from minova.rpc.rollcall import RollCallAPI
from minova.rpc.server import get_server
from minova.rpc.versions import Pins
from minova.service import RENEWALS_PER_LEASE, Service
from minova.virt.driver import Closable, ComputeDriver, GuestWatcher, ImageKeeper

LOG = logging.getLogger(__name__)

BINARY = "minova-compute"
_INTRODUCTION_SECONDS = 0.5


class ComputeService(Service):
    """One compute: the service of one host."""

    PATIENCE = 3600.0
    """While the broker is away its timers wait for that, and what the host is working on must not be cut off."""

    def __init__(
        self, conf: cfg.ConfigOpts, transport: oslo_messaging.Transport, host: str, driver: ComputeDriver
    ) -> None:
        """Put the compute of ``host`` together."""
        self._conf = conf
        self._host = host
        self._driver = driver
        self._unwatch: Callable[[], None] | None = None
        conductors = ControlAPI(conf, transport, conductor_rpcapi.TOPIC)
        self._pins = Pins(conf, conductors.lowest)
        conductor = ConductorAPI(conf, transport, self._pins)
        self._outbox = Outbox(conductor)
        self._lease = HostLease(conf)
        self._work = WorkQueue(host, conf.compute.max_concurrent_operations, self._lease, self._outbox.deliver)
        self._migrations = LiveMigrations(conf, driver, conductor)
        self.reporter = HostReporter(
            host,
            driver,
            conductor,
            conductors,
            self._lease,
            self._work,
            self._outbox.orders,
            self._resume,
            conf.service_down_time,
        )
        manager = ComputeManager(driver, self._work, self._migrations, self._outbox)
        roll = RollCallAPI(conf, transport)
        control = ControlEndpoint(BINARY, host, HISTORY.version, self._pins, self._work.tasks, roll)
        super().__init__(get_server(transport, TOPIC, host, [manager, control]))

    def timers(self) -> Sequence[tuple[float, Callable[[], None]]]:
        """Return what keeps the conductors informed, and the host tidy."""
        tidy: list[tuple[float, Callable[[], None]]] = []
        if isinstance(self._driver, ImageKeeper):
            tidy.append((self._conf.image_cache.manager_interval, self._driver.manage_image_cache))
        return (
            (_INTRODUCTION_SECONDS, self.reporter.introduce),
            (self._conf.report_interval, self._report),
            (self._conf.conductor.lease / RENEWALS_PER_LEASE, self.reporter.renew),
            (self._conf.compute.report_retry_interval, self._outbox.retry),
            *tidy,
        )

    def announce(self) -> None:
        """Report from now on at once what guests do by themselves, if the hypervisor tells."""
        if isinstance(self._driver, GuestWatcher):
            self._unwatch = self._driver.watch_guests(self._report_change)

    def close(self) -> None:
        """Listen to the hypervisor no more, and let go of it."""
        if self._unwatch is not None:
            self._unwatch()
        if isinstance(self._driver, Closable):
            self._driver.close()

    def is_ready(self) -> bool:
        """Return whether a conductor knows of the host: before that, nothing is worked on."""
        return self.reporter.accepted.is_set()

    def describe(self) -> Mapping[str, Any]:
        """Return what the service is doing now."""
        doing, options = self._work.tasks(), self._conf.compute
        return {
            "name": f"{BINARY} on {self._host}",
            "known to a conductor": self.is_ready(),
            "may begin work": self._lease.holds,
            "doing": [f"{task.what} {task.subject} since {task.since.isoformat()}" for task in doing] or ["nothing"],
            "pins": [f"{pin.topic} {pin.version}: {pin.reason}" for pin in self._pins.in_force()] or ["none yet"],
            "pools": {
                "operations": f"{options.max_concurrent_operations} threads",
                "guests that are being made": f"{options.max_concurrent_operations} threads",
                "live migrations": f"{options.max_concurrent_live_migrations} at the same time",
                "RPC": f"{self._conf.executor_thread_pool_size} threads",
            },
            "orders in hand": len(self._work.orders()),
            "outcomes to be delivered": len(self._outbox.orders()),
        }

    def drain(self) -> None:
        """Finish what runs, let go of live migrations (the hypervisor goes on with them), report what is done."""
        self._migrations.stop()
        self._work.stop()
        self._outbox.retry()

    def reset(self) -> None:
        """Resolve the pins again."""
        self._pins.reset()

    def _report(self) -> None:
        """Report the host, and lower the pins if an older conductor has come: asked is one that has just answered."""
        if not self.reporter.report():
            return
        try:
            self._pins.sink()
        except (MinovaError, oslo_messaging.MessagingException) as error:
            LOG.warning("The pins were not looked at: %s", error)

    def _report_change(self) -> None:
        # The first after an operation on a guest is no evidence yet: it may have been made before that had its effect.
        if self.reporter.report():
            self.reporter.report()

    def _resume(self) -> None:
        self._work.resume()
        self._migrations.resume()
