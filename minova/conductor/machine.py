"""What happens to an action within one transaction: begin, step forward, turn back, end."""

from datetime import timedelta
from typing import Any

from oslo_db.exception import DBError
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from minova.conductor import doubts, faults, foreign, moves, notices, trace
from minova.conductor.tasks import TASKS, Services, Task
from minova.conductor.tasks.step import Kind, Step
from minova.context import RequestContext
from minova.db import convert, models
from minova.db.queries import migration_of, open_action
from minova.db.session import LostRace, savepoint
from minova.exception import InstanceBusy, InvalidState
from minova.objects import Fault, Hop, Result, utcnow
from minova.states import (
    OPEN_ACTION,
    OPEN_MIGRATION,
    OPERATIONS,
    VM_STATE_OF_POWER,
    ActionStatus,
    MigrationEvent,
    Verb,
    VmState,
)

_END_OF_MIGRATION = {
    ActionStatus.SUCCEEDED: MigrationEvent.COMPLETE,
    ActionStatus.CANCELLED: MigrationEvent.CANCEL,
    ActionStatus.FAILED: MigrationEvent.FAIL,
}


class Machine:
    """Moves actions from step to step. All methods run in the caller's transaction and touch nothing else.

    Each change of step increases the action's ``sequence``, which is also its version for the database: of two
    conductors that decide at once, the slower one's transaction is run again, and finds the action elsewhere.
    """

    def __init__(self, services: Services, name: str, owner: str) -> None:
        """Act as the conductor ``name`` (for the trace) and ``owner`` (for the lease)."""
        self._services = services
        self._name = name
        self._owner = owner

    def load(self, session: Session, action: models.Action) -> Task:
        """Return the task of an action, as it stands.

        :raises ActionUnknown: another release began it, and this one cannot go on with it.
        """
        foreign.require_known(action)
        row = session.get(models.Instance, action.instance_uuid)
        assert row is not None, "instances outlive their actions"
        return TASKS[action.verb](self._services, action, convert.instance(row))

    def begin(
        self,
        session: Session,
        action_id: str,
        ctxt: RequestContext,
        verb: Verb,
        row: models.Instance,
        args: dict[str, Any],
    ) -> Task:
        """Start an action: from here on it cannot be lost. Steps that need no compute are done at once.

        :raises MinovaError: the request is refused; the transaction has to be rolled back.
        """
        action = self._new_action(action_id, ctxt, verb, row, args)
        task = TASKS[verb](self._services, action, convert.instance(row))
        self._check_free(session, row)
        if not OPERATIONS[verb].in_doubt:
            # First, for what its state allows is refused as well.
            doubts.require_none(session, verb, row, self._services.conf.service_down_time)
        self._check_state(verb, row)
        task.check(session)
        self._occupy(session, verb, row)
        session.add(action)
        notices.action(session, action, row)
        trace.add(session, action, Hop.SUBMIT, self._name, action.submitted_at, step="submit")
        self.proceed(session, task, strict=True)
        return task

    def proceed(self, session: Session, task: Task, *, strict: bool = False) -> None:
        """Run steps until one needs a compute, or the action ends.

        :param strict: let the error of a step out instead of turning back.
        """
        while task.action.status in OPEN_ACTION:
            step = task.current
            if step is not None and task.waits_for is not None:
                task.action.waits_for = task.waits_for
                break
            if step is None or step.kind is not Kind.TRANSACTION or self._run(session, task, step, strict):
                self._advance(session, task)
        task.instance = convert.instance(task.row(session))

    def succeed(self, session: Session, task: Task, data: dict[str, Any]) -> None:
        """Go on after a compute has done the step; ``data`` is what it reported."""
        results = task.action.data.get("results", {})
        step = task.current
        assert step is not None
        task.remember(results={**results, step.name: data})
        self._advance(session, task)
        self.proceed(session, task)

    def fail(self, session: Session, task: Task, fault: Fault, *, cancelled: bool = False) -> None:
        """Turn back (or go on from where the task says) after the step has failed, or was cancelled half-way."""
        self._fail(session, task, fault, cancelled)
        self.proceed(session, task)

    def close(self, session: Session, task: Task, status: ActionStatus, vm_state: VmState) -> None:
        """End an action, free its instance, and close its migration."""
        action, row, now = task.action, task.row(session), utcnow()
        action.status, action.finished_at, action.waits_for = status, now, None
        action.sequence += 1
        row.vm_state, row.task_state, row.updated_at = vm_state, None, now
        migration = migration_of(session, action.id)
        if migration is not None and migration.status in OPEN_MIGRATION:
            undone = status is not ActionStatus.SUCCEEDED
            event = MigrationEvent.GIVE_UP if undone and action.data.get("left") else _END_OF_MIGRATION[status]
            moves.advance(session, migration, event)
            if undone:
                doubts.begin(session, action.id, (row.uuid, row.host), task.unclear_hosts, self._name)
        if status is ActionStatus.SUCCEEDED:
            doubts.settle(session, row.uuid)
        notices.action(session, action, row)

    def touch(self, action: models.Action) -> None:
        """Give an action to this conductor, with a fresh lease and the next sequence number."""
        now = utcnow()
        action.sequence += 1
        action.owner = self._owner
        action.lease_expires_at = now + timedelta(seconds=self._services.conf.conductor.lease)

    def _new_action(
        self, action_id: str, ctxt: RequestContext, verb: Verb, row: models.Instance, args: dict[str, Any]
    ) -> models.Action:
        now = utcnow()
        return models.Action(
            id=action_id,
            verb=verb,
            instance_uuid=row.uuid,
            status=ActionStatus.RUNNING,
            step=TASKS[verb].steps[0].name,
            sequence=1,
            attempt=1,
            owner=self._owner,
            lease_expires_at=now + timedelta(seconds=self._services.conf.conductor.lease),
            heard_at=now,
            undo_to="",
            resume=False,
            cancel_requested=False,
            previous_vm_state=row.vm_state,
            args=args,
            data={"version": TASKS[verb].version},
            error="",
            request_id=ctxt.request_id,
            user=ctxt.user_id or "",
            submitted_at=now,
        )

    def _check_free(self, session: Session, row: models.Instance) -> None:
        if row.task_state is not None:
            running = open_action(session, row.uuid)
            raise InstanceBusy(
                instance=row.name, task_state=row.task_state, action=running.id if running else "unknown"
            )

    def _check_state(self, verb: Verb, row: models.Instance) -> None:
        if row.vm_state not in OPERATIONS[verb].allowed:
            allowed = sorted(str(each) for each, operation in OPERATIONS.items() if row.vm_state in operation.allowed)
            raise InvalidState(instance=row.name, verb=verb, state=row.vm_state, allowed=allowed)

    def _occupy(self, session: Session, verb: Verb, row: models.Instance) -> None:
        """Set the task state by compare-and-swap, so that of two actions on one instance only one begins.

        Nothing of the instance may have changed since it was read: the action would go to a host that it has left.
        """
        session.flush()
        swap = (
            update(models.Instance)
            .where(
                models.Instance.uuid == row.uuid,
                models.Instance.task_state.is_(None),
                models.Instance.updated_at == row.updated_at,
            )
            .values(task_state=OPERATIONS[verb].task_state, updated_at=utcnow())
            .execution_options(synchronize_session="evaluate")
        )
        if not session.execute(swap).rowcount:  # type: ignore[attr-defined]
            raise LostRace

    def _run(self, session: Session, task: Task, step: Step, strict: bool) -> bool:
        """Run a step that is a transaction; return whether it succeeded, and turn back if not."""
        started = utcnow()
        try:
            with savepoint(session):
                step.run(task, session)
        except (LostRace, DBError, SQLAlchemyError):
            raise
        except Exception as error:
            if strict:
                raise
            fault = Fault.of(error, self._name)
            trace.add(session, task.action, _hop(task), self._name, started, Result.FAILED, message=fault.message)
            self._fail(session, task, fault, cancelled=False)
            return False
        trace.add(session, task.action, _hop(task), self._name, started, step=step.name)
        task.instance = convert.instance(task.row(session))
        return True

    def _advance(self, session: Session, task: Task) -> None:
        """Go to the next step, or on the way back to the one before; end after the last."""
        if task.action.status is ActionStatus.UNDOING:
            self._advance_back(session, task)
            return
        if task.step.pivot:
            task.remember(past_pivot=True)
        following = task.neighbour(task.step, 1)
        if task.action.cancel_requested and not task.action.data.get("past_pivot"):
            self._turn_back(task, None, "cancelled", cancelled=True)
        elif following is not None:
            self._enter(task, following)
        elif task.action.error:
            self._give_up(session, task, ActionStatus.FAILED)
        else:
            power_state = task.row(session).power_state
            after = OPERATIONS[task.verb].after_success or VM_STATE_OF_POWER[power_state]
            self.close(session, task, ActionStatus.SUCCEEDED, after)

    def _advance_back(self, session: Session, task: Task) -> None:
        action = task.action
        previous = task.neighbour(task.step, -1)
        if action.step != action.undo_to and previous is not None:
            self._enter(task, previous)
        elif action.resume:
            action.status, action.resume = ActionStatus.RUNNING, False
            self._enter(task, task.step)
        else:
            cancelled = action.data.get("cancelled", False)
            self._give_up(session, task, ActionStatus.CANCELLED if cancelled else ActionStatus.FAILED)

    def _fail(self, session: Session, task: Task, fault: Fault, cancelled: bool) -> None:
        action, step = task.action, task.step
        if not cancelled:
            faults.record(session, action.instance_uuid, action.id, fault)
        if action.status is ActionStatus.UNDOING:
            self._leave(session, task, fault)
            self._advance(session, task)
        elif action.data.get("past_pivot"):
            # There is no way back: what can still be done is done, and the end tells what could not.
            action.error = "it could neither be finished nor be undone any more"
            self._leave(session, task, fault)
            self._advance(session, task)
        else:
            go_on = None if cancelled else task.after_failure(step, fault)
            if go_on is not None and task.steps.index(go_on) > task.steps.index(step):
                task.remember(doubt=fault.message)
                self._enter(task, go_on)
            else:
                cancelled = cancelled or action.cancel_requested
                self._turn_back(task, None if cancelled else go_on, fault.message, cancelled=cancelled)

    def _turn_back(self, task: Task, resume_at: Step | None, error: str, *, cancelled: bool) -> None:
        action = task.action
        action.status = ActionStatus.UNDOING
        action.undo_to = (resume_at or task.steps[0]).name
        action.resume = resume_at is not None
        if resume_at is None:
            doubt = action.data.get("doubt")
            action.error = f"{doubt}; {error}" if doubt else error
            task.remember(cancelled=cancelled)
        self._enter(task, task.step)

    def _leave(self, session: Session, task: Task, fault: Fault) -> None:
        """Write down what could not be cleaned up, and where."""
        step = task.current
        where = f" on host {task.waits_for}" if task.waits_for else ""
        left = f"{step.name if step else task.action.step}{where} was not done: {fault.message}"
        task.remember(left=[*task.action.data.get("left", []), left])
        told = Fault(code="LeftBehind", message=left, host=self._name)
        faults.record(session, task.action.instance_uuid, task.action.id, told)

    def _give_up(self, session: Session, task: Task, status: ActionStatus) -> None:
        after = OPERATIONS[task.verb].after_failure or task.action.previous_vm_state
        left = task.action.data.get("left")
        if left:
            task.action.error = "; ".join([task.action.error, *left])
        self.close(session, task, status, VmState.ERROR if left else after)

    def _enter(self, task: Task, step: Step) -> None:
        action = task.action
        self.touch(action)
        action.step, action.attempt, action.heard_at, action.waits_for = step.name, 1, utcnow(), None


def _hop(task: Task) -> Hop:
    return Hop.UNDO if task.action.status is ActionStatus.UNDOING else Hop.STEP
