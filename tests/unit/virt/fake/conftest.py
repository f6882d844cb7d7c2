"""Two fake hosts, one guest, and migrations that take a few seconds."""

from pathlib import Path

import pytest

from minova.virt.fake import FakeDriver
from tests.contract.rig import INSTANCE
from tests.unit.virt.rig import FakeRig


@pytest.fixture
def rig(tmp_path: Path) -> FakeRig:
    rig = FakeRig(tmp_path)
    rig.fake(migration_dirty_rate=64.0, migration_bandwidth=128.0)
    rig.conf.set_override("live_migration_downtime", 250, "compute")
    return rig


@pytest.fixture
def source(rig: FakeRig) -> FakeDriver:
    """Return the driver of a host that has the guest."""
    driver = rig.driver("source")
    driver.spawn(INSTANCE)
    return driver


@pytest.fixture
def destination(rig: FakeRig) -> FakeDriver:
    return rig.driver("destination")
