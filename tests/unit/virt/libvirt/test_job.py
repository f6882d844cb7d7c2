"""What is made of what libvirt shows of a migration."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

libvirt = pytest.importorskip("libvirt")

from minova.states import PowerState  # noqa: E402
from minova.virt.libvirt.job import Sight, in_uri, look  # noqa: E402
from tests.unit.virt.libvirt.rig import Refusal  # noqa: E402

MOVING = {"type": libvirt.VIR_DOMAIN_JOB_UNBOUNDED, "operation": libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT}
RUNNING, PAUSED, OFF = libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_SHUTOFF


def seen(state: int, reason: int, stats: dict[str, Any] | int) -> Sight:
    """Return the sight of a domain; ``stats`` may be the code of the error that libvirt answers with."""

    def job_stats() -> dict[str, Any]:
        if isinstance(stats, int):
            raise Refusal(stats)
        return stats

    domain = SimpleNamespace(state=lambda: [state, reason], jobStats=job_stats)
    connection = SimpleNamespace(lookupByUUIDString=lambda _uuid: domain)
    return cast("Sight", look("some uuid", connection))


@pytest.mark.parametrize(
    ("state", "reason", "open_"),
    [
        (RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED, False),
        (RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATION_CANCELED, False),
        (PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER, False),
        (PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION, True),
        (PAUSED, libvirt.VIR_DOMAIN_PAUSED_UNKNOWN, True),
        (PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED, True),
        (OFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN, False),
        (OFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED, False),
        (OFF, libvirt.VIR_DOMAIN_SHUTOFF_CRASHED, False),
        (OFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED, True),
        (OFF, libvirt.VIR_DOMAIN_SHUTOFF_DAEMON, True),
        (OFF, libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN, True),
    ],
)
def test_guest_that_does_not_run_for_a_reason_that_is_not_its_own_may_run_elsewhere(
    state: int, reason: int, open_: bool
) -> None:
    assert seen(state, reason, {"type": libvirt.VIR_DOMAIN_JOB_NONE}).may_have_left == open_


def test_guest_whose_memory_is_on_two_hosts_for_good() -> None:
    assert not seen(PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY, MOVING).has_broken
    broken = seen(PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED, MOVING)
    assert (broken.has_broken, broken.in_post_copy, broken.leaving) == (True, True, True)


def test_guest_that_leaves_at_this_moment() -> None:
    sight = seen(RUNNING, 0, libvirt.VIR_ERR_OPERATION_INVALID)
    assert (sight.leaving, sight.alive, sight.power_state) == (False, True, PowerState.RUNNING)


def test_guest_that_is_not_there() -> None:
    def nobody(_uuid: str) -> None:
        raise Refusal(libvirt.VIR_ERR_NO_DOMAIN)

    assert look("some uuid", SimpleNamespace(lookupByUUIDString=nobody)) is None


def test_progress() -> None:
    stats = {
        **MOVING,
        "time_elapsed": 1500,
        "data_total": 1000,
        "data_remaining": 400,
        "memory_dirty_rate": 10,
        "memory_page_size": 4096,
        "memory_bps": 2000,
        "memory_iteration": 3,
        "auto_converge_throttle": 20,
        "downtime": 50,
    }
    progress = seen(RUNNING, 0, stats).progress
    assert (progress.total_bytes, progress.done_bytes, progress.remaining_bytes) == (1000, 600, 400)
    assert (progress.dirty_rate, progress.bandwidth, progress.iteration) == (40960, 2000, 3)
    assert (progress.elapsed, progress.throttle, progress.downtime_ms) == (1.5, 20, 50)


def test_bandwidth_is_the_disks_while_those_are_copied() -> None:
    assert seen(RUNNING, 0, {**MOVING, "memory_bps": 0, "disk_bps": 7}).progress.bandwidth == 7


@pytest.mark.parametrize(
    ("address", "stands_as"),
    [
        ("host2", "host2"),
        ("a.b-c.example", "a.b-c.example"),
        ("10.0.0.1", "10.0.0.1"),
        ("fd00::1", "[fd00::1]"),
        ("fe80::1%eth0.7", "[fe80::1%eth0.7]"),
    ],
)
def test_address_in_a_uri(address: str, stands_as: str) -> None:
    assert in_uri(address) == stands_as


@pytest.mark.parametrize(
    "address",
    [
        "",
        "h/system?command=/bin/x&",
        "me@h",
        "h:22",
        "-h",
        "h h",
        "h\n",
        "h.",
        "x" * 254,
        "fe80::1%]?command=x#",
        "fe80::1%e\n",
    ],
)
def test_what_is_no_address_never_gets_into_a_uri(address: str) -> None:
    with pytest.raises(ValueError, match="neither a host name nor an IP address"):
        in_uri(address)
