"""Runs actions: takes them in, carries out their steps, and takes what computes report of them.

What it keeps in memory is only what its threads are doing; all that matters is in the database, so that any conductor
can go on where another stopped.
"""

import contextlib
import functools
import logging
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import msgspec
import oslo_messaging
from oslo_db.exception import DBError
from sqlalchemy.orm import Session

from minova import failpoints
from minova.conductor import trace
from minova.conductor.machine import Machine
from minova.conductor.tasks import Services, Task
from minova.conductor.tasks.step import Kind
from minova.context import RequestContext, working_for
from minova.db import convert, models
from minova.db.queries import find_action, find_image, find_instance, migration_of
from minova.db.session import Database
from minova.exception import ActionUnknown, DatabaseError, MinovaError, NotCancellable, PeerSilent
from minova.objects import BootRequest, Fault, Hop, Outcome, Result, utcnow
from minova.objects import Task as Activity
from minova.states import OPEN_ACTION, OPERATIONS, ActionStatus, PowerState, Verb, VmState

LOG = logging.getLogger(__name__)

_CALLS = 256
"""How many computes are asked at the same time: one whose hypervisor hangs must not keep the others waiting."""


class Engine:
    """One conductor's share of the actions."""

    def __init__(self, database: Database, services: Services, host: str) -> None:
        """Work for the conductor on ``host``; no thread is started before there is work."""
        self.name = f"conductor:{host}"
        self.owner = f"{host}/{secrets.token_hex(4)}"
        self.machine = Machine(services, self.name, self.owner)
        self._database = database
        self._pools = {
            Kind.ORDER: ThreadPoolExecutor(services.conf.conductor.threads, thread_name_prefix="step"),
            Kind.CALL: ThreadPoolExecutor(_CALLS, thread_name_prefix="call"),
        }
        self._lock = threading.Lock()
        self._active: dict[str, Activity] = {}

    def boot(self, ctxt: RequestContext, request: BootRequest) -> str:
        """Submit the boot of a new instance and return the action's id; the request has been validated.

        :raises MinovaError: it is refused, and nothing has changed.
        """
        return self._submit(ctxt, functools.partial(self._begin_boot, ctxt=ctxt, request=request))

    def submit(self, ctxt: RequestContext, verb: Verb, reference: str, args: dict[str, Any]) -> str:
        """Submit an operation on the instance that ``reference`` (UUID or name) means; return the action's id.

        :raises MinovaError: it is refused, and nothing has changed.
        """
        begin = functools.partial(self._begin, ctxt=ctxt, verb=verb, reference=reference, args=args)
        return self._submit(ctxt, begin)

    def report(self, outcome: Outcome) -> None:
        """Take what a compute reports of an order; once this returns, it is stored. A stale report is dropped."""
        task = self._database.write(self._take_outcome, outcome)
        if task is None:
            LOG.info("Stale report of %s for action %s dropped", outcome.order.step, outcome.order.action_id)
        else:
            self.carry_on(task)

    def cancel(self, action_id: str) -> None:
        """Have an action undone: at once if it waits for something that can be stopped, else after its step.

        :raises NotCancellable: it ends by itself, has ended, or is past the point of no return.
        """
        task = self._database.write(self._request_cancel, action_id)
        if task is not None:
            self.abort(task)

    def abort(self, task: Task) -> None:
        """Ask whoever works on a cancelled action's step to stop; asked again while its progress comes in."""
        with working_for(task.ctxt):
            try:
                task.abort(task.step)
            except (MinovaError, oslo_messaging.MessagingException):
                LOG.warning("Action %s could not be aborted yet", task.action.id)

    def carry_on(self, task: Task) -> None:
        """Have one of the threads carry out the step that an action is at, unless it has ended."""
        action, step = task.action, task.current
        if action.status not in OPEN_ACTION or step is None:
            return
        activity = Activity(what=f"{action.verb} {step.name}", subject=action.id, since=utcnow())
        with self._lock:
            self._active[action.id] = activity
        # A pool that is being stopped takes nothing: the action stays listed, and is handed over with its lease.
        with contextlib.suppress(RuntimeError):
            self._pools[step.kind].submit(self._carry_out, task, activity)

    def activities(self) -> list[Activity]:
        """Return what the threads are doing."""
        with self._lock:
            return list(self._active.values())

    def active_actions(self) -> list[str]:
        """Return the ids of the actions that the threads are working on."""
        with self._lock:
            return list(self._active)

    def close(self) -> None:
        """Begin no more steps; what waits for a thread, or would, stays listed."""
        self._shut_down(wait=False)

    def stop(self) -> None:
        """Finish the steps that the threads are in; what waits for a thread stays listed, and is handed over."""
        self._shut_down(wait=True)

    def _shut_down(self, *, wait: bool) -> None:
        for pool in self._pools.values():
            pool.shutdown(wait=wait, cancel_futures=True)

    def _submit(self, ctxt: RequestContext, begin: Callable[[Session, str], Task]) -> str:
        """Begin an action, unless it has begun already: a message may come twice, and the answer to a commit get lost.

        :param begin: given the action's id.
        """
        action_id = ctxt.action_id or str(uuid4())

        def work(session: Session) -> Task:
            return self._begun(session, action_id) or begin(session, action_id)

        try:
            task = self._database.write(work)
        except DatabaseError:
            raise
        except MinovaError:
            # If the message came twice at once, its double may have been faster, and is what is in the way.
            begun = self._database.write(self._begun, action_id)
            if begun is None:
                raise
            task = begun
        LOG.info("Action %s: %s of instance %s", task.action.id, task.verb, task.instance.uuid)
        if task.action.owner == self.owner:
            self.carry_on(task)
        return action_id

    def _begun(self, session: Session, action_id: str) -> Task | None:
        action = session.get(models.Action, action_id)
        return self.machine.load(session, action) if action is not None else None

    def _begin_boot(self, session: Session, action_id: str, ctxt: RequestContext, request: BootRequest) -> Task:
        now = utcnow()
        row = models.Instance(
            uuid=str(uuid4()),
            name=request.name,
            vcpus=request.vcpus,
            memory_mb=request.memory_mb,
            disk_gb=request.disk_gb,
            vm_state=VmState.BUILDING,
            task_state=None,
            power_state=PowerState.NOSTATE,
            created_at=now,
            updated_at=now,
            network=request.network,
            user_data=request.user_data or None,
            ssh_keys=list(request.ssh_keys) or None,
        )
        if request.image is not None:
            row.image = msgspec.to_builtins(convert.image(find_image(session, request.image)))
        session.add(row)
        return self.machine.begin(session, action_id, ctxt, Verb.BOOT, row, {"destination": request.host})

    def _begin(
        self, session: Session, action_id: str, ctxt: RequestContext, verb: Verb, reference: str, args: dict[str, Any]
    ) -> Task:
        return self.machine.begin(session, action_id, ctxt, verb, find_instance(session, reference), args)

    def _take_outcome(self, session: Session, outcome: Outcome) -> Task | None:
        order = outcome.order
        action = session.get(models.Action, order.action_id)
        if action is None or action.status not in OPEN_ACTION or action.sequence != order.sequence:
            return None
        task = self.machine.load(session, action)
        trace.add_outcome(session, action, self.name, outcome)
        if "power_state" in outcome.data:
            task.row(session).power_state = _power_state(outcome.data["power_state"])
        if outcome.result is Result.SUCCEEDED:
            self.machine.succeed(session, task, outcome.data)
        else:
            fault = outcome.fault or Fault(code="Cancelled", message="cancelled", host=outcome.host)
            self.machine.fail(session, task, fault, cancelled=outcome.result is Result.CANCELLED)
        return task

    def _request_cancel(self, session: Session, action_id: str) -> Task | None:
        action = find_action(session, action_id)
        reason = _why_not_cancellable(action, migration_of(session, action_id))
        if reason:
            raise NotCancellable(action=action_id, reason=reason)
        action.cancel_requested = True
        try:
            return self.machine.load(session, action)
        except ActionUnknown:
            # The conductors that know it see the request.
            return None

    def _carry_out(self, task: Task, activity: Activity) -> None:
        """Carry out a step outside of any transaction; what comes in between is for the sweep to take up again."""
        with working_for(task.ctxt):
            try:
                self._run(task)
            except Exception:
                LOG.exception(
                    "Action %s: %s was interrupted, and will be taken up again", task.action.id, activity.what
                )
            finally:
                self._forget(task, activity)

    def _run(self, task: Task) -> None:
        step, host, started = task.current, task.waits_for, utcnow()
        assert step is not None
        data, fault = None, None
        try:
            failpoints.before("step", step.name)
            data = step.run(task, host)
            failpoints.after("step", step.name)
        except (oslo_messaging.MessagingException, DBError, DatabaseError):
            LOG.warning("Action %s: %s was not sent, and will be", task.action.id, step.name)
            return
        except Exception as error:
            if isinstance(error, PeerSilent) and not task.action.cancel_requested:
                # Perhaps it is the broker that is away: as with an order, it is patience that has to run out.
                LOG.warning("Action %s: %s will be repeated: %s", task.action.id, step.name, error.message)
                return
            if not isinstance(error, MinovaError):
                LOG.exception("Action %s: %s failed", task.action.id, step.name)
            fault = Fault.of(error, self.name)
        if fault is not None or step.kind is Kind.CALL:
            self._settle(task, started, data or {}, fault)
        elif task.action.cancel_requested:
            self.abort(task)

    def _settle(self, task: Task, started: Any, data: dict[str, Any], fault: Fault | None) -> None:
        next_task = self._database.write(self._settled, task, started, data, fault)
        if next_task is not None:
            self.carry_on(next_task)

    def _settled(
        self, session: Session, done: Task, started: Any, data: dict[str, Any], fault: Fault | None
    ) -> Task | None:
        """Record what became of a step that was carried out here, unless another conductor has taken it over."""
        action = session.get(models.Action, done.action.id)
        if action is None or action.status not in OPEN_ACTION or action.sequence != done.action.sequence:
            return None
        task = self.machine.load(session, action)
        step = task.current
        assert step is not None
        result, message = (Result.FAILED, fault.message) if fault else (Result.SUCCEEDED, "")
        hop = Hop.CALL if step.kind is Kind.CALL else Hop.CAST
        trace.add(session, action, hop, self.name, started, result, step=step.name, message=message)
        if fault is None:
            self.machine.succeed(session, task, data)
        else:
            self.machine.fail(session, task, fault)
        return task

    def _forget(self, task: Task, activity: Activity) -> None:
        with self._lock:
            # The next step may have begun already.
            if self._active.get(task.action.id) is activity:
                del self._active[task.action.id]


def _power_state(reported: str) -> PowerState:
    """Return what a compute reported; what only a newer one knows means nothing to us."""
    return PowerState(reported) if reported in set(PowerState) else PowerState.NOSTATE


def _why_not_cancellable(action: models.Action, migration: models.Migration | None) -> str:
    """Return why an action cannot be cancelled, or nothing."""
    if action.status is ActionStatus.UNDOING and not action.resume:
        return "it is being undone already"
    if action.status not in OPEN_ACTION:
        return "it was cancelled" if action.status is ActionStatus.CANCELLED else f"it has {action.status}"
    if not OPERATIONS[action.verb].cancellable:
        return f"a {action.verb} cannot be cancelled half-way; it ends by itself"
    if action.data.get("past_pivot"):
        return "it is past the point of no return, and about to end"
    if migration is not None and migration.progress.get("post_copy"):
        return "its guest runs at the destination already, in post-copy"
    return ""
