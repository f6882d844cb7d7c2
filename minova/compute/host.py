"""What a compute says of its host, and what it is told in answer."""

import logging
import threading
from collections.abc import Callable

import oslo_messaging

from minova.compute.rpcapi import HISTORY
from minova.compute.work import WorkQueue
from minova.conductor.rpcapi import ConductorAPI
from minova.context import service_context
from minova.exception import MinovaError
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

    def report(self) -> None:
        """Report once, as a heartbeat."""
        if self.accepted.is_set():
            self._report()

    def _report(self) -> None:
        try:
            with self._lock:
                # One at a time: a report has to be made after the answer to the one before it.
                self._obey(self._conductor.report_host(service_context(), self._make()))
        except (MinovaError, oslo_messaging.MessagingException):
            LOG.warning("No conductor took the report of this host")

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
        orders = tuple(self._orders())
        return HostReport(
            host=self._host,
            rpc_version=HISTORY.version,
            started_at=self._started_at,
            started=not self.accepted.is_set(),
            capacity=self._driver.capacity(),
            guests=self._driver.list_guests(),
            orders=orders,
        )

    def _obey(self, directive: HostDirective) -> None:
        if directive.fenced:
            self._work.fence(True)
        for uuid in filter(self._is_idle, directive.destroy):
            LOG.warning("Guest %s lives elsewhere or was deleted: destroying what is left of it here", uuid)
            self._driver.destroy(uuid)
        for uuid in filter(self._is_idle, directive.abort):
            LOG.warning("Guest %s migrates, but was given up: aborting that", uuid)
            self._driver.live_migration_abort(uuid)
        self._work.fence(directive.fenced)
        if not self.accepted.is_set():
            self.accepted.set()
            self._work.resume()

    def _is_idle(self, uuid: str) -> bool:
        return self._work.current(uuid) is None
