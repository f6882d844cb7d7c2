"""Hosts of each kind of hypervisor, for the driver contract."""

from pathlib import Path

import pytest

from minova.virt.driver import ComputeDriver
from tests.unit.virt.rig import FakeRig, Rig


@pytest.fixture(params=[FakeRig], ids=["fake"])
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    made: Rig = request.param(tmp_path)
    return made


@pytest.fixture
def source(rig: Rig) -> ComputeDriver:
    return rig.driver("source")


@pytest.fixture
def destination(rig: Rig) -> ComputeDriver:
    return rig.driver("destination")
