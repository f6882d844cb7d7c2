"""Cold migration: the guest is shut down, its disks move, and it runs again if it ran before."""

from collections.abc import Callable

import pytest

from minova.exception import (
    HostNotFound,
    HostUnusable,
    InvalidInput,
    InvalidState,
    MinovaError,
    NoValidHost,
)
from minova.objects import Action, Hop
from minova.states import ActionStatus, MigrationStatus, MigrationType, PowerState, TaskState, VmState
from minova.virt.fake import FakeDriver
from tests.fixtures.doubts import hear
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab
from tests.fixtures.moves import hosts_of, refused, rooms


def migrate(lab: Lab, to: str | None = None) -> Action:
    return lab.api.migrate_instance(lab.ctxt, "vm", to)


def assert_nothing_has_moved(lab: Lab, state: VmState = VmState.ACTIVE) -> None:
    """Check that the instance is on host1, and its guest as it was."""
    instance = lab.instance()
    assert (instance.host, instance.vm_state, instance.task_state) == ("host1", state, None)
    guest = lab.guest("host1", instance.uuid)
    assert guest is not None
    assert guest["power_state"] == ("running" if state is VmState.ACTIVE else "shutdown")
    assert hosts_of(lab, instance.uuid) == ["host1"]
    assert rooms(lab) == {"host1": ["vm"], "host2": []}


def test_guest_that_ran_runs_at_the_host_that_was_asked_for(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("host1", "host2", "host3")
    uuid = lab.boot(host="host1").uuid
    action = lab.succeed(migrate(lab, "host3"))
    after = lab.instance()
    assert (after.host, after.vm_state, after.power_state) == ("host3", VmState.ACTIVE, PowerState.RUNNING)
    assert hosts_of(lab, uuid) == ["host3"]
    assert rooms(lab) == {"host1": [], "host2": [], "host3": ["vm"]}
    migration = lab.migration(action)
    assert (migration.migration_type, migration.status) == (MigrationType.COLD, MigrationStatus.COMPLETED)
    assert (migration.source_host, migration.dest_host) == ("host1", "host3")


def test_guest_that_was_stopped_stays_stopped(lab: Lab) -> None:
    uuid = lab.boot(host="host1").uuid
    lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    lab.succeed(migrate(lab))
    after = lab.instance()
    assert (after.host, after.vm_state, after.power_state) == ("host2", VmState.STOPPED, PowerState.SHUTDOWN)
    guest = lab.guest("host2", uuid)
    assert guest is not None
    assert guest["power_state"] == "shutdown"


def test_guest_is_off_while_its_disks_move(lab: Lab, gate: Callable[[str], Gate]) -> None:
    finish = gate("finish_migration")
    uuid = lab.boot(host="host1").uuid
    action = migrate(lab)
    finish.wait()
    assert lab.instance().task_state is TaskState.RESIZE_MIGRATING
    assert lab.migration(action).status is MigrationStatus.RUNNING
    guest = lab.guest("host2", uuid)
    assert guest is not None
    assert guest["power_state"] == "shutdown"
    assert rooms(lab) == {"host1": ["vm"], "host2": ["vm"]}
    finish.open()
    lab.succeed(action)


def test_guest_that_the_destination_cannot_have_is_not_shut_down(lab: Lab) -> None:
    lab.boot(host="host1")
    lab.set("fake", failures=["host2:check_can_spawn"])
    failed = lab.fail(migrate(lab))
    assert failed.error == "check_can_spawn on host host2: injected failure"
    assert lab.migration(failed).status is MigrationStatus.FAILED
    assert "move_disks" not in {event.step for event in lab.api.list_action_events(lab.ctxt, failed.id)}
    assert_nothing_has_moved(lab)


def test_guest_runs_again_at_the_source_if_its_disks_cannot_be_moved(lab: Lab) -> None:
    lab.boot(host="host1")
    lab.set("fake", failures=["migrate_disk_and_power_off"])
    failed = lab.fail(migrate(lab))
    assert failed.error == "migrate_disk_and_power_off on host host1: injected failure"
    assert lab.migration(failed).status is MigrationStatus.FAILED
    assert_nothing_has_moved(lab)
    lab.set("fake", failures=[])
    lab.succeed(migrate(lab))


def test_guest_that_was_shut_down_for_nothing_is_started_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.boot(host="host1")
    lab.guest_file("host2", "").parent.rmdir()
    failed = lab.fail(migrate(lab))
    assert "there is no fake host host2" in failed.error
    assert_nothing_has_moved(lab)


def test_stopped_guest_stays_stopped_if_its_disks_cannot_be_moved(lab: Lab) -> None:
    lab.boot(host="host1")
    lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    lab.set("fake", failures=["migrate_disk_and_power_off"])
    lab.fail(migrate(lab))
    assert_nothing_has_moved(lab, VmState.STOPPED)


def test_guest_that_cannot_be_started_at_the_destination_is_there_all_the_same(lab: Lab) -> None:
    uuid = lab.boot(host="host1").uuid
    lab.set("fake", failures=["host2:finish_migration"])
    failed = lab.fail(migrate(lab))
    assert "finish_at_destination on host host2 was not done" in failed.error
    assert lab.migration(failed).status is MigrationStatus.ERROR
    instance = lab.instance()
    assert (instance.host, instance.vm_state, instance.task_state) == ("host2", VmState.ERROR, None)
    assert hosts_of(lab, uuid) == ["host2"]
    assert rooms(lab) == {"host1": [], "host2": ["vm"]}
    lab.set("fake", failures=[])
    hear(lab, failed)
    assert lab.instance().vm_state is VmState.STOPPED, "the guest is seen there"
    lab.succeed(lab.api.start_instance(lab.ctxt, "vm"))


def test_failure_that_cannot_be_undone_leaves_the_instance_as_its_host_shows_it(lab: Lab) -> None:
    lab.boot(host="host1")
    lab.set("fake", failures=["migrate_disk_and_power_off", "finish_migration"])
    failed = lab.fail(migrate(lab))
    assert "restart_at_source on host host1 was not done: " in failed.error
    assert lab.migration(failed).status is MigrationStatus.ERROR
    assert (lab.instance().host, lab.instance().vm_state) == ("host1", VmState.ERROR)
    hear(lab, failed)
    assert (lab.instance().host, lab.instance().vm_state) == ("host1", VmState.ACTIVE)


@pytest.mark.parametrize("stopped", [False, True])
def test_cancelled_migration_brings_the_disks_back(lab: Lab, gate: Callable[[str], Gate], stopped: bool) -> None:
    move = gate("migrate_disk_and_power_off")
    lab.boot(host="host1")
    if stopped:
        lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    action = migrate(lab)
    move.wait()
    lab.api.cancel_action(lab.ctxt, action.id)
    move.open()
    assert lab.end_of(action).status is ActionStatus.CANCELLED
    assert lab.migration(action).status is MigrationStatus.CANCELLED
    assert_nothing_has_moved(lab, VmState.STOPPED if stopped else VmState.ACTIVE)
    work = [each for each in lab.api.list_action_events(lab.ctxt, action.id) if each.hop is Hop.WORK]
    assert [(each.step, each.service) for each in work] == [
        ("check_destination", "compute:host2"),
        ("move_disks", "compute:host1"),
        ("return_disks", "compute:host2"),
        ("restart_at_source", "compute:host1"),
    ]


@pytest.mark.meets_errors
@pytest.mark.parametrize("after", [False, True], ids=["before the move", "after the move"])
def test_accident_at_the_source_is_cleared_up_by_what_the_destination_says(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    real = FakeDriver.migrate_disk_and_power_off

    def trip(driver: FakeDriver, *args: object) -> None:
        if after:
            real(driver, *args)  # type: ignore[arg-type]
        raise RuntimeError("tripped")

    lab.boot(host="host1")
    monkeypatch.setattr(FakeDriver, "migrate_disk_and_power_off", trip)
    action = lab.end_of(migrate(lab))
    if after:
        assert action.status is ActionStatus.SUCCEEDED
        assert (lab.instance().host, lab.instance().vm_state) == ("host2", VmState.ACTIVE)
    else:
        assert action.status is ActionStatus.FAILED
        assert action.error.startswith("unexpected error: tripped; ")
        assert_nothing_has_moved(lab)


@pytest.mark.parametrize(
    ("before", "to", "kind", "words"),
    [
        (lambda lab: lab.succeed(lab.api.pause_instance(lab.ctxt, "vm")), None, InvalidState, "it is paused"),
        (lambda lab: lab.silence("host1"), None, HostUnusable, "host1 cannot be used: it was not heard from"),
        (lambda lab: None, "host1", InvalidInput, "is on host host1 already"),
        (lambda lab: None, "host9", HostNotFound, "no such host: host9"),
        (lambda lab: lab.silence("host2"), "host2", HostUnusable, "it is down, or was not heard from"),
        (lambda lab: lab.silence("host2"), None, NoValidHost, "up refused 1"),
    ],
    ids=["paused", "source silent", "same host", "no such host", "destination silent", "no host"],
)
def test_migration_is_refused(
    lab: Lab, before: Callable[[Lab], object], to: str | None, kind: type[MinovaError], words: str
) -> None:
    lab.boot(host="host1")
    before(lab)
    with refused(lab, kind, words):
        migrate(lab, to)
    assert lab.api.list_migrations(lab.ctxt, "vm") == []
