"""What a request may say."""

import re
from collections.abc import Sequence

from minova import location
from minova.conf.compute import MAX_DOWNTIME_MS
from minova.exception import InvalidInput
from minova.objects import BootRequest, Image, MigrationOptions
from minova.states import RESETTABLE, VmState

MAX_VCPUS, MAX_MEMORY_MB, MAX_DISK_GB = 4096, 64 * 1024 * 1024, 1024 * 1024
"""What no hypervisor of today gives one guest; more is a slip of the keyboard."""

MAX_USER_DATA, MAX_SSH_KEYS, MAX_SSH_KEY, MAX_CMDLINE = 65535, 100, 16384, 2047
"""Bytes as in Nova, keys, and characters; of a command line Linux takes no more."""

MAX_TIMEOUT = 30 * 24 * 3600
"""Seconds that a live migration may be given; so many are no limit any more."""

_QUOTED = 80
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
_NAME = re.compile(rf"[^\s/{_CONTROL}](?:[^/{_CONTROL}]{{0,253}}[^\s/{_CONTROL}])?")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CMDLINE = re.compile(rf"[ -~]{{0,{MAX_CMDLINE}}}")
_NETWORK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]{0,63}")
_SSH_KEY = re.compile(rf"(?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/]+={{0,3}}(?: [^{_CONTROL}]*)?")


def check_boot(request: BootRequest) -> None:
    """Check a request for a new instance.

    :raises InvalidInput: something of it is out of bounds.
    """
    _check_name("an instance's", request.name)
    _check_range("vCPUs", request.vcpus, 1, MAX_VCPUS)
    _check_range("MiB of memory", request.memory_mb, 1, MAX_MEMORY_MB)
    _check_range("GiB of disk", request.disk_gb, 0, MAX_DISK_GB)
    if request.network is not None and not _NETWORK.fullmatch(request.network):
        told = ascii(request.network)[:_QUOTED]
        raise InvalidInput(reason=f"network {told}: the name of a libvirt network or a bridge, or none, expected")
    _check_user_data(request.user_data)
    _check_ssh_keys(request.ssh_keys)


def check_image(image: Image) -> None:
    """Check an image that is to be added.

    :raises InvalidInput: its name, one of its files or its command line is none.
    """
    _check_name("an image's", image.name)
    for file in (image.disk, image.kernel, image.initrd):
        if file is not None:
            location.check(file.location)
            if not _SHA256.fullmatch(file.sha256):
                told = ascii(file.sha256)[:_QUOTED]
                raise InvalidInput(reason=f"{told} is no SHA-256 digest: 64 lowercase hexadecimal digits expected")
    if image.kernel is None and (image.initrd is not None or image.cmdline):
        raise InvalidInput(reason="an initrd and a command line are a kernel's: give that too")
    if not _CMDLINE.fullmatch(image.cmdline):
        raise InvalidInput(reason=f"a kernel's command line is one line of up to {MAX_CMDLINE} ASCII characters")


def check_options(options: MigrationOptions) -> None:
    """Check how a live migration is to be done. :raises InvalidInput:"""
    if options.bandwidth_mib is not None:
        _check_range("MiB/s of bandwidth", options.bandwidth_mib, 1, 1024 * 1024)
    if options.max_downtime_ms is not None:
        _check_range("ms of downtime", options.max_downtime_ms, 1, MAX_DOWNTIME_MS)
    if options.timeout is not None:
        _check_range("s of time", options.timeout, 0, MAX_TIMEOUT)


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


def _check_name(whose: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        reason = f"{whose} name has 1 to 255 characters, no slashes or control characters, no blanks at its ends"
        raise InvalidInput(reason=reason)
    if _UUID.fullmatch(name):
        raise InvalidInput(reason=f"{whose} name may not look like a UUID")


def _check_user_data(user_data: str) -> None:
    """Check user data without quoting it, for it may hold secrets."""
    if "\0" in user_data or not _is_text(user_data):
        raise InvalidInput(reason="user data is text: no NUL in it, and nothing that UTF-8 lacks")
    if len(user_data.encode()) > MAX_USER_DATA:
        raise InvalidInput(reason=f"user data has up to {MAX_USER_DATA} bytes")


def _check_ssh_keys(keys: Sequence[str]) -> None:
    if len(keys) > MAX_SSH_KEYS:
        raise InvalidInput(reason=f"{len(keys)} SSH keys are too many: up to {MAX_SSH_KEYS} can be given")
    for number, key in enumerate(keys, start=1):
        if len(key) > MAX_SSH_KEY or not _SSH_KEY.fullmatch(key):
            # Not quoted: what is given by mistake may well be the private one.
            reason = (
                f"SSH key {number} is no public key: one line as in a .pub file expected, such as ssh-ed25519 AAAA…"
            )
            raise InvalidInput(reason=reason)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_range(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidInput(reason=f"{value} {what} is not between {low} and {high}")
