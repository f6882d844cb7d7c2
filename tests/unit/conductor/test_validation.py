"""What a request may say."""

from typing import Any

import pytest

from minova.conductor.validation import check_boot, check_options, check_state
from minova.exception import InvalidInput
from minova.objects import BootRequest, MigrationOptions
from minova.states import VmState

NAME_RULE = "an instance's name has 1 to 255 characters, no slashes or control characters, no blanks at its ends"


def boot(**more: Any) -> None:
    check_boot(BootRequest(**{"name": "web", "vcpus": 1, "memory_mb": 256, "disk_gb": 1, **more}))


@pytest.mark.parametrize("name", ["w", "web-1.example.org", "a b", "Übung 7", "7", "-", "'; --", "名", "x" * 255])
def test_name_is_accepted(name: str) -> None:
    boot(name=name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        " web",
        "web ",
        "web\n",
        "we\nb",
        "we\tb",
        "we\x00b",
        "we\x7fb",
        "we\x9bb",
        "web\x1f",
        "a/b",
        "/",
        "we\u2028b",
        "we\udcffb",
        "x" * 256,
    ],
)
def test_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        boot(name=name)
    assert refusal.value.message == NAME_RULE


@pytest.mark.parametrize("name", ["01234567-89ab-cdef-0123-456789abcdef", "01234567-89AB-CDEF-0123-456789ABCDEF"])
def test_name_that_looks_like_a_uuid_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="may not look like a UUID"):
        boot(name=name)
    boot(name=name[:-1])


@pytest.mark.parametrize(
    ("field", "low", "high", "what"),
    [
        ("vcpus", 1, 4096, "vCPUs"),
        ("memory_mb", 1, 64 * 2**20, "MiB of memory"),
        ("disk_gb", 0, 2**20, "GiB of disk"),
    ],
)
def test_size_has_bounds_which_are_told(field: str, low: int, high: int, what: str) -> None:
    for fits in (low, high):
        boot(**{field: fits})
    for absurd in (low - 1, high + 1, -(10**30), 10**30):
        with pytest.raises(InvalidInput) as refusal:
            boot(**{field: absurd})
        assert refusal.value.message == f"{absurd} {what} is not between {low} and {high}"


@pytest.mark.parametrize("bandwidth_mib", [None, 1, 2**20])
def test_bandwidth_is_accepted(bandwidth_mib: int | None) -> None:
    check_options(MigrationOptions(bandwidth_mib=bandwidth_mib))


@pytest.mark.parametrize("bandwidth_mib", [0, -1, 2**20 + 1])
def test_bandwidth_is_refused(bandwidth_mib: int) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_options(MigrationOptions(bandwidth_mib=bandwidth_mib))
    assert refusal.value.message == f"{bandwidth_mib} MiB/s of bandwidth is not between 1 and 1048576"


@pytest.mark.parametrize("state", [VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.ERROR])
def test_state_to_reset_to_is_accepted(state: VmState) -> None:
    assert check_state(state.value) is state


@pytest.mark.parametrize("state", ["deleted", "building", "Active", "", "nonsense"])
def test_state_to_reset_to_is_refused(state: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_state(state)
    assert refusal.value.message == (f"cannot reset to state {state}: choose one of active, paused, stopped, error")
