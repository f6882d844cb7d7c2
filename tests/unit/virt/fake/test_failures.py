"""``[fake] failures`` and ``operation_time``."""

from collections.abc import Callable

import pytest

from minova.exception import (
    ConfigurationError,
    DriverError,
    InsufficientResources,
    MigrationFailed,
    OperationRefused,
)
from minova.objects import Guest
from minova.virt.driver import ComputeDriver
from minova.virt.fake import FakeDriver
from minova.virt.fake.failures import OPERATIONS, REASON
from tests.contract.rig import (
    DATA,
    INSTANCE,
    OPTIONS,
    PAUSED,
    RUNNING,
    UUID,
    Progress,
    leave_under_way,
    make_instance,
    migrate,
    state,
)
from tests.unit.virt.rig import FakeRig, Killed


def write_to_console(driver: ComputeDriver) -> None:
    """Be refused, as always; only another reason for that than the usual one is an error."""
    try:
        driver.console_input(UUID, "")
    except OperationRefused as refusal:
        if refusal.reason == REASON:
            raise


CALLS: dict[str, Callable[[ComputeDriver], object]] = {
    "capacity": lambda driver: driver.capacity(),
    "list_guests": lambda driver: driver.list_guests(),
    "get_guest": lambda driver: driver.get_guest(UUID),
    "spawn": lambda driver: driver.spawn(INSTANCE),
    "destroy": lambda driver: driver.destroy(UUID),
    "power_on": lambda driver: driver.power_on(UUID),
    "check_can_spawn": lambda driver: driver.check_can_spawn(INSTANCE),
    "power_off": lambda driver: driver.power_off(UUID),
    "reboot": lambda driver: driver.reboot(UUID, hard=True),
    "pause": lambda driver: driver.pause(UUID),
    "unpause": lambda driver: driver.unpause(UUID),
    "check_can_live_migrate_source": lambda driver: driver.check_can_live_migrate_source(
        INSTANCE, "destination", OPTIONS
    ),
    "check_can_live_migrate_destination": lambda driver: driver.check_can_live_migrate_destination(
        INSTANCE, OPTIONS, DATA
    ),
    "pre_live_migration": lambda driver: driver.pre_live_migration(INSTANCE, OPTIONS, DATA),
    "live_migration": lambda driver: driver.live_migration(INSTANCE, "destination", OPTIONS, DATA, Progress()),
    "live_migration_abort": lambda driver: driver.live_migration_abort(UUID),
    "live_migration_force_complete": lambda driver: driver.live_migration_force_complete(UUID),
    "post_live_migration_at_destination": lambda driver: driver.post_live_migration_at_destination(INSTANCE),
    "rollback_live_migration_at_destination": lambda driver: driver.rollback_live_migration_at_destination(UUID),
    "migrate_disk_and_power_off": lambda driver: driver.migrate_disk_and_power_off(INSTANCE, "destination"),
    "finish_migration": lambda driver: driver.finish_migration(INSTANCE, power_on=True),
    "console_output": lambda driver: driver.console_output(UUID, 0),
    "console_input": write_to_console,
}

TAKE_TIME = set(CALLS) - {
    "capacity",
    "list_guests",
    "get_guest",
    "check_can_spawn",
    "check_can_live_migrate_source",
    "check_can_live_migrate_destination",
    "console_input",
    "console_output",
    "live_migration",
    "live_migration_abort",
    "live_migration_force_complete",
}


def test_every_operation_is_known() -> None:
    assert set(OPERATIONS) == set(CALLS)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_fails(rig: FakeRig, source: FakeDriver, destination: FakeDriver, operation: str) -> None:
    before = rig.file("source").read_bytes()
    kinds: dict[str, type[DriverError]] = {"spawn": InsufficientResources, "live_migration": MigrationFailed}
    rig.fake(failures=[operation])
    with pytest.raises(kinds.get(operation, OperationRefused), match="injected failure") as caught:
        CALLS[operation](source)
    if isinstance(caught.value, OperationRefused):
        assert (caught.value.host, caught.value.operation) == ("source", operation)
    assert rig.file("source").read_bytes() == before


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_fails_on_its_host_alone(
    rig: FakeRig, source: FakeDriver, destination: FakeDriver, operation: str
) -> None:
    rig.fake(failures=[f"destination:{operation}", f"elsewhere:{operation}"])
    CALLS[operation](source)
    if operation == "live_migration":
        destination.post_live_migration_at_destination(INSTANCE)
    with pytest.raises(DriverError, match="injected failure"):
        CALLS[operation](destination)


def test_no_operation_fails_for_another(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    rig.fake(failures=["capacity", "get_guest", "list_guests"])
    source.spawn(make_instance(uuid="second"))
    destination.pre_live_migration(INSTANCE, OPTIONS, DATA)
    migrate(source)


def test_a_failure_ends_with_its_entry(rig: FakeRig, source: FakeDriver) -> None:
    rig.fake(failures=["pause"])
    with pytest.raises(OperationRefused):
        source.pause(UUID)
    rig.fake(failures=[])
    source.pause(UUID)
    assert state(source) is PAUSED


def test_a_migration_under_way_fails(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    leave_under_way(source)
    rig.fake(failures=["source:live_migration"])
    with pytest.raises(MigrationFailed):
        migrate(source)
    assert source.list_guests() == (Guest(uuid=UUID, name="web", power_state=RUNNING),)


def test_a_migration_that_is_over_does_not_fail(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    migrate(source)
    rig.fake(failures=["live_migration"])
    migrate(source)
    assert state(destination) is RUNNING


@pytest.mark.parametrize("entry", ["spwan", "host:", "host:spwan", "spawn:host", "_work", "uuid"])
def test_an_entry_that_names_no_operation(rig: FakeRig, entry: str) -> None:
    rig.fake(failures=["spawn", entry])
    with pytest.raises(ConfigurationError) as caught:
        rig.driver("source")
    assert entry in str(caught.value)
    assert all(operation in str(caught.value) for operation in OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_takes_its_time(rig: FakeRig, source: FakeDriver, destination: FakeDriver, operation: str) -> None:
    rig.fake(operation_time=1.5)
    CALLS[operation](source)
    assert (1.5 in rig.clock.slept) == (operation in TAKE_TIME)


def test_a_guest_is_as_it_was_while_an_operation_takes_its_time(rig: FakeRig, source: FakeDriver) -> None:
    rig.fake(operation_time=5.0)
    rig.clock.killed_at = rig.clock.now + 1
    with pytest.raises(Killed):
        source.power_off(UUID)
    assert state(rig.driver("source")) is RUNNING


def test_an_operation_that_fails_does_so_at_once(rig: FakeRig, source: FakeDriver) -> None:
    rig.fake(operation_time=1.5, failures=["power_off"])
    with pytest.raises(OperationRefused):
        source.power_off(UUID)
    assert rig.clock.slept == []
