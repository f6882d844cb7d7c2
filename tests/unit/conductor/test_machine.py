"""What happens to an action between two of its steps, whatever the steps are."""

import logging
from datetime import timedelta
from typing import cast
from uuid import uuid4

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from minova.conductor.tasks import TASKS, Task
from minova.conductor.tasks.step import Step, call, order, transaction
from minova.context import RequestContext
from minova.db import models
from minova.db.session import LostRace
from minova.exception import InstanceBusy, InvalidInput, InvalidState
from minova.objects import Fault, Hop, Result, utcnow
from minova.states import ActionStatus, PowerState, TaskState, Verb, VmState
from tests.unit.conductor.rig import INSTANCE, NO_ROOM, REFUSAL, SILENCE, Rig


def at_host2(task: Task) -> str | None:
    return None if task.action.args.get("nobody") else "host2"


class Example(Task):
    """Some steps of each kind, with undos and without; what runs in a transaction is noted."""

    verb = Verb.MIGRATE
    ran: list[str]
    failing: set[str]

    def note(self, name: str) -> None:
        self.ran.append(name)
        if name in self.failing:
            raise InvalidInput(reason=f"{name} is told to fail")

    @transaction()
    def reserve(self, session: Session) -> None:
        self.note("reserve")

    @reserve.undo
    @transaction()
    def unreserve(self, session: Session) -> None:
        self.note("unreserve")

    @call(at_host2)
    def ask(self, host: str) -> None: ...

    @order(at_host2)
    def make(self, host: str) -> None: ...

    @make.undo
    @order(at_host2)
    def unmake(self, host: str) -> None: ...

    @transaction()
    def count(self, session: Session) -> None:
        self.note("count")

    @order(at_host2)
    def move(self, host: str) -> None: ...

    @transaction(pivot=True)
    def turn(self, session: Session) -> None:
        self.note("turn")

    @order(at_host2)
    def finish(self, host: str) -> None: ...

    @transaction()
    def tidy(self, session: Session) -> None:
        self.note("tidy")

    def after_failure(self, step: Step, fault: Fault) -> Step | None:
        if fault.code == NO_ROOM.code:
            return Example.ask
        return Example.finish if fault.code == SILENCE.code and step is Example.move else None


@pytest.fixture(autouse=True)
def example(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``migrate`` be the example."""
    Example.ran, Example.failing = [], set()
    monkeypatch.setitem(cast("dict[Verb, type[Task]]", TASKS), Verb.MIGRATE, Example)


def begin(rig: Rig) -> models.Action:
    return rig.begin(Verb.MIGRATE)


def at_step(rig: Rig, step: str) -> models.Action:
    """Return an action that is at a step."""
    action = begin(rig)
    while not rig.at(action).startswith(f"{step} "):
        rig.succeed(action)
    return action


def row(rig: Rig, action: models.Action) -> models.Action:
    with rig.database.read() as session:
        return session.get_one(models.Action, action.id)


# Forward.


def test_steps_run_from_top_to_bottom(rig: Rig) -> None:
    path = rig.walk(begin(rig))
    assert path == ["ask on host2", "make on host2", "move on host2", "finish on host2", "succeeded"]
    assert Example.ran == ["reserve", "count", "turn", "tidy"]


def test_beginning_occupies_the_instance(rig: Rig) -> None:
    action = begin(rig)
    assert (rig.instance.task_state, rig.instance.vm_state) == (TaskState.RESIZE_MIGRATING, VmState.ACTIVE)
    assert (action.owner, action.attempt, action.previous_vm_state) == ("here/1", 1, VmState.ACTIVE)
    assert action.lease_expires_at > utcnow()
    with pytest.raises(InstanceBusy) as refusal:
        begin(rig)
    assert refusal.value.action == action.id


def test_end_frees_the_instance(rig: Rig) -> None:
    action = begin(rig)
    rig.walk(action)
    ended = row(rig, action)
    assert (ended.status, ended.waits_for, ended.error) == (ActionStatus.SUCCEEDED, None, "")
    assert ended.finished_at is not None
    assert (rig.instance.task_state, rig.instance.vm_state) == (None, VmState.ACTIVE)


def test_state_that_forbids_the_operation_is_told(rig: Rig) -> None:
    rig.change(models.Instance, INSTANCE, vm_state=VmState.PAUSED)
    with pytest.raises(InvalidState) as refusal:
        begin(rig)
    assert (refusal.value.state, refusal.value.verb) == ("paused", "migrate")
    assert "unpause" in refusal.value.allowed


def test_instance_that_another_took_in_the_same_moment_is_a_lost_race(rig: Rig) -> None:
    def decide(session: Session) -> None:
        instance = session.get_one(models.Instance, INSTANCE)
        taken = update(models.Instance).values(task_state=TaskState.DELETING)
        session.execute(taken.execution_options(synchronize_session=False))
        rig.machine.begin(session, str(uuid4()), RequestContext(), Verb.MIGRATE, instance, {})

    with pytest.raises(LostRace):
        rig.write_once(decide)


def test_first_step_that_fails_is_a_refusal_and_leaves_nothing(rig: Rig) -> None:
    Example.failing = {"reserve"}
    with pytest.raises(InvalidInput, match="reserve is told to fail"):
        begin(rig)
    with rig.database.read() as session:
        assert session.scalars(select(models.Action)).all() == []
        assert session.scalars(select(models.ActionEvent)).all() == []
    assert rig.instance.task_state is None


def test_step_that_is_for_nobody_is_passed_over(rig: Rig) -> None:
    action = rig.begin(Verb.MIGRATE, nobody=True)
    assert action.status is ActionStatus.SUCCEEDED
    assert Example.ran == ["reserve", "count", "turn", "tidy"]


def test_what_a_compute_reports_is_kept_for_later_steps(rig: Rig) -> None:
    action = begin(rig)
    rig.succeed(action, answer=42)
    rig.succeed(action, made="yes")
    assert row(rig, action).data["results"] == {"ask": {"answer": 42}, "make": {"made": "yes"}}


def test_each_transition_has_a_higher_number_and_a_fresh_lease(rig: Rig) -> None:
    action = begin(rig)
    numbers = [row(rig, action).sequence]
    while row(rig, action).status is ActionStatus.RUNNING:
        rig.change(models.Action, action.id, lease_expires_at=utcnow() - timedelta(hours=1), owner="other")
        (rig.succeed if rig.at(action) != "move on host2" else rig.fail)(action)
        numbers.append(row(rig, action).sequence)
        if row(rig, action).finished_at is None:
            assert row(rig, action).lease_expires_at > utcnow()
            assert row(rig, action).owner == "here/1"
    rig.walk(action)
    numbers.append(row(rig, action).sequence)
    assert numbers == sorted(set(numbers))


def test_decision_on_what_another_has_changed_meanwhile_is_refused(rig: Rig) -> None:
    action = begin(rig)

    def decide(session: Session) -> None:
        loaded = session.get_one(models.Action, action.id)
        faster = update(models.Action).values(sequence=models.Action.sequence + 1)
        session.execute(faster.execution_options(synchronize_session=False))
        rig.machine.succeed(session, rig.machine.load(session, loaded), {})

    with pytest.raises(StaleDataError):
        rig.write_once(decide)
    assert rig.at(action) == "ask on host2"


def test_trace_tells_each_step_and_what_became_of_it(rig: Rig) -> None:
    action = at_step(rig, "make")
    Example.failing = {"unreserve"}
    rig.fail(action)
    rig.succeed(action)
    with rig.database.read() as session:
        events = session.scalars(select(models.ActionEvent).order_by(models.ActionEvent.id)).all()
    assert [(each.step, each.hop, each.result) for each in events] == [
        ("submit", Hop.SUBMIT, Result.SUCCEEDED),
        ("reserve", Hop.STEP, Result.SUCCEEDED),
        ("reserve", Hop.UNDO, Result.FAILED),
    ]
    assert {each.service for each in events} == {"conductor:here"}


# Back.


def test_undo_runs_from_the_failed_step_to_the_first(rig: Rig) -> None:
    action = at_step(rig, "move")
    Example.ran.clear()
    assert rig.walk(rig.fail(action)) == ["unmake on host2", "failed"]
    assert Example.ran == ["unreserve"]
    ended = row(rig, action)
    assert (ended.status, ended.error) == (ActionStatus.FAILED, REFUSAL.message)
    assert (rig.instance.vm_state, rig.instance.task_state) == (VmState.ACTIVE, None)
    assert rig.faults() == [(REFUSAL.code, REFUSAL.message)]


def test_step_that_fails_undoes_itself(rig: Rig) -> None:
    assert rig.walk(rig.fail(at_step(rig, "make")))[0] == "unmake on host2"


def test_transaction_that_fails_on_the_way_turns_back(rig: Rig) -> None:
    Example.failing = {"count"}
    action = at_step(rig, "make")
    rig.succeed(action)
    assert rig.walk(action) == ["unmake on host2", "failed"]
    assert Example.ran == ["reserve", "count", "unreserve"]
    assert row(rig, action).error == "count is told to fail"


def test_transaction_that_fails_leaves_nothing_of_what_it_wrote(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(task: Task, session: Session) -> None:
        task.row(session).name = "changed"
        session.flush()
        raise InvalidInput(reason="no")

    monkeypatch.setattr(Example.count, "run", count)
    action = at_step(rig, "make")
    rig.succeed(action)
    assert rig.at(action) == "unmake on host2"
    assert rig.instance.name != "changed"


def test_undo_that_fails_does_not_keep_the_rest_from_being_undone(rig: Rig) -> None:
    action = rig.fail(at_step(rig, "move"))
    Example.ran.clear()
    rig.fail(action, SILENCE)
    assert Example.ran == ["unreserve"]
    ended = row(rig, action)
    left = f"unmake on host host2 was not done: {SILENCE.message}"
    assert (ended.status, ended.error) == (ActionStatus.FAILED, f"{REFUSAL.message}; {left}")
    assert rig.instance.vm_state is VmState.ERROR
    assert rig.faults()[-1] == ("LeftBehind", left)


def test_undo_that_is_a_transaction_and_fails_is_told_too(rig: Rig) -> None:
    Example.failing = {"unreserve"}
    action = rig.fail(begin(rig))
    assert row(rig, action).status is ActionStatus.FAILED
    assert rig.instance.vm_state is VmState.ERROR
    assert rig.faults()[-1] == ("LeftBehind", "unreserve was not done: unreserve is told to fail")


# Another try.


def test_retry_undoes_down_to_where_it_begins_again(rig: Rig) -> None:
    action = at_step(rig, "move")
    Example.ran.clear()
    rig.fail(action, NO_ROOM)
    assert row(rig, action).status is ActionStatus.UNDOING
    assert rig.walk(action) == [
        "unmake on host2",
        "ask on host2",
        "make on host2",
        "move on host2",
        "finish on host2",
        "succeeded",
    ]
    assert Example.ran == ["count", "turn", "tidy"]
    assert (row(rig, action).error, rig.instance.vm_state) == ("", VmState.ACTIVE)


def test_step_that_is_come_back_to_is_a_new_order(rig: Rig) -> None:
    action = at_step(rig, "move")
    rig.change(models.Action, action.id, attempt=3)
    visits = [rig.visit(action)]
    rig.fail(action, NO_ROOM)
    while rig.at(action) != "move on host2":
        visits.append(rig.visit(action))
        rig.succeed(action)
    visits.append(rig.visit(action))
    assert visits == sorted(set(visits))


def test_retry_that_left_something_behind_succeeds_and_tells(rig: Rig) -> None:
    action = rig.fail(at_step(rig, "move"), NO_ROOM)
    rig.fail(action, SILENCE)
    assert rig.walk(action)[-1] == "succeeded"
    assert rig.instance.vm_state is VmState.ACTIVE
    assert "LeftBehind" in [code for code, _message in rig.faults()]


def test_cancel_on_the_way_to_another_try_undoes_everything(rig: Rig) -> None:
    action = rig.fail(at_step(rig, "move"), NO_ROOM)
    rig.cancel(action)
    rig.succeed(action)
    rig.succeed(action)
    assert row(rig, action).status is ActionStatus.CANCELLED
    assert Example.ran[-1] == "unreserve"


def test_failure_may_lead_forward(rig: Rig) -> None:
    action = rig.fail(at_step(rig, "move"), SILENCE)
    assert rig.walk(action) == ["finish on host2", "succeeded"]
    assert "turn" not in Example.ran


def test_failure_that_leads_forward_and_fails_there_tells_both(rig: Rig) -> None:
    action = rig.fail(at_step(rig, "move"), SILENCE)
    rig.fail(action)
    assert rig.walk(action) == ["unmake on host2", "failed"]
    assert row(rig, action).error == f"{SILENCE.message}; {REFUSAL.message}"


# No way back.


def test_after_the_pivot_what_can_still_be_done_is_done(rig: Rig) -> None:
    action = rig.fail(at_step(rig, "finish"))
    assert Example.ran[-1] == "tidy"
    ended = row(rig, action)
    assert ended.status is ActionStatus.FAILED
    assert f"finish on host host2 was not done: {REFUSAL.message}" in ended.error
    assert rig.instance.vm_state is VmState.ERROR


def test_transaction_after_the_pivot_that_fails_ends_in_error(rig: Rig) -> None:
    Example.failing = {"tidy"}
    action = at_step(rig, "finish")
    rig.succeed(action)
    assert row(rig, action).status is ActionStatus.FAILED
    assert rig.instance.vm_state is VmState.ERROR
    assert rig.faults()[-1] == ("LeftBehind", "tidy was not done: tidy is told to fail")


def test_cancel_after_the_pivot_has_no_effect(rig: Rig) -> None:
    action = rig.cancel(at_step(rig, "finish"))
    assert rig.walk(action)[-1] == "succeeded"


# Cancelled.


def test_cancel_takes_effect_when_the_step_is_done(rig: Rig) -> None:
    action = rig.cancel(at_step(rig, "make"))
    assert row(rig, action).status is ActionStatus.RUNNING
    rig.succeed(action)
    assert rig.walk(action) == ["unmake on host2", "cancelled"]
    assert (rig.instance.vm_state, rig.instance.task_state) == (VmState.ACTIVE, None)
    assert rig.faults() == []


def test_step_that_was_cancelled_half_way_is_no_fault(rig: Rig) -> None:
    action = rig.fail(at_step(rig, "move"), cancelled=True)
    assert rig.walk(action) == ["unmake on host2", "cancelled"]
    assert rig.faults() == []


def test_cancelled_action_is_not_tried_again(rig: Rig) -> None:
    action = rig.cancel(at_step(rig, "move"))
    rig.fail(action, NO_ROOM)
    assert rig.walk(action) == ["unmake on host2", "cancelled"]


def test_state_is_what_the_guest_is_in_at_the_end(rig: Rig) -> None:
    rig.change(models.Instance, INSTANCE, power_state=PowerState.SHUTDOWN)
    rig.walk(begin(rig))
    assert rig.instance.vm_state is VmState.STOPPED


def test_error_that_nobody_expected_is_a_fault_with_its_traceback(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def count(_task: Task, _session: Session) -> None:
        raise ZeroDivisionError("of all things")

    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr(Example.count, "run", count)
    action = at_step(rig, "make")
    rig.succeed(action)
    with rig.database.read() as session:
        [fault] = session.scalars(select(models.InstanceFault)).all()
    assert (fault.code, fault.message) == ("ZeroDivisionError", "unexpected error: of all things")
    assert "Traceback" in fault.details
    assert rig.at(action) == "unmake on host2"
