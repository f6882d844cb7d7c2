"""What a compute says of its host, and what it is told in answer."""

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

import oslo_messaging

from minova.compute.lease import HostLease
from minova.compute.rpcapi import HISTORY
from minova.compute.work import WorkQueue
from minova.conductor.rpcapi import ConductorAPI
from minova.context import service_context
from minova.exception import DriverError, MinovaError
from minova.objects import HostDirective, HostReport, Order, utcnow
from minova.rpc.control import ControlAPI
from minova.virt.driver import ComputeDriver

LOG = logging.getLogger(__name__)


class HostReporter:
    """Reports the host to a conductor: at the start, then periodically, and at once after it could not for too long."""

    def __init__(
        self,
        host: str,
        driver: ComputeDriver,
        conductor: ConductorAPI,
        control: ControlAPI,
        lease: HostLease,
        work: WorkQueue,
        done: Callable[[], list[tuple[str, int]]],
        resume: Callable[[], None],
        patience: float,
    ) -> None:
        """Report ``host``, and renew its lease by that.

        :param control: the conductors'.
        :param done: says which orders are done that no conductor knows to be done yet.
        :param resume: called whenever the lease was renewed: what waited for that may begin.
        :param patience: for how many seconds the hypervisor may be silent before what it works on counts as lost.
        """
        self._host = host
        self._driver = driver
        self._conductor = conductor
        self._control = control
        self._lease = lease
        self._work = work
        self._done = done
        self._resume = resume
        self._patience = patience
        self._driver_seen_at = lease.now()
        self._started_at = self._made_at = utcnow()
        self._lock = threading.Lock()
        self._fenced = False
        self.accepted = threading.Event()
        """Set once a conductor has taken the first report."""

    def introduce(self) -> None:
        """Report as soon as a conductor is there, if the host has no lease: at the start, or as nobody heard it since.

        Before that nothing is begun: guests that were evacuated meanwhile have to go first. A host that is fenced has
        no lease either, and leaves it to its heartbeats unless it is sent an order: it may be fenced no longer.
        """
        if self._lease.holds or (self._fenced and not self._work.orders()):
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
        return (self._lease.holds or self._fenced) and self._report()

    def _report(self) -> bool:
        # One at a time: a report has to be made after the answer to the one before it.
        with self._lock, self._work.watched() as came_in:
            made_at, returns = self._lease.now(), not self._lease.holds
            try:
                report = self._make(returns)
                directive = self._conductor.report_host(service_context(), report)
            except DriverError:
                LOG.warning("The hypervisor does not answer, so there is nothing to report")
            except (MinovaError, oslo_messaging.MessagingException):
                LOG.warning("No conductor took the report of this host")
            else:
                self._fenced = directive.fenced
                if self._fenced:
                    self._lease.revoke()
                self._obey(directive, came_in)
                self._work.confirm(frozenset(report.orders), made_at)
                self.accepted.set()
                # One that ran out meanwhile is left to a report that says so: what was let go of is sent again then.
                if not self._fenced and (returns or self._lease.holds):
                    self._lease.renew(made_at)
                    self._resume()
                return True
        return False

    def renew(self) -> None:
        """Tell the conductors that the orders in hand are being worked on.

        Without a lease, only those that are begun: the others are about to be let go of, and nobody works on them. None
        if the hypervisor hangs: nobody could ever give them up.
        """
        hangs = self._lease.now() - self._driver_seen_at > self._patience
        in_hand = [] if hangs else self._work.orders(begun=not self._lease.holds)
        orders = [*in_hand, *self._done()]
        if not orders:
            return
        try:
            self._conductor.renew_orders(service_context(), self._host, orders)
        except (MinovaError, oslo_messaging.MessagingException):
            LOG.warning("Orders were not renewed")

    def _make(self, returns: bool) -> HostReport:
        # The orders first: one that ends while the guests are listed counts as held, and is left alone. A host that
        # returns keeps only what it has begun: what is not listed, and is still wanted, is sent again at once.
        in_hand = self._work.let_go() if returns else self._work.orders()
        orders = (*in_hand, *self._done())
        # Later than the one before, though the clock be set back: conductors tell by it which of two is newer.
        self._made_at = max(utcnow(), self._made_at + timedelta.resolution)
        capacity, guests = self._driver.capacity(), self._driver.list_guests()
        self._driver_seen_at = self._lease.now()
        return HostReport(
            host=self._host,
            rpc_version=HISTORY.version,
            started_at=self._started_at,
            made_at=self._made_at,
            started=returns,
            capacity=capacity,
            guests=guests,
            orders=orders,
        )

    def _obey(self, directive: HostDirective, came_in: Sequence[Order]) -> None:
        """Do what a conductor says; ``came_in`` is what came in since the report began to be made."""
        if directive.decided_at is not None and not self._lease.holds:
            # They have been underway for nobody knows how long, and keep no guest from what was decided since.
            self._work.let_go(directive.decided_at)
        self._work.drop(directive.over)
        for uuid in directive.destroy:
            self._clean_up(uuid, came_in, "lives elsewhere or was deleted: destroying it", self._driver.destroy)
        for uuid in directive.abort:
            why = "migrates, but was given up: aborting that"
            self._clean_up(uuid, came_in, why, self._driver.live_migration_abort)

    def _clean_up(self, uuid: str, came_in: Sequence[Order], why: str, act: Callable[[str], None]) -> None:
        with self._work.held(uuid) as idle:
            # Looked at only now: an order may have come in, and ended, while other guests were cleaned up.
            if not idle or any(order.instance_uuid == uuid and not self._work.is_void(order) for order in came_in):
                return
            LOG.warning("Guest %s %s", uuid, why)
            try:
                act(uuid)
            except DriverError:
                # One guest must not keep the host from its work: the next report brings it up again.
                LOG.warning("Guest %s could not be cleaned up yet", uuid)
