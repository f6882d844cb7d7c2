"""A step is carried out, its outcome taken, and what goes wrong in between is left for others to take up."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any, cast

import oslo_messaging
import pytest
from oslo_db.exception import DBConnectionError
from sqlalchemy import select

from minova.conductor.engine import Engine
from minova.conductor.leases import Leases
from minova.conductor.listening import Listening
from minova.conductor.tasks.step import Kind
from minova.context import RequestContext
from minova.db import models
from minova.exception import ActionNotFound, InstanceBusy, NotCancellable, OperationRefused, PeerSilent, PeerTooOld
from minova.objects import BootRequest, Fault, Hop, Outcome, Result, utcnow
from minova.states import ActionStatus, PowerState, TaskState, Verb, VmState
from tests.unit.conductor.rig import INSTANCE, Rig

CTXT = RequestContext(user="me")


class Inline:
    """A pool that does at once what it is given, until it is shut down."""

    def __init__(self) -> None:
        self.stopped = False

    def submit(self, work: Callable[..., None], *args: Any) -> None:
        if self.stopped:
            raise RuntimeError("cannot schedule new futures after shutdown")
        work(*args)

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        self.stopped = True


class Pool(ThreadPoolExecutor):
    """A pool of one thread, which is busy until what came last was cancelled."""

    def __init__(self) -> None:
        super().__init__(1)
        self._free = threading.Event()
        super().submit(self._free.wait, 10.0)

    def submit(self, work: Callable[..., Any], /, *args: Any, **more: Any) -> Future[Any]:
        future = super().submit(work, *args, **more)
        future.add_done_callback(lambda _: self._free.set())
        return future


@pytest.fixture
def engine(rig: Rig) -> Engine:
    engine = Engine(rig.database, rig.services, "here")
    engine.stop()
    engine._pools = dict.fromkeys(Kind, cast("Any", Inline()))
    rig.machine = engine.machine
    return engine


def submit(engine: Engine, verb: Verb = Verb.STOP, **args: Any) -> str:
    return engine.submit(CTXT, verb, INSTANCE, args)


def row(rig: Rig, action: str) -> models.Action:
    with rig.database.read() as session:
        return session.get_one(models.Action, action)


def outcome(rig: Rig, action: str, result: Result = Result.SUCCEEDED, **more: Any) -> Outcome:
    """Return the outcome of the order that an action waits for."""
    with rig.database.read() as session:
        order = rig.machine.load(session, session.get_one(models.Action, action)).order
    now = utcnow()
    return Outcome(order=order, host="host1", result=result, received_at=now, started_at=now, finished_at=now, **more)


def answer(rig: Rig, monkeypatch: pytest.MonkeyPatch, method: str, error: Exception | None) -> None:
    """Let a message to a compute fail, or be answered."""

    def send(*_args: Any, **_more: Any) -> None:
        if error is not None:
            raise error

    monkeypatch.setattr(rig.computes, method, send, raising=False)


def test_order_is_sent_once_all_is_stored(rig: Rig, engine: Engine) -> None:
    action = submit(engine)
    assert rig.computes.sent == [("stop_instance", "host1")]
    assert row(rig, action).waits_for == "host1"
    assert (engine.active_actions(), engine.activities()) == ([], [])


def test_what_the_threads_are_at_can_be_asked(rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(rig.computes, "stop_instance", lambda *_: seen.extend(engine.activities()), raising=False)
    action = submit(engine)
    assert [(each.what, each.subject) for each in seen] == [("stop power_off", action)]


def test_outcome_ends_the_action_and_tells_the_power_state(rig: Rig, engine: Engine) -> None:
    action = submit(engine)
    engine.report(outcome(rig, action, data={"power_state": "shutdown"}))
    assert row(rig, action).status is ActionStatus.SUCCEEDED
    assert (rig.instance.vm_state, rig.instance.power_state) == (VmState.STOPPED, PowerState.SHUTDOWN)
    with rig.database.read() as session:
        hops = [each.hop for each in session.scalars(select(models.ActionEvent).order_by(models.ActionEvent.id))]
    assert hops == [Hop.SUBMIT, Hop.CAST, Hop.WORK, Hop.REPORT]


def test_outcome_of_work_that_began_before_its_order_was_sent_again_has_no_negative_times(
    rig: Rig, engine: Engine
) -> None:
    action = submit(engine)
    report = outcome(rig, action)
    earlier = report.received_at.replace(year=2000)
    object.__setattr__(report, "received_at", earlier)
    engine.report(report)
    with rig.database.read() as session:
        events = session.scalars(select(models.ActionEvent).where(models.ActionEvent.hop == Hop.CAST)).all()
    assert [each.finished_at >= each.started_at for each in events] == [True]


def test_outcome_that_fails_without_a_fault_is_a_failure_all_the_same(rig: Rig, engine: Engine) -> None:
    action = submit(engine)
    engine.report(outcome(rig, action, Result.FAILED))
    assert row(rig, action).status is ActionStatus.FAILED
    assert rig.instance.vm_state is VmState.ACTIVE


@pytest.mark.parametrize("again", [Result.SUCCEEDED, Result.FAILED])
def test_second_outcome_of_an_order_changes_nothing(rig: Rig, engine: Engine, again: Result) -> None:
    action = submit(engine)
    first, second = outcome(rig, action), outcome(rig, action, again)
    engine.report(first)
    before = row(rig, action)
    engine.report(second)
    after = row(rig, action)
    assert (after.status, after.sequence, after.error) == (before.status, before.sequence, before.error)


def test_answer_to_a_question_leads_to_the_next_step(rig: Rig, engine: Engine) -> None:
    submit(engine, Verb.LIVE_MIGRATE, destination="host2", options={})
    assert rig.computes.sent == [
        ("check_can_live_migrate_source", "host1"),
        ("check_can_live_migrate_destination", "host2"),
        ("pre_live_migration", "host2"),
    ]


def test_question_that_is_answered_with_an_error_turns_back(
    rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = OperationRefused(host="host1", operation="check", reason="no")
    answer(rig, monkeypatch, "check_can_live_migrate_source", refusal)
    action = submit(engine, Verb.LIVE_MIGRATE, destination="host2", options={})
    assert (row(rig, action).status, row(rig, action).error) == (ActionStatus.FAILED, refusal.message)
    assert rig.rooms() == ["host1"]


def test_order_that_no_peer_understands_fails(rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    error = PeerTooOld(method="stop", needed="1.9", pinned="1.0", holder="host1")
    answer(rig, monkeypatch, "stop_instance", error)
    action = submit(engine)
    assert (row(rig, action).status, row(rig, action).error) == (ActionStatus.FAILED, error.message)


SILENT = PeerSilent(peer="compute on host1", seconds=10)


@pytest.mark.parametrize("error", [oslo_messaging.MessageDeliveryFailure("no broker"), DBConnectionError(), SILENT])
@pytest.mark.parametrize("verb", [Verb.STOP, Verb.LIVE_MIGRATE])
def test_what_could_not_be_sent_is_left_for_the_sweep(
    rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch, error: Exception, verb: Verb
) -> None:
    for method in ("stop_instance", "check_can_live_migrate_source"):
        answer(rig, monkeypatch, method, error)
    action = submit(engine, verb, destination="host2", options={})
    now = row(rig, action)
    assert (now.status, now.waits_for, now.attempt) == (ActionStatus.RUNNING, "host1", 1)
    assert (engine.active_actions(), rig.faults()) == ([], [])


def test_question_without_an_answer_is_asked_again_until_there_is_one(
    rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restart of the broker may last longer than the patience with one call."""
    answers: list[Exception | None] = [SILENT, SILENT, None]

    def check(*_args: Any) -> None:
        error = answers.pop(0)
        if error is not None:
            raise error

    monkeypatch.setattr(rig.computes, "check_can_live_migrate_source", check, raising=False)
    action = submit(engine, Verb.LIVE_MIGRATE, destination="host2", options={})
    leases = Leases(rig.conf, rig.database, engine, Listening(rig.conf))
    for _ in range(2):
        assert (row(rig, action).status, row(rig, action).step) == (ActionStatus.RUNNING, "check_source")
        rig.change(models.Action, action, lease_expires_at=utcnow() - timedelta(seconds=1))
        leases.sweep()
    assert (row(rig, action).step, rig.faults()) == ("prepare_destination", [])


def test_question_without_an_answer_fails_once_there_is_no_patience_left(
    rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(rig, monkeypatch, "check_can_live_migrate_source", SILENT)
    action = submit(engine, Verb.LIVE_MIGRATE, destination="host2", options={})
    long_ago = utcnow() - timedelta(seconds=rig.conf.conductor.unresponsive_timeout + 1)
    rig.change(models.Action, action, lease_expires_at=long_ago, heard_at=long_ago)
    listening = Listening(rig.conf)
    listening.since = long_ago
    leases = Leases(rig.conf, rig.database, engine, listening)
    leases.sweep()
    assert (row(rig, action).status, rig.faults()) == (
        ActionStatus.FAILED,
        [("PeerSilent", "compute on host1 did not answer within 300 s")],
    )


def test_question_without_an_answer_is_not_asked_again_for_an_action_that_is_cancelled(
    rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(rig, monkeypatch, "check_can_live_migrate_source", SILENT)
    action = submit(engine, Verb.LIVE_MIGRATE, destination="host2", options={})
    engine.cancel(action)
    rig.change(models.Action, action, lease_expires_at=utcnow() - timedelta(seconds=1))
    Leases(rig.conf, rig.database, engine, Listening(rig.conf)).sweep()
    assert row(rig, action).status is ActionStatus.CANCELLED


def test_answer_that_could_not_be_stored_is_left_for_the_sweep(
    rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def settle(*_args: Any) -> None:
        raise DBConnectionError

    monkeypatch.setattr(engine, "_settle", settle)
    action = submit(engine, Verb.LIVE_MIGRATE, destination="host2", options={})
    assert row(rig, action).step == "check_source"
    assert (engine.active_actions(), rig.faults()) == ([], [])
    assert f"Action {action}: live-migrate check_source was interrupted" in caplog.text


def test_answer_to_a_question_that_another_has_taken_over_is_dropped(
    rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_slow(*_args: Any) -> None:
        [action] = engine.active_actions()
        rig.change(models.Action, action, sequence=7, owner="other")

    monkeypatch.setattr(rig.computes, "check_can_live_migrate_source", be_slow, raising=False)
    action = submit(engine, Verb.LIVE_MIGRATE, destination="host2", options={})
    now = row(rig, action)
    assert (now.step, now.sequence, now.owner) == ("check_source", 7, "other")
    assert rig.computes.sent == []


def test_step_that_waits_for_a_thread_when_the_conductor_stops_stays_listed_to_be_handed_over(
    rig: Rig, engine: Engine
) -> None:
    engine._pools[Kind.ORDER] = Pool()
    action = submit(engine)
    engine.stop()
    assert rig.computes.sent == []
    assert engine.active_actions() == [action]


def test_step_that_came_while_the_conductor_stopped_stays_listed_to_be_handed_over(
    rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.computes, "check_can_live_migrate_source", lambda *_: engine.stop(), raising=False)
    action = submit(engine, Verb.LIVE_MIGRATE, destination="host2", options={})
    assert row(rig, action).step == "check_destination"
    assert rig.computes.sent == []
    assert engine.active_actions() == [action]


def test_refused_request_leaves_nothing(rig: Rig, engine: Engine) -> None:
    rig.change(models.Instance, INSTANCE, task_state=TaskState.DELETING)
    with pytest.raises(Exception, match="is busy"):
        submit(engine)
    with rig.database.read() as session:
        assert session.scalars(select(models.Action)).all() == []
    assert rig.computes.sent == []


def test_cancel_is_stored_and_sent_on(rig: Rig, engine: Engine) -> None:
    action = submit(engine, Verb.LIVE_MIGRATE, destination="host2", options={})
    engine.report(outcome(rig, action))
    engine.cancel(action)
    assert row(rig, action).cancel_requested
    assert rig.computes.sent[-2:] == [("live_migration", "host1"), ("live_migration_abort", "host1")]


def test_cancel_that_could_not_be_sent_on_is_stored(rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(rig, monkeypatch, "live_migration_abort", oslo_messaging.MessageDeliveryFailure())
    action = submit(engine, Verb.LIVE_MIGRATE, destination="host2", options={})
    engine.cancel(action)
    assert row(rig, action).cancel_requested


def test_cancel_that_comes_before_the_order_is_sent_follows_it(
    rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    action = submit(engine, Verb.LIVE_MIGRATE, destination="host2", options={})
    rig.change(models.Action, action, step="migrate", cancel_requested=True)
    rig.computes.sent.clear()
    with rig.database.read() as session:
        task = rig.machine.load(session, session.get_one(models.Action, action))
    engine.carry_on(task)
    assert rig.computes.sent == [("live_migration", "host1"), ("live_migration_abort", "host1")]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"status": ActionStatus.UNDOING}, "it is being undone already"),
        ({"status": ActionStatus.SUCCEEDED}, "it has succeeded"),
        ({"status": ActionStatus.FAILED}, "it has failed"),
        ({"status": ActionStatus.CANCELLED}, "it was cancelled"),
        ({"verb": Verb.STOP}, "a stop cannot be cancelled half-way; it ends by itself"),
        ({"data": {"past_pivot": True}}, "it is past the point of no return, and about to end"),
    ],
)
def test_cancel_is_refused_with_the_reason(rig: Rig, engine: Engine, values: dict[str, Any], reason: str) -> None:
    action = submit(engine, Verb.LIVE_MIGRATE, destination="host2", options={})
    rig.change(models.Action, action, **values)
    with pytest.raises(NotCancellable) as refusal:
        engine.cancel(action)
    assert refusal.value.reason == reason


def test_cancel_of_what_does_not_exist(engine: Engine) -> None:
    with pytest.raises(ActionNotFound):
        engine.cancel("unknown")


def test_fault_of_a_report_is_kept(rig: Rig, engine: Engine) -> None:
    action = submit(engine)
    fault = Fault(code="GuestNotFound", message="it is not here", host="compute:host1")
    engine.report(outcome(rig, action, Result.FAILED, fault=fault))
    assert rig.faults() == [("GuestNotFound", "it is not here")]
    assert row(rig, action).error == "it is not here"


NAMED = CTXT.naming("0f6b4c1e-7d1b-4a57-9d4e-5a8c7a0b8f11")


def test_what_is_asked_for_again_is_not_done_again(rig: Rig, engine: Engine) -> None:
    assert engine.submit(NAMED, Verb.STOP, INSTANCE, {}) == NAMED.action_id
    other = Engine(rig.database, rig.services, "there")
    assert other.submit(NAMED, Verb.STOP, INSTANCE, {}) == NAMED.action_id
    assert rig.computes.sent == [("stop_instance", "host1")]
    with pytest.raises(InstanceBusy):
        engine.submit(CTXT, Verb.STOP, INSTANCE, {})


def test_boot_whose_commit_was_not_answered_is_done_once(
    rig: Rig, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, losses = rig.database._write, [DBConnectionError("the connection was closed")]

    def write(*args: Any) -> Any:
        result = real(*args)
        if losses:
            raise losses.pop()
        return result

    monkeypatch.setattr(rig.database, "_write", write)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    action = engine.boot(CTXT, BootRequest(name="new", vcpus=1, memory_mb=1, disk_gb=1))
    with rig.database.read() as session:
        assert [row.id for row in session.scalars(select(models.Action))] == [action]
        assert len(session.scalars(select(models.Instance)).all()) == 2
    assert [method for method, _host in rig.computes.sent] == ["build_and_run_instance"]
