"""What every virt driver has to do with guests, whatever its hypervisor; its live migrations are beside this file.

These tests are collected for each driver where its rig is: the fake one's among the unit tests, libvirt's among the
functional ones.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from minova.exception import (
    DriverError,
    GuestNotFound,
    InsufficientResources,
    OperationRefused,
)
from minova.objects import Guest, Instance
from minova.states import PowerState
from minova.virt.driver import ComputeDriver
from tests.contract.rig import OPTIONS, OTHER, PAUSED, RUNNING, SHUTDOWN, UUID, spawn_in, state

Change = Callable[[ComputeDriver, Instance], object]


def test_capacity(source: ComputeDriver) -> None:
    capacity = source.capacity()
    assert min(capacity.vcpus, capacity.memory_mb, capacity.disk_gb) > 0
    assert capacity.hypervisor_type


def test_a_new_host_has_no_guests(source: ComputeDriver) -> None:
    assert source.list_guests() == ()
    assert source.get_guest(UUID) is None


@pytest.mark.parametrize(("power_on", "expected"), [(True, RUNNING), (False, SHUTDOWN)])
def test_spawn(
    source: ComputeDriver, instance: Instance, destination: ComputeDriver, power_on: bool, expected: PowerState
) -> None:
    source.spawn(instance, power_on=power_on)
    guest = Guest(uuid=UUID, name="web", power_state=expected)
    assert source.get_guest(UUID) == guest
    assert source.list_guests() == (guest,)
    assert destination.list_guests() == ()


@pytest.mark.parametrize(("power_on", "expected"), [(True, RUNNING), (False, SHUTDOWN)])
@pytest.mark.parametrize("before", [RUNNING, PAUSED, SHUTDOWN])
def test_spawn_changes_only_the_power_of_a_guest_that_exists(
    source: ComputeDriver, instance: Instance, before: PowerState, power_on: bool, expected: PowerState
) -> None:
    spawn_in(source, before, instance)
    source.spawn(replace(instance, name="other", memory_mb=10**9), power_on=power_on)
    assert source.list_guests() == (Guest(uuid=UUID, name="web", power_state=expected),)


@pytest.mark.parametrize("size", ["vcpus", "memory_mb", "disk_gb"])
def test_spawn_refuses_what_the_host_has_no_room_for(source: ComputeDriver, instance: Instance, size: str) -> None:
    source.spawn(instance)
    everything = getattr(source.capacity(), size)
    with pytest.raises(InsufficientResources, match="source"):
        source.spawn(replace(instance, uuid=OTHER, **{size: everything}))
    assert source.get_guest(OTHER) is None


@pytest.mark.parametrize("size", ["vcpus", "memory_mb", "disk_gb"])
def test_a_guest_that_would_not_find_room_again_is_told_so_while_it_is_there(
    source: ComputeDriver, instance: Instance, size: str
) -> None:
    source.spawn(instance)
    source.check_can_spawn(instance)
    with pytest.raises(InsufficientResources, match="source"):
        source.check_can_spawn(replace(instance, **{size: getattr(source.capacity(), size) + 1}))
    assert state(source) is RUNNING


@pytest.mark.fake_only(reason="a real host needs some memory for itself")
def test_spawn_can_fill_the_host(source: ComputeDriver, instance: Instance) -> None:
    capacity = source.capacity()
    source.spawn(replace(instance, vcpus=capacity.vcpus, memory_mb=capacity.memory_mb, disk_gb=capacity.disk_gb))
    assert state(source) is RUNNING


def test_destroy_makes_room(source: ComputeDriver, instance: Instance) -> None:
    full = replace(instance, disk_gb=source.capacity().disk_gb)
    source.spawn(full)
    source.destroy(UUID)
    assert source.list_guests() == ()
    source.destroy(UUID)
    source.spawn(replace(instance, uuid=OTHER, disk_gb=full.disk_gb))
    assert state(source, OTHER) is RUNNING


@pytest.mark.parametrize("before", [RUNNING, PAUSED, SHUTDOWN])
@pytest.mark.parametrize(
    ("change", "after"),
    [
        (lambda driver, _: driver.power_on(UUID), RUNNING),
        (lambda driver, _: driver.power_off(UUID), SHUTDOWN),
        (lambda driver, _: driver.reboot(UUID, hard=True), RUNNING),
    ],
    ids=["power_on", "power_off", "hard reboot"],
)
def test_power_from_any_state(
    source: ComputeDriver, instance: Instance, before: PowerState, change: Change, after: PowerState
) -> None:
    spawn_in(source, before, instance)
    change(source, instance)
    assert state(source) is after
    change(source, instance)
    assert state(source) is after


@pytest.mark.parametrize("before", [RUNNING, PAUSED])
@pytest.mark.parametrize(
    ("change", "after"),
    [(lambda driver, _: driver.pause(UUID), PAUSED), (lambda driver, _: driver.unpause(UUID), RUNNING)],
    ids=["pause", "unpause"],
)
def test_pause_and_unpause(
    source: ComputeDriver, instance: Instance, before: PowerState, change: Change, after: PowerState
) -> None:
    spawn_in(source, before, instance)
    change(source, instance)
    assert state(source) is after


@pytest.mark.parametrize(
    "change", [lambda driver, _: driver.pause(UUID), lambda driver, _: driver.unpause(UUID)], ids=["pause", "unpause"]
)
def test_a_guest_that_is_shut_down_cannot_be_paused_or_unpaused(
    source: ComputeDriver, instance: Instance, change: Change
) -> None:
    spawn_in(source, SHUTDOWN, instance)
    with pytest.raises(OperationRefused, match="shutdown"):
        change(source, instance)
    assert state(source) is SHUTDOWN


def test_soft_reboot(source: ComputeDriver, instance: Instance) -> None:
    spawn_in(source, RUNNING, instance)
    source.reboot(UUID, hard=False)
    assert state(source) is RUNNING


@pytest.mark.parametrize("before", [PAUSED, SHUTDOWN])
def test_soft_reboot_needs_a_guest_that_runs(source: ComputeDriver, instance: Instance, before: PowerState) -> None:
    spawn_in(source, before, instance)
    with pytest.raises(OperationRefused, match=before):
        source.reboot(UUID, hard=False)
    assert state(source) is before


@pytest.mark.parametrize(
    "change",
    [
        lambda driver, _: driver.power_on(UUID),
        lambda driver, _: driver.power_off(UUID),
        lambda driver, _: driver.reboot(UUID, hard=False),
        lambda driver, _: driver.reboot(UUID, hard=True),
        lambda driver, _: driver.pause(UUID),
        lambda driver, _: driver.unpause(UUID),
        lambda driver, instance: driver.check_can_live_migrate_source(instance, "destination", OPTIONS),
        lambda driver, instance: driver.post_live_migration_at_destination(instance),
        lambda driver, instance: driver.migrate_disk_and_power_off(instance, "destination"),
        lambda driver, instance: driver.finish_migration(instance, power_on=True),
        lambda driver, instance: driver.finish_migration(instance, power_on=False),
        lambda driver, _: driver.console_output(UUID, 0),
        lambda driver, _: driver.console_input(UUID, "x"),
    ],
)
def test_a_guest_that_is_not_there(
    source: ComputeDriver, instance: Instance, destination: ComputeDriver, change: Change
) -> None:
    with pytest.raises(GuestNotFound) as caught:
        change(source, instance)
    assert (caught.value.uuid, caught.value.host) == (UUID, "source")
    assert source.list_guests() == ()


@pytest.mark.parametrize(("power_on", "after"), [(True, RUNNING), (False, SHUTDOWN)])
@pytest.mark.parametrize("before", [RUNNING, PAUSED, SHUTDOWN])
def test_cold_migration(
    source: ComputeDriver,
    instance: Instance,
    destination: ComputeDriver,
    before: PowerState,
    power_on: bool,
    after: PowerState,
) -> None:
    spawn_in(source, before, instance)
    for _ in range(2):
        source.migrate_disk_and_power_off(instance, "destination")
        assert (state(source), state(destination)) == (None, SHUTDOWN)
    for _ in range(2):
        destination.finish_migration(instance, power_on=power_on)
        assert (state(source), state(destination)) == (None, after)


@pytest.mark.parametrize("to", ["nowhere", "source"])
def test_cold_migration_to_a_host_that_will_not_do(source: ComputeDriver, instance: Instance, to: str) -> None:
    source.spawn(instance)
    with pytest.raises(DriverError):
        source.migrate_disk_and_power_off(instance, to)
    assert state(source) is RUNNING
