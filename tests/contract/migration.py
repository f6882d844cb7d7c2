"""What every virt driver has to do about live migrations."""

from contextlib import suppress
from dataclasses import replace

import pytest

from minova.exception import (
    DriverError,
    MigrationAborted,
    MigrationFailed,
    OperationRefused,
)
from minova.objects import Guest, Instance, MigrationOptions, MigrationProgress
from minova.states import PowerState
from minova.virt.driver import ComputeDriver
from tests.contract.rig import (
    DATA,
    OPTIONS,
    PAUSED,
    RUNNING,
    SHUTDOWN,
    UUID,
    Progress,
    Rig,
    leave_under_way,
    migrate,
    spawn_in,
    state,
)


@pytest.mark.parametrize("before", [RUNNING, PAUSED])
def test_check_can_live_migrate_changes_nothing(
    source: ComputeDriver, instance: Instance, destination: ComputeDriver, before: PowerState
) -> None:
    spawn_in(source, before, instance)
    guests = source.list_guests()
    source.check_can_live_migrate_source(instance, "destination", OPTIONS)
    assert source.list_guests() == guests
    assert destination.list_guests() == ()


@pytest.mark.parametrize(
    ("before", "to"), [(SHUTDOWN, "destination"), (RUNNING, "source"), (RUNNING, "nowhere")], ids=str
)
def test_check_can_live_migrate_refuses(
    source: ComputeDriver, instance: Instance, destination: ComputeDriver, before: PowerState, to: str
) -> None:
    spawn_in(source, before, instance)
    with pytest.raises(DriverError):
        source.check_can_live_migrate_source(instance, to, OPTIONS)
    assert state(source) is before


def test_pre_live_migration_refuses_a_guest_larger_than_the_host(
    destination: ComputeDriver, instance: Instance
) -> None:
    memory_mb = destination.capacity().memory_mb
    with pytest.raises(DriverError):
        destination.pre_live_migration(replace(instance, memory_mb=memory_mb + 1), OPTIONS, DATA)
    destination.pre_live_migration(replace(instance, memory_mb=memory_mb), OPTIONS, DATA)
    destination.pre_live_migration(replace(instance, memory_mb=memory_mb), OPTIONS, DATA)


@pytest.mark.parametrize("options", [OPTIONS, MigrationOptions(block_migration=True, bandwidth_mib=100)], ids=str)
@pytest.mark.parametrize("before", [RUNNING, PAUSED])
def test_live_migration(
    source: ComputeDriver, instance: Instance, destination: ComputeDriver, before: PowerState, options: MigrationOptions
) -> None:
    spawn_in(source, before, instance)
    destination.pre_live_migration(instance, options, DATA)
    progress = migrate(source, options=options, instance=instance)
    expected = (Guest(uuid=UUID, name="web", power_state=before),)
    assert (source.list_guests(), destination.list_guests()) == ((), expected)
    assert progress.reports
    assert progress.reports[-1].total_bytes > 0
    for _ in range(2):
        destination.post_live_migration_at_destination(instance)
        assert destination.list_guests() == expected


def test_there_and_back_again(source: ComputeDriver, instance: Instance, destination: ComputeDriver) -> None:
    source.spawn(instance)
    migrate(source, instance=instance)
    destination.post_live_migration_at_destination(instance)
    migrate(destination, to="source", instance=instance)
    source.post_live_migration_at_destination(instance)
    assert (state(source), state(destination)) == (RUNNING, None)


def test_a_guest_that_has_left_is_not_migrated(
    source: ComputeDriver, instance: Instance, destination: ComputeDriver
) -> None:
    source.spawn(instance)
    migrate(source, instance=instance)
    migrate(source, instance=instance)
    assert (state(source), state(destination)) == (None, RUNNING)


def test_a_guest_is_at_the_source_until_it_is_at_the_destination(
    source: ComputeDriver, instance: Instance, destination: ComputeDriver
) -> None:
    source.spawn(instance)
    seen = []
    source.live_migration(
        instance, "destination", OPTIONS, DATA, lambda _: seen.append((source.list_guests(), destination.list_guests()))
    )
    on_its_way = Guest(uuid=UUID, name="web", power_state=RUNNING, migrating_to="destination")
    assert set(seen) == {((on_its_way,), ())}


def test_what_on_progress_raises_comes_out_and_leaves_the_migration_under_way(
    rig: Rig, source: ComputeDriver, instance: Instance, destination: ComputeDriver
) -> None:
    source.spawn(instance)
    leave_under_way(source, instance)
    guest = source.get_guest(UUID)
    assert guest is not None
    assert guest.migrating_to == "destination"
    migrate(rig.driver("source"), instance=instance)
    assert (state(source), state(destination)) == (None, RUNNING)


@pytest.mark.parametrize("before", [RUNNING, PAUSED])
def test_abort(source: ComputeDriver, instance: Instance, destination: ComputeDriver, before: PowerState) -> None:
    spawn_in(source, before, instance)
    guests = source.list_guests()
    with pytest.raises(MigrationAborted) as caught:
        source.live_migration(instance, "destination", OPTIONS, DATA, lambda _: source.live_migration_abort(UUID))
    assert caught.value.uuid == UUID
    assert (source.list_guests(), destination.list_guests()) == (guests, ())
    destination.rollback_live_migration_at_destination(UUID)
    migrate(source, instance=instance)
    assert (state(source), state(destination)) == (None, before)


@pytest.mark.fake_only(reason="so many reports take real time")
def test_a_migration_that_does_not_converge_can_be_aborted(
    rig: Rig, source: ComputeDriver, instance: Instance, destination: ComputeDriver
) -> None:
    rig.never_converge()
    source.spawn(instance)
    progress = Progress()

    def abort_after_a_while(report: MigrationProgress) -> None:
        progress(report)
        if len(progress.reports) == 100:
            source.live_migration_abort(UUID)

    with pytest.raises(MigrationAborted):
        source.live_migration(instance, "destination", OPTIONS, DATA, abort_after_a_while)
    assert len(progress.reports) == 100
    assert (state(source), state(destination)) == (RUNNING, None)


def test_force_complete(rig: Rig, source: ComputeDriver, instance: Instance, destination: ComputeDriver) -> None:
    rig.never_converge()
    source.spawn(instance)
    seen = set()

    def force(_: object) -> None:
        source.live_migration_force_complete(UUID)
        seen.add(state(source))

    source.live_migration(instance, "destination", OPTIONS, DATA, force)
    assert seen == {PAUSED}
    assert (state(source), state(destination)) == (None, RUNNING)


def test_a_forced_migration_can_be_aborted(
    rig: Rig, source: ComputeDriver, instance: Instance, destination: ComputeDriver
) -> None:
    rig.never_converge()
    source.spawn(instance)

    def force_and_abort(_: object) -> None:
        source.live_migration_force_complete(UUID)
        source.live_migration_abort(UUID)

    with pytest.raises(MigrationAborted):
        source.live_migration(instance, "destination", OPTIONS, DATA, force_and_abort)
    assert (state(source), state(destination)) == (RUNNING, None)


def test_post_copy(rig: Rig, source: ComputeDriver, instance: Instance, destination: ComputeDriver) -> None:
    """A guest that may go on at the destination is not paused when it is forced to, and is not called back."""
    rig.never_converge()
    source.spawn(instance)
    seen = set()

    def force(progress: MigrationProgress) -> None:
        source.live_migration_force_complete(UUID)
        if progress.post_copy:
            with suppress(OperationRefused):
                source.live_migration_abort(UUID)
        seen.add((state(source), state(destination)))

    source.live_migration(instance, "destination", MigrationOptions(post_copy=True), DATA, force)
    assert seen <= {(RUNNING, None), (None, RUNNING)}
    assert (state(source), state(destination)) == (None, RUNNING)


@pytest.mark.parametrize("spawned", [True, False])
def test_abort_and_force_do_nothing_without_a_migration(
    source: ComputeDriver, instance: Instance, destination: ComputeDriver, spawned: bool
) -> None:
    if spawned:
        source.spawn(instance)
    guests = source.list_guests()
    source.live_migration_abort(UUID)
    source.live_migration_force_complete(UUID)
    assert source.list_guests() == guests
    migrate(source, instance=instance)
    assert state(destination) is (RUNNING if spawned else None)


def test_abort_after_the_end_does_nothing(
    source: ComputeDriver, instance: Instance, destination: ComputeDriver
) -> None:
    source.spawn(instance)
    migrate(source, instance=instance)
    source.live_migration_abort(UUID)
    destination.live_migration_abort(UUID)
    destination.post_live_migration_at_destination(instance)
    migrate(destination, to="source", instance=instance)
    assert state(source) is RUNNING


@pytest.mark.parametrize("to", ["nowhere", "source"])
def test_live_migration_to_a_host_that_will_not_do(source: ComputeDriver, instance: Instance, to: str) -> None:
    source.spawn(instance)
    guests = source.list_guests()
    with pytest.raises(MigrationFailed):
        migrate(source, to=to, instance=instance)
    assert source.list_guests() == guests


def test_live_migration_of_a_guest_that_is_shut_down(
    source: ComputeDriver, instance: Instance, destination: ComputeDriver
) -> None:
    spawn_in(source, SHUTDOWN, instance)
    with pytest.raises(MigrationFailed, match="shutdown"):
        migrate(source, instance=instance)
    assert (state(source), state(destination)) == (SHUTDOWN, None)


def test_rollback_spares_a_guest_that_has_arrived(
    source: ComputeDriver, instance: Instance, destination: ComputeDriver
) -> None:
    source.spawn(instance)
    destination.pre_live_migration(instance, OPTIONS, DATA)
    migrate(source, instance=instance)
    destination.rollback_live_migration_at_destination(UUID)
    assert state(destination) is RUNNING


def test_rollback_of_nothing(destination: ComputeDriver, instance: Instance) -> None:
    destination.rollback_live_migration_at_destination(UUID)
    destination.pre_live_migration(instance, OPTIONS, DATA)
    destination.rollback_live_migration_at_destination(UUID)
    assert destination.list_guests() == ()
