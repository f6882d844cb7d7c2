"""What a file that should be a disk really is: QEMU believes the header of an image, and a guest must not profit.

A qcow2 header can name other files of the host, whose content a guest would then read as its disk. So the header is
looked at before QEMU sees it, and what QEMU is given to look at afterwards gets little time and memory.

A raw image has no header: whoever uses one as a disk, or as a disk's backing file, has to say that it is raw. If QEMU
were left to find out, a guest could write a qcow2 header to the beginning of its disk, and read any file with it.
"""

import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from oslo_utils.imageutils import format_inspector

from minova.exception import OperationRefused
from minova.states import DiskFormat

_MAGIC = b"QFI\xfb"
_BACKING = struct.Struct(">4sIQI")
"""Magic, version, offset and length of the backing file's name."""

_LONGEST_NAME = 1023

_LIMITS = ("prlimit", "--as=1073741824", "--cpu=30", "--")
"""Bytes of memory and seconds of CPU time, as in Nova."""

_PATIENCE = 120
"""Seconds: the disk may be slow."""

_CONTAINERS = frozenset({"qcow2", "vhd", "vhdx", "vmdk", "vdi", "qed", "luks"})
"""What a raw image cannot be: it would be no disk to the guest."""

_VIOLATIONS = {
    "backing_file": "it has a backing file, and so would show the guest another file of the host",
    "data_file": "its data is in another file, which may be any of the host",
    "unknown_features": "it uses features of qcow2 that are not supported",
}

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def check_disk(path: Path, disk_format: DiskFormat, host: str, name: str = "", *, run: Run = subprocess.run) -> int:
    """Check that an image is what it was declared to be, and refers to no other file.

    :param host: this one, for the error.
    :param name: the image's, for the error.
    :returns: the size of the disk that a guest sees, in bytes.
    :raises OperationRefused: it must not be used.
    """
    try:
        reason = _why_not_raw(path) if disk_format is DiskFormat.RAW else _why_not_qcow2(path)
        size = path.stat().st_size if disk_format is DiskFormat.RAW or reason else 0
        if not reason and disk_format is DiskFormat.QCOW2:
            reason, size = _ask_qemu(path, run)
    except OSError as error:
        reason, size = f"it cannot be read: {error.strerror}", 0
    if reason:
        what = f"image {name or path.name} must not be used as {disk_format}: {reason}"
        raise OperationRefused(host=host, operation="checking an image", reason=what)
    return size


def backing_file(path: Path) -> str | None:
    """Return the name of a qcow2 file's backing file; None: it has none, or is no qcow2 file. :raises OSError:"""
    with path.open("rb") as file:
        header = file.read(_BACKING.size)
        if len(header) < _BACKING.size or not header.startswith(_MAGIC):
            return None
        _magic, _version, offset, length = _BACKING.unpack(header)
        if not offset or not 0 < length <= _LONGEST_NAME:
            return None
        file.seek(offset)
        return file.read(length).decode(errors="replace")


def _why_not_raw(path: Path) -> str:
    try:
        found = format_inspector.detect_file_format(str(path))
    except format_inspector.ImageFormatError:
        return "it looks like several formats at once"
    if found is not None and str(found) in _CONTAINERS:
        return (
            f"its content is {found}: convert it with qemu-img, or add the image again with --format qcow2 if it is one"
        )
    return ""


def _why_not_qcow2(path: Path) -> str:
    try:
        format_inspector.QcowInspector.from_file(str(path)).safety_check()
    except format_inspector.SafetyCheckFailed as error:
        return "; ".join(_VIOLATIONS.get(name, name) for name in sorted(error.failures))
    except format_inspector.ImageFormatError:
        return "its content is something else: add the image again with the right --format"
    return ""


def _ask_qemu(path: Path, run: Run) -> tuple[str, int]:
    """Return why QEMU does not take a qcow2 image, or nothing, and the size of the disk in it."""
    command = [*_LIMITS, "qemu-img", "info", "--force-share", "--output=json", "-f", "qcow2", str(path)]
    try:
        done = run(command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE, check=False)
    except FileNotFoundError as error:
        return f"{error.filename} is not installed, which looks at it", 0
    except subprocess.TimeoutExpired:
        return f"qemu-img took longer than {_PATIENCE} s to look at it", 0
    if done.returncode:
        told = " ".join(done.stderr.split()) or f"status {done.returncode}, which may mean that it wanted too much"
        return f"qemu-img does not accept it: {told}", 0
    info: dict[str, Any] = json.loads(done.stdout)
    if info.get("encrypted"):
        return "it is encrypted", 0
    more = info.get("format-specific", {}).get("data", {})
    if info.get("format") != "qcow2" or "backing-filename" in info or "data-file" in more or more.get("corrupt"):
        return "qemu-img finds another format in it, other files, or damage", 0
    return "", int(info["virtual-size"])
