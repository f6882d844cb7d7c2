"""What is announced of actions, by the transactions that are committed."""

import pytest
from sqlalchemy.orm import Session

from minova.conductor import faults
from minova.conductor.tasks.live_migrate import LiveMigrationTask
from minova.db.session import Database
from minova.exception import HostUnusable, InstanceBusy
from minova.notifications.catalogue import Notification
from minova.notifications.payloads import ExceptionPayload, InstanceActionPayload, MigrationPayload
from minova.objects import Fault
from minova.states import ActionStatus, MigrationEvent, Verb
from tests.unit.conductor.rig import ACCIDENT, INSTANCE, NO_ROOM, Rig


@pytest.fixture
def told(database: Database) -> list[Notification]:
    told: list[Notification] = []
    database.publish_to(told.append)
    return told


def types(told: list[Notification]) -> list[str]:
    return [each.event_type for each in told]


def test_start_comes_before_what_it_leads_to(rig: Rig, told: list[Notification]) -> None:
    rig.begin(Verb.LIVE_MIGRATE, options={})
    assert types(told) == ["instance.live_migration.start", "migration.accepted"]
    start = told[0].payload
    assert isinstance(start, InstanceActionPayload)
    assert (start.verb, start.status, start.task_state, start.user) == ("live-migrate", "running", "migrating", "me")


def test_request_that_is_refused_is_not_announced(rig: Rig, told: list[Notification]) -> None:
    rig.begin(Verb.STOP)
    told.clear()
    with pytest.raises(InstanceBusy):
        rig.begin(Verb.STOP)
    assert told == []


def test_each_stage_of_a_migration_is_announced(rig: Rig, told: list[Notification]) -> None:
    action = rig.begin(Verb.LIVE_MIGRATE, options={})
    rig.walk(action)
    moves = [each.payload for each in told if isinstance(each.payload, MigrationPayload)]
    assert [move.status for move in moves] == ["accepted", "preparing", "running", "completed"]
    assert types(told)[-2:] == ["migration.completed", "instance.live_migration.end"]
    assert {move.instance_name for move in moves} == {rig.instance.name}


def test_step_that_is_rolled_back_is_not_announced(
    rig: Rig, told: list[Notification], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new status is written down, and then something else of the same step goes wrong."""
    action = rig.begin(Verb.LIVE_MIGRATE, options={})
    told.clear()
    real = LiveMigrationTask.advance_migration

    def burst(task: LiveMigrationTask, session: Session, event: MigrationEvent) -> None:
        real(task, session, event)
        raise HostUnusable(host="host2", reason="it burns")

    monkeypatch.setattr(LiveMigrationTask, "advance_migration", burst)
    rig.succeed(action)
    rig.succeed(action)
    assert types(told) == ["migration.failed", "instance.live_migration.error"]
    assert rig.migration.status == "failed"


def test_error_that_nobody_expected_is_announced_once(rig: Rig, told: list[Notification]) -> None:
    action = rig.begin(Verb.STOP)
    rig.fail(action, ACCIDENT)
    assert types(told) == ["instance.power_off.start", "compute.exception", "instance.power_off.error"]
    payload = told[1].payload
    assert isinstance(payload, ExceptionPayload)
    assert (payload.exception, payload.exception_message) == ("RuntimeError", "boom")
    assert (payload.instance_uuid, payload.action_id) == (INSTANCE, action.id)


@pytest.mark.parametrize(
    ("fault", "is_told"),
    [(NO_ROOM, False), (ACCIDENT, True), (Fault(code="ServiceFault", message="a peer met KeyError"), True)],
)
def test_only_what_nobody_expected_is_an_exception(
    rig: Rig, told: list[Notification], fault: Fault, is_told: bool
) -> None:
    def work(session: Session) -> None:
        faults.record(session, INSTANCE, None, fault)

    rig.database.write(work)
    assert types(told) == ["compute.exception"] * is_told


def test_cancelled_action_ends_as_an_error_that_says_so(rig: Rig, told: list[Notification]) -> None:
    action = rig.begin(Verb.LIVE_MIGRATE, options={})
    rig.cancel(action)
    rig.succeed(action)
    while " on " in rig.at(action):
        rig.succeed(action)
    end = told[-1]
    assert end.event_type == "instance.live_migration.error"
    assert isinstance(end.payload, InstanceActionPayload)
    assert end.payload.status is ActionStatus.CANCELLED
    assert types(told)[-2] == "migration.cancelled"
