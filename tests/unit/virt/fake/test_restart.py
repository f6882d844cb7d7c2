"""A fake migration is where it would be by now, whoever was killed on the way."""

import json
from pathlib import Path

import pytest

from minova.exception import (
    GuestNotFound,
    MigrationAborted,
)
from minova.objects import Guest
from minova.virt.fake import FakeDriver
from tests.contract.rig import DATA, INSTANCE, OPTIONS, PAUSED, RUNNING, SHUTDOWN, UUID, leave_under_way, migrate, state
from tests.unit.virt.rig import FakeRig, Killed

MIB = 2**20


def test_joined_after_a_kill(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    began = rig.clock.now
    rig.clock.killed_at = began + 1
    with pytest.raises(Killed):
        migrate(source)
    rig.clock.now = began + 2
    assert rig.driver("source").get_guest(UUID) == Guest(
        uuid=UUID, name="web", power_state=RUNNING, migrating_to="destination"
    )
    # What the options say now is for migrations that begin now.
    rig.never_converge()
    reports = migrate(rig.driver("source")).reports
    assert reports[0].elapsed == pytest.approx(2)
    assert reports[0].done_bytes == pytest.approx(128 * MIB, abs=1)
    assert rig.clock.now - began == pytest.approx(3.75, abs=0.005)
    assert state(destination) is RUNNING


def test_joined_when_it_is_over_but_for_the_switch_over(
    rig: FakeRig, source: FakeDriver, destination: FakeDriver
) -> None:
    leave_under_way(source)
    rig.clock.now += 1000
    rig.clock.slept.clear()
    reports = migrate(rig.driver("source")).reports
    assert [report.remaining_bytes for report in reports] == [0]
    assert rig.clock.slept == []
    assert state(destination) is RUNNING


def test_aborted_by_another_process(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    other = rig.driver("source")
    with pytest.raises(MigrationAborted):
        source.live_migration(INSTANCE, "destination", OPTIONS, DATA, lambda _: other.live_migration_abort(UUID))


def test_an_abort_outlives_a_kill(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    leave_under_way(source)
    rig.driver("source").live_migration_abort(UUID)
    here = (Guest(uuid=UUID, name="web", power_state=RUNNING),)
    restarted = rig.driver("source")
    assert restarted.list_guests() == here
    with pytest.raises(MigrationAborted):
        migrate(restarted)
    assert (restarted.list_guests(), destination.list_guests()) == (here, ())
    migrate(restarted)
    assert state(destination) is RUNNING


def test_an_abort_does_not_concern_a_migration_to_another_host(
    rig: FakeRig, source: FakeDriver, destination: FakeDriver
) -> None:
    leave_under_way(source)
    source.live_migration_abort(UUID)
    third = rig.driver("third")
    migrate(source, to="third")
    assert state(third) is RUNNING


def test_force_outlives_a_kill(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    rig.never_converge()
    leave_under_way(source)
    rig.driver("source").live_migration_force_complete(UUID)
    restarted = rig.driver("source")
    assert state(restarted) is PAUSED
    migrate(restarted)
    assert (state(restarted), state(destination)) == (None, RUNNING)


def test_killed_after_the_switch_over(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    migrate(source)
    file = rig.file("destination")
    assert json.loads(file.read_text())["migration"] is not None
    arrived = (Guest(uuid=UUID, name="web", power_state=RUNNING),)
    assert rig.driver("destination").list_guests() == arrived
    migrate(rig.driver("source"))
    destination.live_migration_abort(UUID)
    destination.post_live_migration_at_destination(INSTANCE)
    assert json.loads(file.read_text())["migration"] is None
    assert destination.list_guests() == arrived


def test_killed_between_shutting_down_and_handing_over(
    rig: FakeRig, source: FakeDriver, destination: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(Killed):
            source.migrate_disk_and_power_off(INSTANCE, "destination")
    restarted = rig.driver("source")
    assert (state(restarted), state(destination)) == (SHUTDOWN, None)
    restarted.migrate_disk_and_power_off(INSTANCE, "destination")
    assert (state(restarted), state(destination)) == (None, SHUTDOWN)


def test_a_cold_migration_forgets_a_live_one(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    third = rig.driver("third")
    leave_under_way(source)
    source.migrate_disk_and_power_off(INSTANCE, "third")
    third.finish_migration(INSTANCE, power_on=True)
    assert third.list_guests() == (Guest(uuid=UUID, name="web", power_state=RUNNING),)


def test_a_guest_that_did_not_arrive(source: FakeDriver, destination: FakeDriver) -> None:
    leave_under_way(source)
    with pytest.raises(GuestNotFound):
        destination.post_live_migration_at_destination(INSTANCE)
