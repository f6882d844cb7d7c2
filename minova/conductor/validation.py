"""What a request may say."""

import re

from minova.exception import InvalidInput
from minova.objects import BootRequest, MigrationOptions
from minova.states import RESETTABLE, VmState

MAX_VCPUS, MAX_MEMORY_MB, MAX_DISK_GB = 4096, 64 * 1024 * 1024, 1024 * 1024
"""What no hypervisor of today gives one guest; more is a slip of the keyboard."""

_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
_NAME = re.compile(rf"[^\s/{_CONTROL}](?:[^/{_CONTROL}]{{0,253}}[^\s/{_CONTROL}])?")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def check_boot(request: BootRequest) -> None:
    """Check a request for a new instance.

    :raises InvalidInput: its name or a size is out of bounds.
    """
    if not _NAME.fullmatch(request.name):
        reason = "an instance's name has 1 to 255 characters, no slashes or control characters, no blanks at its ends"
        raise InvalidInput(reason=reason)
    if _UUID.fullmatch(request.name):
        raise InvalidInput(reason="an instance's name may not look like a UUID")
    _check_range("vCPUs", request.vcpus, 1, MAX_VCPUS)
    _check_range("MiB of memory", request.memory_mb, 1, MAX_MEMORY_MB)
    _check_range("GiB of disk", request.disk_gb, 0, MAX_DISK_GB)


def check_options(options: MigrationOptions) -> None:
    """Check how a live migration is to be done. :raises InvalidInput:"""
    if options.bandwidth_mib is not None:
        _check_range("MiB/s of bandwidth", options.bandwidth_mib, 1, 1024 * 1024)


def check_limit(limit: int) -> None:
    """Check how many objects are asked for. :raises InvalidInput:"""
    if limit < 1:
        raise InvalidInput(reason=f"a limit of {limit} makes no sense: ask for 1 or more")


def check_state(state: str) -> VmState:
    """Return the state to which an instance is to be reset. :raises InvalidInput: it cannot be."""
    if state not in RESETTABLE:
        allowed = ", ".join(RESETTABLE)
        raise InvalidInput(reason=f"cannot reset to state {state}: choose one of {allowed}")
    return VmState(state)


def _check_range(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidInput(reason=f"{value} {what} is not between {low} and {high}")
