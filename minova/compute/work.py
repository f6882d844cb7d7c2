"""The orders that a compute holds: one guest's in the order in which they came, different guests' side by side."""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Set
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from minova import failpoints
from minova.context import current_context, working_for
from minova.exception import HostUnusable, MigrationAborted, MinovaError
from minova.objects import Fault, HeldOrder, Order, Outcome, Result, Task, utcnow

LOG = logging.getLogger(__name__)

_REMEMBERED_ACTIONS = 10_000
_MIGRATION_THREADS = 256


class Detached(Exception):
    """The service stops while its hypervisor goes on with a job: whoever runs next will join it."""


class Job:
    """One order in hand, with the context in which it came.

    A newer order for the same step replaces ``order`` while the work goes on.
    """

    def __init__(self, order: Order, work: Callable[["Job"], dict[str, Any]], pool: Executor) -> None:
        self.order = order
        self.work = work
        self.pool = pool
        self.ctxt = current_context()
        self.received_at: datetime = utcnow()
        self.cancelled = threading.Event()


class WorkQueue:
    """Runs orders, and hands their outcomes to ``deliver``. Nothing runs before :meth:`resume`."""

    def __init__(self, host: str, threads: int, deliver: Callable[[Outcome], None]) -> None:
        """Work on up to ``threads`` guests at once; live migrations, which mostly wait, have threads of their own."""
        self._host = host
        self._deliver = deliver
        self._lock = threading.Lock()
        self._queues: dict[str, deque[Job]] = {}
        self._held: set[str] = set()
        self._watches: list[set[str]] = []
        self._newest: OrderedDict[str, int] = OrderedDict()
        self._paused = True
        self._stopped = False
        self._fenced = False
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="work")
        self._migrations = ThreadPoolExecutor(_MIGRATION_THREADS, thread_name_prefix="migration")

    def submit(self, order: Order, work: Callable[[Job], dict[str, Any]], *, migration: bool = False) -> None:
        """Take an order, and return at once. What is stale, doubled or too late is dropped.

        :param work: does it, and returns JSON types for the outcome.
        """
        job = Job(order, work, self._migrations if migration else self._pool)
        with self._lock:
            if not self._is_news(order) or self._adopted(order):
                return
            queue = self._queues.setdefault(order.instance_uuid, deque())
            queue.append(job)
            for touched in self._watches:
                touched.add(order.instance_uuid)
            if len(queue) == 1:
                self._start_next(order.instance_uuid)

    def resume(self) -> None:
        """Begin to work on what was taken so far."""
        with self._lock:
            if self._paused and not self._stopped:
                self._paused = False
                for uuid in self._queues:
                    self._start_next(uuid)

    @contextmanager
    def watched(self) -> Iterator[Set[str]]:
        """Note the guests for which orders come in from now on: what others know of them is out of date."""
        touched: set[str] = set()
        with self._lock:
            self._watches.append(touched)
        try:
            yield touched
        finally:
            with self._lock:
                self._watches = [each for each in self._watches if each is not touched]

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

    def fence(self, fenced: bool) -> None:
        """Refuse all work from now on, or no longer."""
        self._fenced = fenced

    def orders(self) -> list[tuple[str, int]]:
        """Return (action id, sequence) of all orders in hand."""
        with self._lock:
            return [(job.order.action_id, job.order.sequence) for queue in self._queues.values() for job in queue]

    def tasks(self) -> list[Task]:
        """Return what is being done now, and since when it waits or runs."""
        with self._lock:
            jobs = [queue[0] for queue in self._queues.values()]
        return [Task(what=job.order.step, subject=job.order.instance_uuid, since=job.received_at) for job in jobs]

    def held_for(self, instance_uuid: str) -> list[HeldOrder]:
        """Return the orders in hand for a guest; the first is in work, unless all work waits."""
        with self._lock:
            return [_held(job) for job in self._queues.get(instance_uuid, ())]

    def current(self, instance_uuid: str) -> Job | None:
        """Return the job that is in work for a guest."""
        with self._lock:
            queue = self._queues.get(instance_uuid)
            return queue[0] if queue else None

    def stop(self) -> None:
        """Finish what runs; what has not begun is left to be sent again."""
        with self._lock:
            self._paused = self._stopped = True
        self._pool.shutdown(wait=True)
        self._migrations.shutdown(wait=True)

    def _is_news(self, order: Order) -> bool:
        newest = self._newest.get(order.action_id, 0)
        if order.sequence <= newest:
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
            if (job.order.action_id, job.order.step) == (order.action_id, order.step):
                job.order = order
                return True
        return False

    def _start_next(self, instance_uuid: str) -> None:
        queue = self._queues.get(instance_uuid)
        if queue and not self._paused and instance_uuid not in self._held:
            queue[0].pool.submit(self._run, queue[0])

    def _run(self, job: Job) -> None:
        if self._stopped:
            # It has waited for a thread until now.
            return
        with working_for(job.ctxt):
            self._work(job)

    def _work(self, job: Job) -> None:
        started = utcnow()
        failpoints.before("work", job.order.step)
        try:
            result, data, fault = self._attempt(job)
        except Detached:
            return
        failpoints.after("work", job.order.step)
        finished = utcnow()
        LOG.info("Action %s: %s of %s %s", job.order.action_id, job.order.step, job.order.instance_uuid, result)
        self._finish(job)
        self._deliver(
            Outcome(
                order=job.order,
                host=self._host,
                result=result,
                received_at=job.received_at,
                started_at=started,
                finished_at=finished,
                data=data,
                fault=fault,
            )
        )

    def _attempt(self, job: Job) -> tuple[Result, dict[str, Any], Fault | None]:
        try:
            if self._fenced:
                raise HostUnusable(host=self._host, reason="it is forced down")
            return Result.SUCCEEDED, job.work(job), None
        except Detached:
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
            queue = self._queues[job.order.instance_uuid]
            queue.popleft()
            if not queue:
                del self._queues[job.order.instance_uuid]
            self._start_next(job.order.instance_uuid)


def _held(job: Job) -> HeldOrder:
    order = job.order
    return HeldOrder(
        action_id=order.action_id,
        step=order.step,
        sequence=order.sequence,
        received_at=job.received_at,
        done=False,
    )
