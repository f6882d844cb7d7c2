"""A disk is what it is declared to be, and refers to no other file of the host."""

import json
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from minova.exception import OperationRefused
from minova.states import DiskFormat
from minova.virt.libvirt.disk_format import backing_file, check_disk

RAW, QCOW2 = DiskFormat.RAW, DiskFormat.QCOW2
INFO = {"format": "qcow2", "virtual-size": 2**30, "format-specific": {"type": "qcow2", "data": {"corrupt": False}}}


def qcow2(path: Path, *, backing: bytes = b"", version: int = 3, features: int = 0) -> Path:
    """Write the header of an image."""
    header = struct.pack(">4sIQIIQ", b"QFI\xfb", version, 512 if backing else 0, len(backing), 16, 2**30)
    header = header.ljust(72, b"\0") + struct.pack(">Q", features)
    path.write_bytes(header.ljust(512, b"\0") + backing)
    return path


class Qemu:
    """What qemu-img says."""

    def __init__(self, stdout: str = json.dumps(INFO), status: int = 0, stderr: str = "") -> None:
        self.asked: list[list[str]] = []
        self._result = (status, stdout, stderr)

    def __call__(self, command: list[str], **more: Any) -> "subprocess.CompletedProcess[str]":
        self.asked.append(command)
        return subprocess.CompletedProcess(command, *self._result)


def check(path: Path, disk_format: DiskFormat, qemu: Any) -> int:
    return check_disk(path, disk_format, "host1", "cirros", run=qemu)


def refusal(path: Path, disk_format: DiskFormat, qemu: Any = None) -> str:
    qemu = qemu or Qemu()
    with pytest.raises(OperationRefused) as refused:
        check(path, disk_format, qemu)
    begin = f"checking an image on host host1: image cirros must not be used as {disk_format}: "
    assert refused.value.message.startswith(begin)
    return refused.value.message.removeprefix(begin)


def test_qcow2_is_looked_at_within_limits_and_never_probed(tmp_path: Path) -> None:
    path, qemu = qcow2(tmp_path / "disk"), Qemu()
    assert check(path, QCOW2, qemu) == 2**30
    [command] = qemu.asked
    assert command[:4] == ["prlimit", "--as=1073741824", "--cpu=30", "--"]
    assert command[command.index("-f") + 1] == "qcow2"


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"backing": b"/etc/passwd"}, "it has a backing file, and so would show the guest another file of the host"),
        ({"backing": b"json:{}", "version": 2}, "it has a backing file"),
        ({"features": 1 << 2}, "its data is in another file, which may be any of the host"),
        ({"features": 1 << 40}, "it uses features of qcow2 that are not supported"),
        ({"version": 1}, "it uses features of qcow2 that are not supported"),
    ],
)
def test_qcow2_that_leads_elsewhere_is_refused_before_qemu_sees_it(
    tmp_path: Path, header: dict[str, Any], why: str
) -> None:
    qemu = Qemu()
    assert why in refusal(qcow2(tmp_path / "disk", **header), QCOW2, qemu)
    assert qemu.asked == []


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"x" * 10**6, b"QFI\xfb"])
def test_other_content_is_no_qcow2(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "disk"
    path.write_bytes(content)
    assert refusal(path, QCOW2) == "its content is something else: add the image again with the right --format"


@pytest.mark.parametrize(
    ("qemu", "why"),
    [
        (Qemu(json.dumps({**INFO, "encrypted": True})), "it is encrypted"),
        (Qemu(json.dumps({**INFO, "backing-filename": "x"})), "qemu-img finds another format in it, other files, or"),
        (Qemu(json.dumps({**INFO, "format": "raw"})), "qemu-img finds another format in it"),
        (Qemu(json.dumps({**INFO, "format-specific": {"data": {"data-file": "x"}}})), "other files"),
        (Qemu(json.dumps({**INFO, "format-specific": {"data": {"corrupt": True}}})), "or damage"),
        (Qemu(status=1, stderr="qemu-img: broken\nvery\n"), "qemu-img does not accept it: qemu-img: broken very"),
        (Qemu(status=-9), "status -9, which may mean that it wanted too much"),
    ],
)
def test_what_qemu_finds_counts(tmp_path: Path, qemu: Qemu, why: str) -> None:
    assert why in refusal(qcow2(tmp_path / "disk"), QCOW2, qemu)


def test_qemu_that_is_missing_or_takes_for_ever(tmp_path: Path) -> None:
    def missing(*_args: Any, **_more: Any) -> Any:
        raise FileNotFoundError(2, "No such file", "prlimit")

    def slow(command: list[str], **more: Any) -> Any:
        raise subprocess.TimeoutExpired(command, more["timeout"])

    path = qcow2(tmp_path / "disk")
    assert refusal(path, QCOW2, missing) == "prlimit is not installed, which looks at it"
    assert refusal(path, QCOW2, slow) == "qemu-img took longer than 120 s to look at it"


@pytest.mark.parametrize("content", [b"", b"x" * 5000, bytes(10**6)])
def test_raw_is_as_large_as_its_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "disk"
    path.write_bytes(content)
    assert check(path, RAW, Qemu()) == len(content)


def test_raw_that_is_qcow2_is_refused(tmp_path: Path) -> None:
    assert "its content is qcow2: convert it with qemu-img, or add the image again with --format qcow2" in refusal(
        qcow2(tmp_path / "disk", backing=b"/etc/passwd"), RAW
    )


def test_file_that_is_gone(tmp_path: Path) -> None:
    for disk_format in DiskFormat:
        assert refusal(tmp_path / "none", disk_format) == "it cannot be read: No such file or directory"


def test_name_of_the_backing_file(tmp_path: Path) -> None:
    assert backing_file(qcow2(tmp_path / "disk", backing=b"/base/image")) == "/base/image"
    assert backing_file(qcow2(tmp_path / "disk")) is None
    (tmp_path / "raw").write_bytes(b"x" * 1000)
    assert backing_file(tmp_path / "raw") is None
    (tmp_path / "raw").write_bytes(b"QFI\xfb")
    assert backing_file(tmp_path / "raw") is None
