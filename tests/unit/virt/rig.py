"""What tests of virt drivers drive them with."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest
from oslo_config import cfg

from minova import conf as minova_conf
from minova.objects import Instance, MigrateData, MigrationOptions, MigrationProgress
from minova.states import PowerState, VmState
from minova.virt.driver import ComputeDriver
from minova.virt.fake import FakeDriver

RUNNING, PAUSED, SHUTDOWN = PowerState.RUNNING, PowerState.PAUSED, PowerState.SHUTDOWN

UUID = "11111111-1111-4111-8111-111111111111"

_CREATED = datetime(2024, 1, 1, tzinfo=UTC)

_INSTANCE = Instance(
    uuid=UUID,
    name="web",
    vcpus=1,
    memory_mb=256,
    disk_gb=1,
    host=None,
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


class Killed(BaseException):
    """The process ends here."""


class Interrupted(Exception):
    """Whoever wanted to know of a migration's progress does not any more."""


class Clock:
    """A wall clock that nobody has to wait for."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.slept: list[float] = []
        self.killed_at: float | None = None

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        if self.killed_at is not None and self.now >= self.killed_at:
            self.killed_at = None
            raise Killed


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
    """Hosts of one kind of hypervisor."""

    def driver(self, host: str) -> ComputeDriver:
        """Return a new driver of the host, as after a start of its process; the host exists from now on."""
        ...

    def never_converge(self) -> None:
        """Let no live migration end by itself from now on."""
        ...


class FakeRig:
    """Fake hosts that share a state_path and a clock."""

    def __init__(self, folder: Path) -> None:
        self.conf = cfg.ConfigOpts()
        minova_conf.register_opts(self.conf)
        self.conf(args=[], default_config_files=[], default_config_dirs=[])
        self.conf.set_override("state_path", str(folder))
        self.clock = Clock()
        self.folder = folder / "fake"

    def driver(self, host: str) -> FakeDriver:
        return FakeDriver(self.conf, host, clock=self.clock, sleep=self.clock.sleep)

    def never_converge(self) -> None:
        self.fake(migration_dirty_rate=2048.0, migration_bandwidth=1024.0)

    def fake(self, **options: Any) -> None:
        """Set options of the group ``fake``."""
        for name, value in options.items():
            self.conf.set_override(name, value, group="fake")

    def file(self, host: str, uuid: str = UUID) -> Path:
        return self.folder / host / f"{uuid}.json"


def state(driver: ComputeDriver, uuid: str = UUID) -> PowerState | None:
    """Return the power state of a guest, or None if it is not there."""
    guest = driver.get_guest(uuid)
    return guest.power_state if guest else None


def spawn_in(driver: ComputeDriver, power_state: PowerState) -> None:
    """Create the guest in a power state."""
    driver.spawn(INSTANCE, power_on=power_state is not SHUTDOWN)
    if power_state is PAUSED:
        driver.pause(UUID)


def migrate(driver: ComputeDriver, to: str = "destination", options: MigrationOptions = OPTIONS) -> Progress:
    """Live-migrate the guest, and return what was reported of it."""
    progress = Progress()
    driver.live_migration(INSTANCE, to, options, DATA, progress)
    return progress


def leave_under_way(driver: ComputeDriver) -> None:
    """Start or join a migration, and leave it to itself at its first report."""
    with pytest.raises(Interrupted):
        driver.live_migration(INSTANCE, "destination", OPTIONS, DATA, Progress(interrupt=True))
