"""Hosts of the fake hypervisor, for the driver contract."""

from pathlib import Path

import pytest

from minova.objects import Instance
from minova.virt.driver import ComputeDriver
from tests.contract.rig import Rig
from tests.unit.virt.rig import FakeRig


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return FakeRig(tmp_path)


@pytest.fixture
def instance(rig: Rig) -> Instance:
    return rig.instance


@pytest.fixture
def source(rig: Rig) -> ComputeDriver:
    return rig.driver("source")


@pytest.fixture
def destination(rig: Rig) -> ComputeDriver:
    return rig.driver("destination")
