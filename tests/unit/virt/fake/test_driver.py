"""What a fake host has, and what it gives."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from minova.exception import (
    InsufficientResources,
)
from minova.objects import HostCapacity
from minova.virt.fake import FakeDriver
from tests.contract.rig import UUID, make_instance
from tests.unit.virt.rig import FakeRig


def test_ratios(rig: FakeRig, destination: FakeDriver) -> None:
    rig.fake(vcpus=3, memory_mb=1000, disk_gb=10)
    for name, ratio in (("cpu", 2.5), ("ram", 1.5), ("disk", 0.5)):
        rig.conf.set_override(f"{name}_allocation_ratio", ratio, group="compute")
    expected = HostCapacity(vcpus=7, memory_mb=1500, disk_gb=5, hypervisor_type="fake")
    assert destination.capacity() == expected


def test_spawn_says_what_is_missing(rig: FakeRig, source: FakeDriver) -> None:
    rig.fake(memory_mb=300)
    with pytest.raises(InsufficientResources, match="it wants 256 MiB of memory, 44 are free"):
        source.spawn(make_instance(uuid="second"))
    rig.fake(memory_mb=100)
    with pytest.raises(InsufficientResources, match="it wants 256 MiB of memory, 0 are free"):
        source.spawn(make_instance(uuid="second"))


def test_guests_that_are_shut_down_count(rig: FakeRig, source: FakeDriver) -> None:
    rig.fake(memory_mb=300)
    source.power_off(UUID)
    with pytest.raises(InsufficientResources):
        source.spawn(make_instance(uuid="second"))


def test_spawns_at_the_same_time_do_not_oversell(rig: FakeRig, destination: FakeDriver) -> None:
    rig.fake(memory_mb=256 * 3)

    def spawn(number: int) -> bool:
        try:
            destination.spawn(make_instance(uuid=f"guest{number}"))
        except InsufficientResources:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(spawn, range(24))) == 3
    assert len(destination.list_guests()) == 3
