"""The orders that a compute holds: one guest's in the order in which they came, different guests' side by side."""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from minova import failpoints
from minova.compute.lease import HostLease
from minova.context import current_context, working_for
from minova.exception import MigrationAborted, MinovaError
from minova.objects import Fault, HeldOrder, Order, Outcome, Result, Task, utcnow

LOG = logging.getLogger(__name__)

_REMEMBERED_ACTIONS = 10_000
_REMEMBERED_OUTCOMES = 1_000
_MIGRATION_THREADS = 256

_CLOCKS_DIFFER = timedelta(seconds=5)
"""How far ahead a conductor's clock may be and be believed."""


class Lane(Enum):
    """Which threads do an order: those that may be held up for long have their own, and hold up only their like."""

    WORK = "work"
    """What a hypervisor does at once, or in as long as a guest takes to shut down."""
    MAKING = "making"
    """What may have to wait for an image."""
    MIGRATION = "migration"
    """What mostly waits; there is a thread for each."""


class Detached(Exception):
    """The service stops while its hypervisor goes on with a job: whoever runs next will join it."""


class LetGo(Exception):
    """The order is not worth beginning any more: if it is still wanted, it will be sent again."""


class Job:
    """One order in hand, with the context in which it came.

    A newer order for the same visit of a step replaces ``order`` while the work goes on.

    :ivar in_pool: it has a thread, or waits for one.
    """

    def __init__(self, order: Order, work: Callable[["Job"], dict[str, Any]], lane: Lane, lease: HostLease) -> None:
        self.order = order
        self.work = work
        self.lane = lane
        self.in_pool = False
        self.ctxt = current_context()
        self.received_at: datetime = utcnow()
        self.cancelled = threading.Event()
        self._lease = lease
        self._lock = threading.Lock()
        self._begun = self._let_go = False
        self._confirmed_at: float | None = None

    @property
    def has_begun(self) -> bool:
        """Whether its work goes on, whatever becomes of the lease of the host."""
        return self._begun

    def begin(self) -> bool:
        """Return whether the work may begin now; from then on nothing calls it back.

        :raises LetGo: it never may.
        """
        with self._lock:
            if not self._begun:
                self._require_worth()
                self._begun = self._lease.holds
            return self._begun

    def require_worth(self) -> None:
        """Check that it may still begin some time. :raises LetGo: it never may."""
        with self._lock:
            if not self._begun:
                self._require_worth()

    def let_go(self) -> bool:
        """Give it up, unless it has begun; return whether it never will."""
        with self._lock:
            self._let_go = not self._begun
            return self._let_go

    def confirm(self, made_at: float) -> None:
        """Note that conductors have heard in time, by what was made at ``made_at``, that it is in hand here."""
        with self._lock:
            if not self._is_late():
                self._confirmed_at = made_at

    def _require_worth(self) -> None:
        if self._let_go or self._is_late():
            raise LetGo

    def _is_late(self) -> bool:
        """Return whether conductors may have given it up for lack of news."""
        if utcnow() <= self.order.deadline:
            return False
        patience = (self.order.deadline - self.order.sent_at).total_seconds()
        return self._confirmed_at is None or self._lease.now() - self._confirmed_at > patience


class WorkQueue:
    """Runs orders, and hands their outcomes to ``deliver``. Nothing is begun while the host has no lease."""

    def __init__(self, host: str, threads: int, lease: HostLease, deliver: Callable[[Outcome], None]) -> None:
        """Work on up to ``threads`` guests at once, and on as many that are being made; migrations come besides."""
        self._host = host
        self._lease = lease
        self._deliver = deliver
        self._lock = threading.Lock()
        self._queues: dict[str, deque[Job]] = {}
        self._held: set[str] = set()
        self._watches: list[list[Order]] = []
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._outcomes: OrderedDict[str, Outcome] = OrderedDict()
        self._void_before: datetime | None = None
        self._stopped = False
        sizes = {Lane.WORK: threads, Lane.MAKING: threads, Lane.MIGRATION: _MIGRATION_THREADS}
        self._pools = {lane: ThreadPoolExecutor(size, thread_name_prefix=lane.value) for lane, size in sizes.items()}

    def submit(self, order: Order, work: Callable[[Job], dict[str, Any]], lane: Lane = Lane.WORK) -> None:
        """Take an order, and return at once. What is stale, doubled or too late is dropped.

        :param work: does it, and returns JSON types for the outcome; that of a migration waits, and then has to ask
            :meth:`Job.begin` itself.
        """
        job = Job(order, work, lane, self._lease)
        with self._lock:
            if not self._is_news(order) or self._adopted(order):
                return
            self._queues.setdefault(order.instance_uuid, deque()).append(job)
            for came_in in self._watches:
                came_in.append(order)
            self._start_next(order.instance_uuid)

    def resume(self) -> None:
        """Begin to work on what was taken while the host had no lease, now that it has one."""
        with self._lock:
            self._start_all()

    def let_go(self, sent_before: datetime | None = None) -> list[tuple[str, int]]:
        """Drop the orders that have not begun; given a time, only those that were sent before it, whenever they come.

        Nobody can tell how many of them are still wanted: those are sent again. Return what is left, as
        :meth:`orders` does, without what comes in just after.
        """
        with self._lock:
            self._void_before = _not_ahead(sent_before) if sent_before else self._void_before
            self._let_go(lambda order: sent_before is None or self.is_void(order))
            return self._in_hand()

    def drop(self, actions: Collection[str]) -> None:
        """Drop the orders of these actions, which are over, but for what has begun."""
        with self._lock:
            self._let_go(lambda order: order.action_id in actions)
            self._start_all()

    def confirm(self, orders: Collection[tuple[str, int]], made_at: float) -> None:
        """Note that conductors know of these orders, (action id, sequence), by a report made at ``made_at``."""
        with self._lock:
            for job in [job for queue in self._queues.values() for job in queue]:
                if (job.order.action_id, job.order.sequence) in orders:
                    job.confirm(made_at)

    def is_void(self, order: Order) -> bool:
        """Return whether an order was sent before the host was heard again after its lease had run out."""
        return self._void_before is not None and order.sent_at < self._void_before

    @contextmanager
    def watched(self) -> Iterator[Sequence[Order]]:
        """Note the orders that come in from now on: what others know of their guests may be out of date."""
        came_in: list[Order] = []
        with self._lock:
            self._watches.append(came_in)
        try:
            yield came_in
        finally:
            with self._lock:
                self._watches = [each for each in self._watches if each is not came_in]

    @contextmanager
    def held(self, instance_uuid: str) -> Iterator[bool]:
        """Keep a guest's orders waiting, if none is in hand already; say whether that is so."""
        with self._lock:
            idle = instance_uuid not in self._queues and instance_uuid not in self._held
            if idle:
                self._held.add(instance_uuid)
        try:
            yield idle
        finally:
            if idle:
                with self._lock:
                    self._held.discard(instance_uuid)
                    self._start_next(instance_uuid)

    def orders(self, *, begun: bool = False) -> list[tuple[str, int]]:
        """Return (action id, sequence) of all orders in hand, or only of those that have ``begun``."""
        with self._lock:
            return self._in_hand(begun)

    def tasks(self) -> list[Task]:
        """Return what is being done now, and since when it waits or runs."""
        with self._lock:
            jobs = [queue[0] for queue in self._queues.values()]
        return [Task(what=job.order.step, subject=job.order.instance_uuid, since=job.received_at) for job in jobs]

    def held_for(self, instance_uuid: str) -> list[HeldOrder]:
        """Return the orders in hand for a guest; the first is in work, unless all work waits."""
        with self._lock:
            jobs = self._queues.get(instance_uuid, ())
            return [HeldOrder.of(job.order, job.received_at, done=False) for job in jobs]

    def current(self, instance_uuid: str) -> Job | None:
        """Return the job that is in work for a guest."""
        with self._lock:
            queue = self._queues.get(instance_uuid)
            return queue[0] if queue else None

    def stop(self) -> None:
        """Finish what runs; what has not begun is left to be sent again."""
        with self._lock:
            self._stopped = True
        for pool in self._pools.values():
            pool.shutdown(wait=True)

    def _let_go(self, unwanted: Callable[[Order], bool]) -> None:
        for job in [job for queue in self._queues.values() for job in queue]:
            if unwanted(job.order) and job.let_go():
                LOG.info("Order %s of action %s is let go of", job.order.step, job.order.action_id)
                self._remove(job)

    def _in_hand(self, begun: bool = False) -> list[tuple[str, int]]:
        jobs = [job for queue in self._queues.values() for job in queue]
        return [(job.order.action_id, job.order.sequence) for job in jobs if job.has_begun or not begun]

    def _is_news(self, order: Order) -> bool:
        newest = self._newest.get(order.action_id, 0)
        if order.sequence <= newest or self.is_void(order):
            LOG.info("Order %s of action %s is stale, and dropped", order.step, order.action_id)
            return False
        if utcnow() > order.deadline:
            LOG.warning("Order %s of action %s came too late, and is dropped", order.step, order.action_id)
            return False
        self._newest[order.action_id] = order.sequence
        self._newest.move_to_end(order.action_id)
        if len(self._newest) > _REMEMBERED_ACTIONS:
            self._newest.popitem(last=False)
        return True

    def _adopted(self, order: Order) -> bool:
        """Let a job that is in hand already answer for its newer order; return whether there is one."""
        for job in self._queues.get(order.instance_uuid, ()):
            if _is_again(order, job.order):
                job.order = order
                return True
        return False

    def _start_all(self) -> None:
        for uuid in self._queues:
            self._start_next(uuid)

    def _start_next(self, instance_uuid: str) -> None:
        queue = self._queues.get(instance_uuid)
        if not queue or queue[0].in_pool or instance_uuid in self._held:
            return
        if self._lease.holds and not self._stopped:
            queue[0].in_pool = True
            self._pools[queue[0].lane].submit(self._run, queue[0])

    def _run(self, job: Job) -> None:
        with working_for(job.ctxt):
            try:
                if self._may_begin(job):
                    self._work(job)
            except LetGo:
                LOG.warning(
                    "Order %s of action %s is not worth beginning any more, and dropped",
                    job.order.step,
                    job.order.action_id,
                )
                self._finish(job)

    def _may_begin(self, job: Job) -> bool:
        """Return whether a job that has its thread may use it; one that may not waits on. :raises LetGo:"""
        with self._lock:
            if not self._stopped:
                job.in_pool = self._lease.holds if job.lane is Lane.MIGRATION else job.begin()
            return job.in_pool and not self._stopped

    def _work(self, job: Job) -> None:
        known = self._known(job.order)
        if known is not None:
            LOG.info("Order %s of action %s was done already: this is told", job.order.step, job.order.action_id)
        try:
            outcome = known or self._carry_out(job)
        except Detached:
            return
        self._deliver(self._conclude(job, outcome))

    def _known(self, order: Order) -> Outcome | None:
        """Return the outcome of an order that was carried out before: whoever sends it again has not heard of that."""
        with self._lock:
            outcome = self._outcomes.get(order.action_id)
            return outcome if outcome is not None and _is_again(order, outcome.order) else None

    def _carry_out(self, job: Job) -> Outcome:
        started = utcnow()
        failpoints.before("work", job.order.step)
        result, data, fault = self._attempt(job)
        failpoints.after("work", job.order.step)
        LOG.info("Action %s: %s of %s %s", job.order.action_id, job.order.step, job.order.instance_uuid, result)
        return Outcome(
            order=job.order,
            host=self._host,
            result=result,
            received_at=job.received_at,
            started_at=started,
            finished_at=utcnow(),
            data=data,
            fault=fault,
        )

    def _conclude(self, job: Job, outcome: Outcome) -> Outcome:
        """Put the outcome in the place of its job, so that no newer order finds neither; return it for the newest."""
        with self._lock:
            outcome = replace(outcome, order=job.order)
            self._outcomes[job.order.action_id] = outcome
            self._outcomes.move_to_end(job.order.action_id)
            if len(self._outcomes) > _REMEMBERED_OUTCOMES:
                self._outcomes.popitem(last=False)
            self._remove(job)
            self._start_next(job.order.instance_uuid)
        return outcome

    def _attempt(self, job: Job) -> tuple[Result, dict[str, Any], Fault | None]:
        try:
            return Result.SUCCEEDED, job.work(job), None
        except (Detached, LetGo):
            raise
        except MinovaError as error:
            LOG.info("%s of %s: %s", job.order.step, job.order.instance_uuid, error.message)
            result = Result.CANCELLED if isinstance(error, MigrationAborted) else Result.FAILED
            return result, {}, Fault.of(error, f"compute:{self._host}")
        except Exception as error:
            LOG.exception("%s of %s failed", job.order.step, job.order.instance_uuid)
            return Result.FAILED, {}, Fault.of(error, f"compute:{self._host}")

    def _finish(self, job: Job) -> None:
        """Take a job off its guest's queue, and start the next."""
        with self._lock:
            self._remove(job)
            self._start_next(job.order.instance_uuid)

    def _remove(self, job: Job) -> None:
        queue = self._queues.get(job.order.instance_uuid)
        if queue is not None and job in queue:
            queue.remove(job)
            if not queue:
                del self._queues[job.order.instance_uuid]


def _is_again(order: Order, before: Order) -> bool:
    """Return whether an order is one that came before, sent again."""
    return (order.action_id, order.visit) == (before.action_id, before.visit)


def _not_ahead(decided_at: datetime) -> datetime:
    """Return when a conductor decided; if its clock is far ahead, by ours, or what others send is void for as long."""
    now = utcnow()
    ahead = decided_at - now
    if ahead <= _CLOCKS_DIFFER:
        return decided_at
    LOG.warning("The clock of a conductor is %d s ahead of this host's: have NTP set both", ahead.total_seconds())
    return now
