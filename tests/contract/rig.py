"""What tests of virt drivers drive them with, whatever the hypervisor."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest

from minova.objects import Instance, MigrateData, MigrationOptions, MigrationProgress
from minova.states import PowerState, VmState
from minova.virt.driver import ComputeDriver

RUNNING, PAUSED, SHUTDOWN = PowerState.RUNNING, PowerState.PAUSED, PowerState.SHUTDOWN

UUID = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"

_CREATED = datetime(2024, 1, 1, tzinfo=UTC)

_INSTANCE = Instance(
    uuid=UUID,
    name="web",
    vcpus=1,
    memory_mb=256,
    disk_gb=1,
    host="source",
    vm_state=VmState.ACTIVE,
    task_state=None,
    power_state=PowerState.RUNNING,
    created_at=_CREATED,
    updated_at=_CREATED,
)


def make_instance(**changes: Any) -> Instance:
    """Return a small instance, but for the changes."""
    return replace(_INSTANCE, **changes)


INSTANCE = make_instance()
OPTIONS, DATA = MigrationOptions(), MigrateData()


class Interrupted(Exception):
    """Whoever wanted to know of a migration's progress does not any more."""


class Progress:
    """Collects the progress of a migration, and interrupts it if told so."""

    def __init__(self, *, interrupt: bool = False) -> None:
        self.reports: list[MigrationProgress] = []
        self._interrupt = interrupt

    def __call__(self, progress: MigrationProgress) -> None:
        self.reports.append(progress)
        if self._interrupt:
            raise Interrupted


class Rig(Protocol):
    """Hosts of one kind of hypervisor.

    :ivar instance: a small one that runs on them, whose UUID is :data:`UUID`.
    """

    instance: Instance

    def driver(self, host: str) -> ComputeDriver:
        """Return a new driver of the host, as after a start of its process; the host exists from now on."""
        ...

    def never_converge(self) -> MigrationOptions:
        """Let no live migration end by itself while a test waits for it, if it is made with these options."""
        ...


def state(driver: ComputeDriver, uuid: str = UUID) -> PowerState | None:
    """Return the power state of a guest, or None if it is not there."""
    guest = driver.get_guest(uuid)
    return guest.power_state if guest else None


def spawn_in(driver: ComputeDriver, power_state: PowerState, instance: Instance = INSTANCE) -> None:
    """Create the guest in a power state."""
    driver.spawn(instance, power_on=power_state is not SHUTDOWN)
    if power_state is PAUSED:
        driver.pause(UUID)


def prepare(
    source: ComputeDriver,
    destination: ComputeDriver,
    instance: Instance,
    options: MigrationOptions = OPTIONS,
    to: str = "destination",
) -> MigrateData:
    """Do what comes before a live migration; return what its source has to know."""
    data = source.check_can_live_migrate_source(instance, to, options)
    destination.check_can_live_migrate_destination(instance, options, data)
    return destination.pre_live_migration(instance, options, data)


def migrate(
    driver: ComputeDriver,
    to: str = "destination",
    options: MigrationOptions = OPTIONS,
    instance: Instance = INSTANCE,
    data: MigrateData = DATA,
) -> Progress:
    """Live-migrate the guest, and return what was reported of it."""
    progress = Progress()
    driver.live_migration(instance, to, options, data, progress)
    return progress


def leave_under_way(driver: ComputeDriver, instance: Instance = INSTANCE, data: MigrateData = DATA) -> None:
    """Start or join a migration, and leave it to itself at its first report."""
    with pytest.raises(Interrupted):
        driver.live_migration(instance, "destination", OPTIONS, data, Progress(interrupt=True))
