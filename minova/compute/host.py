"""What a compute says of its host, and what it is told in answer."""

import logging
import threading
from collections.abc import Callable, Set

import oslo_messaging

from minova.compute.rpcapi import HISTORY
from minova.compute.work import WorkQueue
from minova.conductor.rpcapi import ConductorAPI
from minova.context import service_context
from minova.exception import DriverError, MinovaError
from minova.objects import HostDirective, HostReport, utcnow
from minova.rpc.control import ControlAPI
from minova.virt.driver import ComputeDriver

LOG = logging.getLogger(__name__)


class HostReporter:
    """Reports the host to a conductor: at the start, then periodically, and when something has changed."""

    def __init__(
        self,
        host: str,
        driver: ComputeDriver,
        conductor: ConductorAPI,
        control: ControlAPI,
        work: WorkQueue,
        orders: Callable[[], list[tuple[str, int]]],
    ) -> None:
        """Report ``host``; ``control`` is the conductors', and ``orders`` says which orders the host holds."""
        self._host = host
        self._driver = driver
        self._conductor = conductor
        self._control = control
        self._work = work
        self._orders = orders
        self._started_at = utcnow()
        self._lock = threading.Lock()
        self.accepted = threading.Event()
        """Set once a conductor has taken the first report."""

    def introduce(self) -> None:
        """Make the first report as soon as a conductor is there, and nothing once it was taken.

        Before it is taken, nothing is worked on: guests that were evacuated meanwhile have to go first.
        """
        if self.accepted.is_set():
            return
        try:
            # What is sent before any conductor has made its queue is lost: a ping costs less patience than a report.
            self._control.ping(service_context(), None)
        except (MinovaError, oslo_messaging.MessagingException) as error:
            LOG.info("Waiting for a conductor: %s", error)
        else:
            self._report()

    def report(self) -> bool:
        """Report once, as a heartbeat; return whether a conductor is there and took it."""
        return self.accepted.is_set() and self._report()

    def _report(self) -> bool:
        # One at a time: a report has to be made after the answer to the one before it.
        with self._lock, self._work.watched() as touched:
            try:
                directive = self._conductor.report_host(service_context(), self._make())
            except DriverError:
                LOG.warning("The hypervisor does not answer, so there is nothing to report")
            except (MinovaError, oslo_messaging.MessagingException):
                LOG.warning("No conductor took the report of this host")
            else:
                self._obey(directive, touched)
                return True
        return False

    def renew(self) -> None:
        """Tell the conductors that the orders in hand are being worked on."""
        orders = self._orders()
        if not orders:
            return
        try:
            self._conductor.renew_orders(service_context(), self._host, orders)
        except (MinovaError, oslo_messaging.MessagingException):
            LOG.warning("Orders were not renewed")

    def _make(self) -> HostReport:
        # The orders first: one that ends while the guests are listed counts as held, and is left alone.
        made_at, orders = utcnow(), tuple(self._orders())
        return HostReport(
            host=self._host,
            rpc_version=HISTORY.version,
            started_at=self._started_at,
            made_at=made_at,
            started=not self.accepted.is_set(),
            capacity=self._driver.capacity(),
            guests=self._driver.list_guests(),
            orders=orders,
        )

    def _obey(self, directive: HostDirective, touched: Set[str]) -> None:
        """Do what a conductor says; what it decided about guests in ``touched`` is out of date."""
        if directive.fenced:
            self._work.fence(True)
        for uuid in set(directive.destroy) - touched:
            self._clean_up(uuid, "lives elsewhere or was deleted: destroying it", self._driver.destroy)
        for uuid in set(directive.abort) - touched:
            self._clean_up(uuid, "migrates, but was given up: aborting that", self._driver.live_migration_abort)
        self._work.fence(directive.fenced)
        if not self.accepted.is_set():
            self.accepted.set()
            self._work.resume()

    def _clean_up(self, uuid: str, why: str, act: Callable[[str], None]) -> None:
        with self._work.held(uuid) as idle:
            if not idle:
                return
            LOG.warning("Guest %s %s", uuid, why)
            try:
                act(uuid)
            except DriverError:
                # One guest must not keep the host from its work: the next report brings it up again.
                LOG.warning("Guest %s could not be cleaned up yet", uuid)
