"""Two releases of conductors side by side: an older one leaves to a newer what it does not know, and harms nothing."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from sqlalchemy import select, text, true
from sqlalchemy.orm import Session

from minova.conductor import foreign
from minova.conductor.engine import Engine
from minova.conductor.leases import Leases
from minova.conductor.listening import Listening
from minova.conductor.migrations import Migrations
from minova.conductor.tasks import TASKS
from minova.conductor.tasks.step import Kind
from minova.db import models
from minova.exception import ActionUnknown, DatabaseError
from minova.notifications.catalogue import Notification
from minova.objects import MigrationProgress, Order, Outcome, Result, utcnow
from minova.states import ActionStatus, MigrationEvent, MigrationStatus, Verb, VmState
from tests.unit.conductor.rig import INSTANCE, Rig
from tests.unit.rows import an_instance

Break = Callable[[Rig, str], None]


class Idle:
    """A pool that does nothing of what it is given."""

    def submit(self, *_args: Any) -> None: ...

    def shutdown(self, wait: bool) -> None: ...


@pytest.fixture
def engine(rig: Rig) -> Engine:
    engine = Engine(rig.database, rig.services, "here")
    engine.stop()
    engine._pools = dict.fromkeys(Kind, cast("Any", Idle()))
    return engine


@pytest.fixture
def leases(rig: Rig, engine: Engine) -> Leases:
    listening = Listening(rig.conf)
    listening.since = utcnow() - timedelta(hours=1)
    return Leases(rig.conf, rig.database, engine, listening)


@pytest.fixture
def order(rig: Rig) -> Order:
    """The order of a live migration that is being carried out; its lease has run out."""
    action = rig.begin(Verb.LIVE_MIGRATE, options={})
    for _ in range(2):
        rig.succeed(action)
    rig.change(models.Action, action.id, lease_expires_at=ago(1), owner="newer/1")
    with rig.database.read() as session:
        return rig.machine.load(session, session.get_one(models.Action, action.id)).order


def ago(seconds: float) -> Any:
    return utcnow() - timedelta(seconds=seconds)


def another_step(rig: Rig, action: str) -> None:
    rig.change(models.Action, action, step="step_of_tomorrow")


def another_way_back(rig: Rig, action: str) -> None:
    rig.change(models.Action, action, undo_to="step_of_tomorrow")


def another_version(rig: Rig, action: str) -> None:
    with rig.database.read() as session:
        data = session.get_one(models.Action, action).data
    rig.change(models.Action, action, data={**data, "version": "1.99"})


def another_verb(rig: Rig, action: str) -> None:
    """With the task state that goes with it."""
    rig.database.write(lambda session: session.execute(text("update actions set verb = 'suspend'")))
    rig.database.write(lambda session: session.execute(text("update instances set task_state = 'suspending'")))


def odd_version(rig: Rig, action: str) -> None:
    """One that is none."""
    rig.change(models.Action, action, data={"version": "1.1.0"})


def odd_data(rig: Rig, action: str) -> None:
    """No object at all."""
    rig.database.write(lambda session: session.execute(text("update actions set data = '[1]'")))


def broken_data(rig: Rig, action: str) -> None:
    rig.database.write(lambda session: session.execute(text("update actions set data = '{'")))


def another_image(rig: Rig, action: str) -> None:
    """The action could be gone on with, but its instance cannot be read."""
    rig.change(models.Instance, INSTANCE, image={"of": "tomorrow"})


odd = (odd_version, odd_data, broken_data, another_image)
every_kind = pytest.mark.parametrize(
    "make_foreign", [another_step, another_way_back, another_version, another_verb, *odd]
)
with_its_verb = pytest.mark.parametrize("make_foreign", [another_step, another_way_back, another_version, odd_version])


def stored(rig: Rig, action: str) -> Any:
    """Return an action's columns, without reading what may be unknown."""
    with rig.database.read() as session:
        columns = "status, owner, step, sequence, attempt, cancel_requested, error"
        return session.execute(text(f"select {columns} from actions where id = :id"), {"id": action}).one()


def outcome(order: Order) -> Outcome:
    now = utcnow()
    return Outcome(order=order, host="host1", result=Result.SUCCEEDED, received_at=now, started_at=now, finished_at=now)


def test_every_action_bears_the_version_of_its_task(rig: Rig, order: Order) -> None:
    with rig.database.read() as session:
        assert session.get_one(models.Action, order.action_id).data["version"] == TASKS[Verb.LIVE_MIGRATE].version


def test_action_of_before_there_were_versions_is_known(rig: Rig, leases: Leases, order: Order) -> None:
    with rig.database.read() as session:
        data = {**session.get_one(models.Action, order.action_id).data}
    del data["version"]
    rig.change(models.Action, order.action_id, data=data)
    leases.sweep()
    assert stored(rig, order.action_id).attempt == 2


@pytest.mark.parametrize(("own", "its", "known"), [("1.2", "1.1", True), ("1.0", "1.1", False), ("2.0", "1.1", False)])
def test_older_version_of_a_task_is_known_up_to_the_major(
    monkeypatch: pytest.MonkeyPatch, own: str, its: str, known: bool
) -> None:
    monkeypatch.setattr(TASKS[Verb.STOP], "version", own)
    assert (foreign.why_unknown("stop", "power_off", "", {"version": its}) == "") is known


@every_kind
def test_sweep_leaves_it_to_a_newer_conductor(
    rig: Rig, leases: Leases, order: Order, make_foreign: Break, caplog: pytest.LogCaptureFixture
) -> None:
    make_foreign(rig, order.action_id)
    before = stored(rig, order.action_id)
    for _ in range(3):
        leases.sweep()
    assert stored(rig, order.action_id) == before
    warnings = [record for record in caplog.records if order.action_id in record.message]
    assert [record.levelname for record in warnings] == ["WARNING"], "it is told, and told once"
    assert "left to conductors of another release" in warnings[0].message


@every_kind
def test_host_that_returns_is_not_sent_it(rig: Rig, leases: Leases, order: Order, make_foreign: Break) -> None:
    make_foreign(rig, order.action_id)
    before = stored(rig, order.action_id)
    leases.host_returned("host3", [])
    leases.host_returned("host2", [])
    leases.host_returned("host1", [])
    leases.sweep()
    assert stored(rig, order.action_id) == before


@every_kind
def test_many_of_them_do_not_hold_up_the_others(
    rig: Rig, leases: Leases, order: Order, make_foreign: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_foreign(rig, order.action_id)
    monkeypatch.setattr(foreign, "BATCH", 1)
    rig.database.write(lambda session: session.add(an_instance("other-uuid", host="host2")))
    other = rig.begin(Verb.STOP, instance="other-uuid")
    rig.change(models.Action, other.id, lease_expires_at=ago(0.5))
    leases.sweep()
    assert stored(rig, other.id).attempt == 2


def test_no_more_is_read_than_one_sweep_is_for(rig: Rig, order: Order, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "BATCH", 1)
    rig.database.write(lambda session: session.add(an_instance("other-uuid", host="host2")))
    rig.begin(Verb.STOP, instance="other-uuid")
    with rig.database.read() as session:
        assert [each.id for each in foreign.open_actions(session, true(), enough=1)] == [order.action_id]
        assert len(foreign.open_actions(session, true())) == 2


@with_its_verb
def test_outcome_is_refused_so_that_the_compute_offers_it_to_another(
    rig: Rig, engine: Engine, order: Order, make_foreign: Break
) -> None:
    make_foreign(rig, order.action_id)
    before = stored(rig, order.action_id)
    with pytest.raises(ActionUnknown) as refusal:
        engine.report(outcome(order))
    assert "was begun by another release of minova" in refusal.value.message
    assert stored(rig, order.action_id) == before


def test_outcome_of_an_unknown_operation_is_refused_in_a_line(rig: Rig, engine: Engine, order: Order) -> None:
    another_verb(rig, order.action_id)
    with pytest.raises(DatabaseError) as refusal:
        engine.report(outcome(order))
    assert refusal.value.message == (
        "database: it holds the Verb 'suspend', which a newer release of minova wrote: upgrade this one"
    )


@with_its_verb
def test_progress_is_passed_over(rig: Rig, engine: Engine, order: Order, make_foreign: Break) -> None:
    make_foreign(rig, order.action_id)
    before = stored(rig, order.action_id)
    migrations = Migrations(rig.conf, rig.database, rig.services, engine)
    migrations.progress(order, MigrationEvent.START, MigrationProgress())
    assert stored(rig, order.action_id) == before


@with_its_verb
def test_request_to_cancel_waits_for_a_conductor_that_knows_how(
    rig: Rig, engine: Engine, order: Order, make_foreign: Break
) -> None:
    make_foreign(rig, order.action_id)
    rig.computes.sent.clear()
    engine.cancel(order.action_id)
    assert stored(rig, order.action_id).cancel_requested
    assert rig.computes.sent == []


@every_kind
def test_what_nobody_takes_for_long_ends_and_the_operator_is_told(
    rig: Rig, leases: Leases, order: Order, make_foreign: Break
) -> None:
    make_foreign(rig, order.action_id)
    told: list[Notification] = []
    rig.database.publish_to(told.append)
    rig.change(models.Service, ("minova-compute", "host1"), rpc_version="1.2")
    rig.database.write(lambda session: session.execute(*expired(order.action_id, seconds=301)))
    sequence = stored(rig, order.action_id).sequence
    leases.sweep()
    ended = stored(rig, order.action_id)
    assert (ended.status, ended.sequence) == (ActionStatus.FAILED, sequence + 1)
    assert "no conductor can go on with it" in ended.error
    states = select(models.Instance.vm_state, models.Instance.task_state)
    with rig.database.read() as session:
        assert session.execute(states).one() == (VmState.ERROR, None)
    assert rig.migration.status is MigrationStatus.ERROR
    assert rig.rooms() == ["host1"], "the instance keeps its room where it lives, and no other"
    assert rig.faults()[-1] == ("ActionUnknown", ended.error)
    assert rig.migration.unclear_hosts == ["host1", "host2"]
    # What cannot be read cannot be told.
    events = [] if make_foreign in (another_verb, broken_data) else ["migration.error", "instance.live_migration.error"]
    assert [each.event_type for each in told] == events
    leases.sweep()
    assert stored(rig, order.action_id) == ended


def expired(action: str, seconds: float) -> tuple[Any, dict[str, Any]]:
    """Return how to let a lease be over, without reading what may be unknown."""
    when = ago(seconds).replace(tzinfo=None).isoformat(sep=" ")
    return text("update actions set lease_expires_at = :when where id = :id"), {"when": when, "id": action}


@every_kind
def test_conductor_that_has_just_come_does_not_end_it(
    rig: Rig, leases: Leases, order: Order, make_foreign: Break
) -> None:
    """All conductors may have been down for an hour, and a newer one may be about to come too."""
    make_foreign(rig, order.action_id)
    rig.database.write(lambda session: session.execute(*expired(order.action_id, seconds=3600)))
    leases._listening.since = ago(5)
    leases.sweep()
    assert stored(rig, order.action_id).status == ActionStatus.RUNNING


def test_it_is_not_ended_if_another_conductor_was_faster(
    rig: Rig, leases: Leases, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_step(rig, order.action_id)
    rig.database.write(lambda session: session.execute(*expired(order.action_id, seconds=301)))
    real = foreign.open_actions

    def late(session: Session, condition: Any, **more: Any) -> Any:
        found = real(session, condition, **more)
        rig.change(models.Action, order.action_id, sequence=99, owner="newer/1")
        return found

    monkeypatch.setattr("minova.conductor.leases.foreign.open_actions", late)
    leases.sweep()
    assert (stored(rig, order.action_id).status, rig.faults()) == (ActionStatus.RUNNING, [])


def test_one_that_cannot_even_be_ended_does_not_hold_up_the_others(
    rig: Rig, leases: Leases, order: Order, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    another_step(rig, order.action_id)
    rig.database.write(lambda session: session.execute(*expired(order.action_id, seconds=301)))
    rig.database.write(lambda session: session.add(an_instance("other-uuid", host="host2")))
    other = rig.begin(Verb.STOP, instance="other-uuid")
    rig.change(models.Action, other.id, lease_expires_at=ago(0.5))

    def accident(*_args: Any, **_more: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(leases._foreign._scheduler, "release_all", accident)
    leases.sweep()
    assert stored(rig, other.id).attempt == 2
    assert f"Action {order.action_id} could not be ended" in caplog.text
