"""What every virt driver has to do, whatever its hypervisor; its live migrations are beside this file."""

from collections.abc import Callable

import pytest

from minova.exception import (
    DriverError,
    GuestNotFound,
    InsufficientResources,
    OperationRefused,
)
from minova.objects import Guest
from minova.states import PowerState
from minova.virt.driver import ComputeDriver
from tests.unit.virt.rig import (
    INSTANCE,
    OPTIONS,
    PAUSED,
    RUNNING,
    SHUTDOWN,
    UUID,
    make_instance,
    spawn_in,
    state,
)

Change = Callable[[ComputeDriver], None]


def test_capacity(source: ComputeDriver) -> None:
    capacity = source.capacity()
    assert min(capacity.vcpus, capacity.memory_mb, capacity.disk_gb) > 0
    assert capacity.hypervisor_type


def test_a_new_host_has_no_guests(source: ComputeDriver) -> None:
    assert source.list_guests() == ()
    assert source.get_guest(UUID) is None


@pytest.mark.parametrize(("power_on", "expected"), [(True, RUNNING), (False, SHUTDOWN)])
def test_spawn(source: ComputeDriver, destination: ComputeDriver, power_on: bool, expected: PowerState) -> None:
    source.spawn(INSTANCE, power_on=power_on)
    guest = Guest(uuid=UUID, name="web", power_state=expected)
    assert source.get_guest(UUID) == guest
    assert source.list_guests() == (guest,)
    assert destination.list_guests() == ()


@pytest.mark.parametrize(("power_on", "expected"), [(True, RUNNING), (False, SHUTDOWN)])
@pytest.mark.parametrize("before", [RUNNING, PAUSED, SHUTDOWN])
def test_spawn_changes_only_the_power_of_a_guest_that_exists(
    source: ComputeDriver, before: PowerState, power_on: bool, expected: PowerState
) -> None:
    spawn_in(source, before)
    source.spawn(make_instance(name="other", memory_mb=10**9), power_on=power_on)
    assert source.list_guests() == (Guest(uuid=UUID, name="web", power_state=expected),)


@pytest.mark.parametrize("size", ["vcpus", "memory_mb", "disk_gb"])
def test_spawn_refuses_what_the_host_has_no_room_for(source: ComputeDriver, size: str) -> None:
    source.spawn(INSTANCE)
    everything = getattr(source.capacity(), size)
    with pytest.raises(InsufficientResources, match="source"):
        source.spawn(make_instance(uuid="second", **{size: everything}))
    assert source.get_guest("second") is None


def test_spawn_can_fill_the_host(source: ComputeDriver) -> None:
    capacity = source.capacity()
    source.spawn(make_instance(vcpus=capacity.vcpus, memory_mb=capacity.memory_mb, disk_gb=capacity.disk_gb))
    assert state(source) is RUNNING


def test_destroy_makes_room(source: ComputeDriver) -> None:
    full = make_instance(memory_mb=source.capacity().memory_mb)
    source.spawn(full)
    source.destroy(UUID)
    assert source.list_guests() == ()
    source.destroy(UUID)
    source.spawn(make_instance(uuid="second", memory_mb=full.memory_mb))
    assert state(source, "second") is RUNNING


@pytest.mark.parametrize("before", [RUNNING, PAUSED, SHUTDOWN])
@pytest.mark.parametrize(
    ("change", "after"),
    [
        (lambda driver: driver.power_on(UUID), RUNNING),
        (lambda driver: driver.power_off(UUID), SHUTDOWN),
        (lambda driver: driver.reboot(UUID, hard=True), RUNNING),
    ],
    ids=["power_on", "power_off", "hard reboot"],
)
def test_power_from_any_state(source: ComputeDriver, before: PowerState, change: Change, after: PowerState) -> None:
    spawn_in(source, before)
    change(source)
    assert state(source) is after
    change(source)
    assert state(source) is after


@pytest.mark.parametrize("before", [RUNNING, PAUSED])
@pytest.mark.parametrize(
    ("change", "after"),
    [(lambda driver: driver.pause(UUID), PAUSED), (lambda driver: driver.unpause(UUID), RUNNING)],
    ids=["pause", "unpause"],
)
def test_pause_and_unpause(source: ComputeDriver, before: PowerState, change: Change, after: PowerState) -> None:
    spawn_in(source, before)
    change(source)
    assert state(source) is after


@pytest.mark.parametrize(
    "change", [lambda driver: driver.pause(UUID), lambda driver: driver.unpause(UUID)], ids=["pause", "unpause"]
)
def test_a_guest_that_is_shut_down_cannot_be_paused_or_unpaused(source: ComputeDriver, change: Change) -> None:
    spawn_in(source, SHUTDOWN)
    with pytest.raises(OperationRefused, match="shutdown"):
        change(source)
    assert state(source) is SHUTDOWN


def test_soft_reboot(source: ComputeDriver) -> None:
    spawn_in(source, RUNNING)
    source.reboot(UUID, hard=False)
    assert state(source) is RUNNING


@pytest.mark.parametrize("before", [PAUSED, SHUTDOWN])
def test_soft_reboot_needs_a_guest_that_runs(source: ComputeDriver, before: PowerState) -> None:
    spawn_in(source, before)
    with pytest.raises(OperationRefused, match=before):
        source.reboot(UUID, hard=False)
    assert state(source) is before


@pytest.mark.parametrize(
    "change",
    [
        lambda driver: driver.power_on(UUID),
        lambda driver: driver.power_off(UUID),
        lambda driver: driver.reboot(UUID, hard=False),
        lambda driver: driver.reboot(UUID, hard=True),
        lambda driver: driver.pause(UUID),
        lambda driver: driver.unpause(UUID),
        lambda driver: driver.check_can_live_migrate_source(INSTANCE, "destination", OPTIONS),
        lambda driver: driver.post_live_migration_at_destination(INSTANCE),
        lambda driver: driver.migrate_disk_and_power_off(INSTANCE, "destination"),
        lambda driver: driver.finish_migration(INSTANCE, power_on=True),
        lambda driver: driver.finish_migration(INSTANCE, power_on=False),
    ],
)
def test_a_guest_that_is_not_there(source: ComputeDriver, destination: ComputeDriver, change: Change) -> None:
    with pytest.raises(GuestNotFound) as caught:
        change(source)
    assert (caught.value.uuid, caught.value.host) == (UUID, "source")
    assert source.list_guests() == ()


@pytest.mark.parametrize(("power_on", "after"), [(True, RUNNING), (False, SHUTDOWN)])
@pytest.mark.parametrize("before", [RUNNING, PAUSED, SHUTDOWN])
def test_cold_migration(
    source: ComputeDriver, destination: ComputeDriver, before: PowerState, power_on: bool, after: PowerState
) -> None:
    spawn_in(source, before)
    for _ in range(2):
        source.migrate_disk_and_power_off(INSTANCE, "destination")
        assert (state(source), state(destination)) == (None, SHUTDOWN)
    for _ in range(2):
        destination.finish_migration(INSTANCE, power_on=power_on)
        assert (state(source), state(destination)) == (None, after)


@pytest.mark.parametrize("to", ["nowhere", "source"])
def test_cold_migration_to_a_host_that_will_not_do(source: ComputeDriver, to: str) -> None:
    source.spawn(INSTANCE)
    with pytest.raises(DriverError):
        source.migrate_disk_and_power_off(INSTANCE, to)
    assert state(source) is RUNNING
