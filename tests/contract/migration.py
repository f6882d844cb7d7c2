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
    Interrupted,
    Progress,
    Rig,
    migrate,
    prepare,
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
    source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    source.spawn(instance)
    memory_mb = destination.capacity().memory_mb
    with pytest.raises(DriverError):
        destination.pre_live_migration(replace(instance, memory_mb=memory_mb + 1), OPTIONS, DATA)
    destination.pre_live_migration(replace(instance, memory_mb=memory_mb), OPTIONS, DATA)
    destination.pre_live_migration(replace(instance, memory_mb=memory_mb), OPTIONS, DATA)


@pytest.mark.parametrize(
    "options",
    [
        OPTIONS,
        pytest.param(
            MigrationOptions(block_migration=True, bandwidth_mib=100),
            marks=pytest.mark.fake_only(reason="these hosts share their storage, so there are no disks to copy"),
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("before", [RUNNING, PAUSED])
def test_live_migration(
    source: ComputeDriver, destination: ComputeDriver, instance: Instance, before: PowerState, options: MigrationOptions
) -> None:
    spawn_in(source, before, instance)
    data = prepare(source, destination, instance, options)
    assert migrate(source, options=options, instance=instance, data=data).reports
    expected = (Guest(uuid=UUID, name="web", power_state=before),)
    assert (source.list_guests(), destination.list_guests()) == ((), expected)
    for _ in range(2):
        destination.post_live_migration_at_destination(instance)
        assert destination.list_guests() == expected


def test_progress_is_told_while_it_is_under_way(
    rig: Rig, source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    options = rig.never_converge()
    source.spawn(instance)
    data, progress = prepare(source, destination, instance, options), Progress()

    def abort_once_something_is_told(report: MigrationProgress) -> None:
        progress(report)
        if report.total_bytes:
            source.live_migration_abort(UUID)

    with pytest.raises(MigrationAborted):
        source.live_migration(instance, "destination", options, data, abort_once_something_is_told)
    told = max(progress.reports, key=lambda report: report.total_bytes)
    assert 0 < told.remaining_bytes <= told.total_bytes


def test_there_and_back_again(source: ComputeDriver, destination: ComputeDriver, instance: Instance) -> None:
    source.spawn(instance)
    migrate(source, instance=instance, data=prepare(source, destination, instance))
    destination.post_live_migration_at_destination(instance)
    moved = replace(instance, host="destination")
    data = prepare(destination, source, moved, to="source")
    migrate(destination, to="source", instance=moved, data=data)
    source.post_live_migration_at_destination(moved)
    assert (state(source), state(destination)) == (RUNNING, None)


def test_a_guest_that_has_left_is_not_migrated(
    source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    source.spawn(instance)
    data = prepare(source, destination, instance)
    migrate(source, instance=instance, data=data)
    migrate(source, instance=instance, data=data)
    assert (state(source), state(destination)) == (None, RUNNING)


def test_a_guest_is_at_the_source_until_it_is_at_the_destination(
    source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    source.spawn(instance)
    data, seen = prepare(source, destination, instance), []
    source.live_migration(
        instance, "destination", OPTIONS, data, lambda _: seen.append((state(source), state(destination)))
    )
    seen.append((state(source), state(destination)))
    assert (None, None) not in seen
    assert seen[-1] == (None, RUNNING)


@pytest.mark.fake_only(reason="a real one may not have begun at the first report, and stands still for a moment")
def test_a_guest_on_its_way_is_as_it_was(source: ComputeDriver, destination: ComputeDriver, instance: Instance) -> None:
    source.spawn(instance)
    seen = []
    source.live_migration(
        instance, "destination", OPTIONS, DATA, lambda _: seen.append((source.list_guests(), destination.list_guests()))
    )
    on_its_way = Guest(uuid=UUID, name="web", power_state=RUNNING, migrating_to="destination")
    assert set(seen) == {((on_its_way,), ())}


def test_what_on_progress_raises_comes_out_and_leaves_the_migration_under_way(
    rig: Rig, source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    options = rig.never_converge()
    source.spawn(instance)
    data = prepare(source, destination, instance, options)

    def interrupt_once_it_is_under_way(progress: MigrationProgress) -> None:
        if progress.total_bytes:
            raise Interrupted

    with pytest.raises(Interrupted):
        source.live_migration(instance, "destination", options, data, interrupt_once_it_is_under_way)
    again = rig.driver("source")
    guest = again.get_guest(UUID)
    assert guest is not None
    assert guest.migrating_to == "destination"
    with pytest.raises(MigrationAborted):
        again.live_migration(instance, "destination", options, data, lambda _: again.live_migration_abort(UUID))
    assert (state(source), state(destination)) == (RUNNING, None)


@pytest.mark.parametrize("before", [RUNNING, PAUSED])
def test_abort(
    rig: Rig, source: ComputeDriver, destination: ComputeDriver, instance: Instance, before: PowerState
) -> None:
    options = rig.never_converge()
    spawn_in(source, before, instance)
    guests, data = source.list_guests(), prepare(source, destination, instance, options)
    with pytest.raises(MigrationAborted) as caught:
        source.live_migration(instance, "destination", options, data, lambda _: source.live_migration_abort(UUID))
    assert caught.value.uuid == UUID
    assert (source.list_guests(), destination.list_guests()) == (guests, ())
    destination.rollback_live_migration_at_destination(UUID)
    assert (source.list_guests(), destination.list_guests()) == (guests, ())


def test_after_an_abort_it_can_be_migrated(
    source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    source.spawn(instance)
    slow = MigrationOptions(bandwidth_mib=1)
    data = prepare(source, destination, instance, slow)
    with pytest.raises(MigrationAborted):
        source.live_migration(instance, "destination", slow, data, lambda _: source.live_migration_abort(UUID))
    destination.rollback_live_migration_at_destination(UUID)
    migrate(source, instance=instance, data=prepare(source, destination, instance))
    assert (state(source), state(destination)) == (None, RUNNING)


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


def test_force_complete(rig: Rig, source: ComputeDriver, destination: ComputeDriver, instance: Instance) -> None:
    options = rig.never_converge()
    source.spawn(instance)
    data = prepare(source, destination, instance, options)
    source.live_migration(instance, "destination", options, data, lambda _: source.live_migration_force_complete(UUID))
    assert (state(source), state(destination)) == (None, RUNNING)


def test_a_forced_migration_can_be_aborted(
    rig: Rig, source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    options = rig.never_converge()
    source.spawn(instance)
    data = prepare(source, destination, instance, options)

    def force_and_abort(_: object) -> None:
        source.live_migration_force_complete(UUID)
        source.live_migration_abort(UUID)

    with pytest.raises(MigrationAborted):
        source.live_migration(instance, "destination", options, data, force_and_abort)
    assert (state(source), state(destination)) == (RUNNING, None)


@pytest.mark.fake_only(
    reason="a real one stands still for a moment, and its source lists it until its memory has followed"
)
def test_post_copy(rig: Rig, source: ComputeDriver, instance: Instance, destination: ComputeDriver) -> None:
    """A guest that may go on at the destination is not paused when it is forced to, and is not called back."""
    options = replace(rig.never_converge(), post_copy=True)
    source.spawn(instance)
    data, seen = prepare(source, destination, instance, options), set()

    def force(progress: MigrationProgress) -> None:
        source.live_migration_force_complete(UUID)
        if progress.post_copy:
            with suppress(OperationRefused):
                source.live_migration_abort(UUID)
        seen.add((state(source), state(destination)))

    source.live_migration(instance, "destination", options, data, force)
    assert seen <= {(RUNNING, None), (None, RUNNING)}
    assert (state(source), state(destination)) == (None, RUNNING)


@pytest.mark.parametrize("spawned", [True, False])
def test_abort_and_force_do_nothing_without_a_migration(
    source: ComputeDriver, destination: ComputeDriver, instance: Instance, spawned: bool
) -> None:
    if spawned:
        source.spawn(instance)
    guests = source.list_guests()
    source.live_migration_abort(UUID)
    source.live_migration_force_complete(UUID)
    assert source.list_guests() == guests
    migrate(source, instance=instance, data=prepare(source, destination, instance) if spawned else DATA)
    assert state(destination) is (RUNNING if spawned else None)


def test_abort_after_the_end_does_nothing(
    source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    source.spawn(instance)
    migrate(source, instance=instance, data=prepare(source, destination, instance))
    source.live_migration_abort(UUID)
    destination.live_migration_abort(UUID)
    destination.post_live_migration_at_destination(instance)
    moved = replace(instance, host="destination")
    data = prepare(destination, source, moved, to="source")
    migrate(destination, to="source", instance=moved, data=data)
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
    source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    source.spawn(instance)
    migrate(source, instance=instance, data=prepare(source, destination, instance))
    destination.rollback_live_migration_at_destination(UUID)
    assert state(destination) is RUNNING


def test_rollback_of_nothing(source: ComputeDriver, destination: ComputeDriver, instance: Instance) -> None:
    destination.rollback_live_migration_at_destination(UUID)
    source.spawn(instance)
    destination.pre_live_migration(instance, OPTIONS, DATA)
    destination.rollback_live_migration_at_destination(UUID)
    assert (state(source), destination.list_guests()) == (RUNNING, ())
