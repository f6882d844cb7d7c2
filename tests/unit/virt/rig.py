"""Fake hosts for tests, whose time passes as they like."""

from pathlib import Path
from typing import Any

from oslo_config import cfg

from minova import conf as minova_conf
from minova.objects import MigrationOptions
from minova.virt.fake import FakeDriver
from tests.contract.rig import INSTANCE, UUID


class Killed(BaseException):
    """The process ends here."""


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


class FakeRig:
    """Fake hosts that share a state_path and a clock."""

    def __init__(self, folder: Path) -> None:
        self.instance = INSTANCE
        self.conf = cfg.ConfigOpts()
        minova_conf.register_opts(self.conf)
        self.conf(args=[], default_config_files=[], default_config_dirs=[])
        self.conf.set_override("state_path", str(folder))
        self.clock = Clock()
        self.folder = folder / "fake"

    def driver(self, host: str) -> FakeDriver:
        return FakeDriver(self.conf, host, clock=self.clock, sleep=self.clock.sleep)

    def never_converge(self) -> MigrationOptions:
        self.fake(migration_dirty_rate=2048.0, migration_bandwidth=1024.0)
        return MigrationOptions()

    def fake(self, **options: Any) -> None:
        """Set options of the group ``fake``."""
        for name, value in options.items():
            self.conf.set_override(name, value, group="fake")

    def file(self, host: str, uuid: str = UUID) -> Path:
        return self.folder / host / f"{uuid}.json"
