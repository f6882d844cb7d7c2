"""Rows to objects."""

from datetime import timedelta

import pytest

from minova.db import convert
from minova.objects import utcnow
from minova.states import HostState, TaskState, VmState
from tests.unit.rows import a_node, a_service, an_instance

NOW = utcnow()


@pytest.mark.parametrize(
    ("silent_for", "forced_down", "state"),
    [
        (0, False, HostState.UP),
        (60, False, HostState.UP),
        (60.001, False, HostState.UNKNOWN),
        (10**6, False, HostState.UNKNOWN),
        (0, True, HostState.DOWN),
        (10**6, True, HostState.DOWN),
    ],
)
def test_silence_is_unknown_and_only_the_operator_says_down(
    silent_for: float, forced_down: bool, state: HostState
) -> None:
    row = a_service("host1", forced_down=forced_down)
    row.last_seen_at = NOW - timedelta(seconds=silent_for)
    assert convert.service_state(row, NOW, 60) is state


def test_clock_that_is_ahead_does_not_make_a_host_unknown() -> None:
    row = a_service("host1", forced_down=False)
    row.last_seen_at = NOW + timedelta(seconds=5)
    assert convert.service_state(row, NOW, 60) is HostState.UP


def test_instance_has_all_its_columns() -> None:
    row = an_instance(host="host1", task_state=TaskState.MIGRATING)
    found = convert.instance(row)
    assert (found.uuid, found.name, found.host) == (row.uuid, row.name, "host1")
    assert (found.vcpus, found.memory_mb, found.disk_gb) == (2, 1024, 10)
    assert (found.vm_state, found.task_state) == (VmState.ACTIVE, TaskState.MIGRATING)


def test_host_is_its_node_and_its_service() -> None:
    node = a_node("host1", vcpus_used=3, memory_mb_used=4, disk_gb_used=5, cpu_model="z80")
    service = a_service("host1", enabled=False, draining=True, forced_down=False)
    found = convert.host(node, service, 2, utcnow(), 60)
    assert (found.vcpus, found.vcpus_used, found.memory_mb_used, found.disk_gb_used) == (8, 3, 4, 5)
    assert (found.state, found.enabled, found.draining, found.instances) == (HostState.UP, False, True, 2)
    assert (found.hypervisor_type, found.cpu_model) == ("fake", "z80")
