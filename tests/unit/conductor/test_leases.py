"""Leases: what is being worked on is left alone, and what nobody works on is taken over."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from sqlalchemy.orm import Session

from minova.conductor import foreign
from minova.conductor.engine import Engine
from minova.conductor.leases import Leases
from minova.conductor.listening import Listening
from minova.conductor.tasks import Task
from minova.db import models
from minova.db.queries import COMPUTE
from minova.objects import utcnow
from minova.states import Verb, VmState
from tests.unit.clock import Clock
from tests.unit.conductor.rig import INSTANCE, Rig
from tests.unit.rows import an_instance


class FakeEngine:
    """As much of an engine as leases need: it notes what it is to carry on with."""

    def __init__(self, rig: Rig) -> None:
        self.machine = rig.machine
        self.name = "conductor:here"
        self.owner = "here/1"
        self.active: list[str] = []
        self.carried: list[str] = []

    def active_actions(self) -> list[str]:
        return self.active

    def carry_on(self, task: Task) -> None:
        self.carried.append(task.action.id)


@pytest.fixture
def engine(rig: Rig) -> FakeEngine:
    return FakeEngine(rig)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def listening(rig: Rig, clock: Clock) -> Listening:
    return Listening(rig.conf, clock)


@pytest.fixture
def leases(rig: Rig, engine: FakeEngine, listening: Listening) -> Leases:
    return Leases(rig.conf, rig.database, cast("Engine", engine), listening)


@pytest.fixture
def action(rig: Rig) -> models.Action:
    """An action that waits for host1, and whose lease has run out."""
    action = rig.begin(Verb.STOP)
    change(rig, action, lease_expires_at=ago(1), owner="other/1")
    return action


def ago(seconds: float) -> Any:
    return utcnow() - timedelta(seconds=seconds)


def change(rig: Rig, action: models.Action, **values: Any) -> None:
    rig.change(models.Action, action.id, **values)


def row(rig: Rig, action: models.Action) -> models.Action:
    with rig.database.read() as session:
        return session.get_one(models.Action, action.id)


def test_action_whose_lease_has_run_out_is_taken_over(
    rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action
) -> None:
    leases.sweep()
    now = row(rig, action)
    assert engine.carried == [action.id]
    assert (now.owner, now.attempt, now.sequence) == ("here/1", 2, action.sequence + 1)
    assert now.lease_expires_at > utcnow()
    assert now.waits_for == "host1"


def test_order_of_an_action_that_was_taken_over_is_no_new_one(rig: Rig, leases: Leases, action: models.Action) -> None:
    before = rig.visit(action)
    for _ in range(2):
        leases.sweep()
        change(rig, action, lease_expires_at=ago(1))
    assert (row(rig, action).attempt, rig.visit(action)) == (3, before)


def test_action_whose_lease_lasts_is_left_alone(
    rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action
) -> None:
    change(rig, action, lease_expires_at=utcnow() + timedelta(seconds=5))
    leases.sweep()
    assert (engine.carried, row(rig, action).attempt) == ([], 1)


def test_action_that_has_ended_is_left_alone(
    rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action
) -> None:
    rig.succeed(action)
    change(rig, action, lease_expires_at=ago(1))
    leases.sweep()
    assert engine.carried == []


def test_action_that_another_was_faster_with_is_left_alone(
    rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action
) -> None:
    leases._take_over(action.id, action.sequence - 1)
    assert (engine.carried, row(rig, action).attempt) == ([], 1)


def test_silent_host_is_waited_for(rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action) -> None:
    rig.change(models.Service, (COMPUTE, "host1"), last_seen_at=ago(1000))
    leases.sweep()
    now = row(rig, action)
    assert (engine.carried, now.sequence) == ([], action.sequence)
    assert now.lease_expires_at > utcnow()


def test_patience_with_a_silent_host_has_an_end(
    rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action
) -> None:
    leases._listening.since = ago(400)
    change(rig, action, heard_at=ago(301))
    leases.sweep()
    assert rig.at(action) == "failed"
    assert rig.faults() == [("PeerSilent", "compute on host1 did not answer within 300 s")]


def test_silence_while_no_conductor_was_there_is_nobodys_fault(
    rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action
) -> None:
    change(rig, action, heard_at=ago(10_000))
    leases.sweep()
    assert (rig.faults(), engine.carried) == ([], [action.id])
    # Or the compute would find that what it is sent again comes too late.
    with rig.database.read() as session:
        order = rig.machine.load(session, session.get_one(models.Action, action.id)).order
    assert order.deadline > utcnow() + timedelta(seconds=200)


def test_what_a_conductor_could_not_hear_is_nobodys_fault(
    rig: Rig, leases: Leases, listening: Listening, clock: Clock, engine: FakeEngine, action: models.Action
) -> None:
    listening.since = ago(1000)
    change(rig, action, heard_at=ago(400))
    clock.go_on(400)
    for end_of_the_gap in (listening.heard, listening.stored):
        leases.sweep()
        assert (rig.faults(), engine.carried) == ([], []), "it could do nothing for it"
        end_of_the_gap()
    leases.sweep()
    assert (rig.faults(), engine.carried) == ([], [action.id])


def test_database_that_is_away_in_the_middle_of_a_sweep_is_nobodys_fault(
    rig: Rig, leases: Leases, listening: Listening, clock: Clock, engine: FakeEngine, action: models.Action
) -> None:
    listening.since = ago(1000)
    change(rig, action, heard_at=ago(400))
    clock.go_on(400)
    leases._take_over(action.id, action.sequence)
    assert (rig.faults(), engine.carried, row(rig, action).sequence) == ([], [], action.sequence)


def test_conductor_without_the_broker_keeps_nothing_from_the_others(
    rig: Rig, leases: Leases, clock: Clock, engine: FakeEngine, action: models.Action
) -> None:
    change(rig, action, owner=engine.owner)
    engine.active = [action.id]
    clock.go_on(rig.conf.conductor.lease + 1)
    leases.renew()
    assert row(rig, action).lease_expires_at < utcnow()
    # Any host's news shows that it is back.
    leases.renew_orders([])
    leases.renew()
    assert row(rig, action).lease_expires_at > utcnow()


def test_conductors_that_come_and_go_take_nobodys_patience(rig: Rig, leases: Leases, action: models.Action) -> None:
    """One that was there all the time knows better."""
    heard_at = ago(1000)
    change(rig, action, heard_at=heard_at)
    rig.change(models.Service, (COMPUTE, "host1"), last_seen_at=ago(1000))
    leases.sweep()
    assert row(rig, action).heard_at == heard_at


def test_action_that_was_renewed_just_now_is_left_alone(
    rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action
) -> None:
    leases.renew_orders([(action.id, action.sequence)])
    leases._take_over(action.id, action.sequence)
    assert (engine.carried, row(rig, action).attempt) == ([], 1)


def test_host_that_is_forced_down_is_not_waited_for(rig: Rig, leases: Leases, action: models.Action) -> None:
    rig.change(models.Service, (COMPUTE, "host1"), forced_down=True)
    leases.sweep()
    assert rig.at(action) == "failed"
    assert rig.faults() == [("PeerSilent", "host host1 cannot be used: it was forced down")]


def test_renewal_of_an_order_is_a_sign_of_life(rig: Rig, leases: Leases, action: models.Action) -> None:
    change(rig, action, heard_at=ago(200))
    leases.renew_orders([(action.id, action.sequence)])
    now = row(rig, action)
    assert now.lease_expires_at > utcnow()
    assert now.heard_at > ago(10)


def test_renewal_by_a_host_that_is_forced_down_is_not(
    rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action
) -> None:
    """Its hypervisor may hang, and its compute say for ever that it works on it; nor does one wait for its answer."""
    rig.change(models.Service, (COMPUTE, "host1"), forced_down=True)
    change(rig, action, owner=engine.owner)
    engine.active = [action.id]
    leases.renew_orders([(action.id, action.sequence)])
    leases.renew()
    assert row(rig, action).lease_expires_at < utcnow()


@pytest.mark.parametrize("offset", [-1, 1])
def test_renewal_of_another_order_is_not(rig: Rig, leases: Leases, action: models.Action, offset: int) -> None:
    leases.renew_orders([(action.id, action.sequence + offset), ("unknown", 1)])
    assert row(rig, action).lease_expires_at < utcnow()


def test_leases_of_what_threads_work_on_are_renewed(
    rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action
) -> None:
    engine.active = [action.id]
    leases.renew()
    assert row(rig, action).lease_expires_at < utcnow(), "it is another conductor's"
    change(rig, action, owner="here/1")
    leases.renew()
    assert row(rig, action).lease_expires_at > utcnow()


def test_lease_of_what_a_compute_was_asked_too_long_ago_is_not_renewed(
    rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action
) -> None:
    """Its process may say for as long as it likes that it is at it."""
    engine.active = [action.id]
    change(rig, action, owner="here/1", heard_at=ago(301))
    leases.renew()
    assert row(rig, action).lease_expires_at > utcnow(), "nobody was there to hear it"
    change(rig, action, lease_expires_at=ago(1))
    leases._listening.since = ago(301)
    leases.renew()
    assert row(rig, action).lease_expires_at < utcnow()
    leases.sweep()
    assert rig.at(action) == "failed"


def test_what_is_handed_over_is_not_taken_back(
    rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action
) -> None:
    """The timers of a conductor that stops go on for a while."""
    change(rig, action, owner="here/1", lease_expires_at=utcnow() + timedelta(hours=1))
    engine.active = [action.id]
    leases.hand_over()
    handed_over = row(rig, action).lease_expires_at
    assert handed_over <= utcnow()
    leases.renew()
    leases.sweep()
    assert row(rig, action).lease_expires_at == handed_over
    assert engine.carried == []


def test_only_what_is_its_own_is_handed_over(
    rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action
) -> None:
    expiry = utcnow() + timedelta(hours=1)
    change(rig, action, lease_expires_at=expiry)
    engine.active = [action.id]
    leases.hand_over()
    assert row(rig, action).lease_expires_at == expiry


def test_action_that_cannot_be_taken_over_does_not_hold_up_the_others(
    rig: Rig,
    leases: Leases,
    engine: FakeEngine,
    action: models.Action,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig.database.write(lambda session: session.add(an_instance("other-uuid", host="host2")))
    other = rig.begin(Verb.STOP, instance="other-uuid")
    change(rig, other, lease_expires_at=ago(0.5))

    def load(session: Session, row: models.Action, real: Callable[..., Task] = rig.machine.load) -> Task:
        assert row.id != action.id, "an accident"
        return real(session, row)

    monkeypatch.setattr(rig.machine, "load", load)
    leases.sweep()
    assert engine.carried == [other.id]
    assert f"Action {action.id} could not be taken over" in caplog.text


def test_returned_host_is_sent_what_it_does_not_hold(
    rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action
) -> None:
    change(rig, action, lease_expires_at=utcnow() + timedelta(hours=1))
    leases.host_returned("host1", [(action.id, action.sequence)])
    leases.host_returned("host2", [])
    leases.sweep()
    assert engine.carried == []
    leases.host_returned("host1", [(action.id, action.sequence - 1)])
    leases.sweep()
    assert engine.carried == [action.id]
    assert (row(rig, action).attempt, rig.instance.vm_state) == (2, VmState.ACTIVE)
    assert row(rig, action).instance_uuid == INSTANCE


def test_answer_to_a_returned_host_does_not_wait_for_what_it_is_sent(
    rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action
) -> None:
    """It has no more patience for many of them than for one: it would return again, and lose what it was just sent."""
    change(rig, action, lease_expires_at=utcnow() + timedelta(hours=1))
    leases.host_returned("host1", [])
    now = row(rig, action)
    assert (engine.carried, now.attempt, now.sequence) == ([], 1, action.sequence)
    assert now.lease_expires_at <= utcnow()


def test_lease_that_is_over_is_not_made_longer_by_a_return(rig: Rig, leases: Leases, action: models.Action) -> None:
    """What no conductor knows is ended once that has been so for long, however often its host returns."""
    before = row(rig, action).lease_expires_at
    leases.host_returned("host1", [])
    assert row(rig, action).lease_expires_at == before


def test_returned_host_is_sent_more_than_one_sweep_is_for(
    rig: Rig, leases: Leases, engine: FakeEngine, action: models.Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreign, "BATCH", 1)
    rig.database.write(lambda session: session.add(an_instance("other-uuid", host="host1")))
    other = rig.begin(Verb.STOP, instance="other-uuid")
    leases.host_returned("host1", [])
    leases.sweep()
    leases.sweep()
    assert engine.carried == [action.id, other.id]
