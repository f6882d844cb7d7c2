"""Root disks: qcow2 files, made by qemu-img."""

import subprocess
from pathlib import Path

_SECONDS = 300
"""After so long the storage hangs."""


class DiskError(Exception):
    """A disk could not be made, and why: one line."""


def create_disk(disk: Path, gib: int, base: Path | None, base_format: str = "") -> None:
    """Make a disk, unless it is there: an empty one, or one that begins as ``base`` and needs it for good.

    :param gib: its size, as the guest sees it.
    :raises DiskError: it cannot be made.
    :raises OSError: nor can any other file.
    """
    if disk.exists():
        return
    unfinished = disk.with_name(f"{disk.name}.part")
    unfinished.unlink(missing_ok=True)
    # qemu-img would let all users of the host read it. QEMU, unless it is root, is given it by libvirt.
    unfinished.touch(mode=0o600)
    # With the format, QEMU need not guess it from what a guest may have written.
    backing = ["-b", str(base), "-F", base_format] if base is not None else []
    _qemu_img("create", "-q", "-f", "qcow2", *backing, str(unfinished), f"{gib}G")
    unfinished.replace(disk)


def _qemu_img(*args: str) -> None:
    try:
        done = subprocess.run(
            ["qemu-img", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except FileNotFoundError:
        raise DiskError("qemu-img is not installed: apt-get install qemu-utils") from None
    except subprocess.TimeoutExpired:
        raise DiskError(f"qemu-img {args[0]} did not end within {_SECONDS} s") from None
    if done.returncode:
        raise DiskError(" ".join(done.stderr.split()) or f"qemu-img {args[0]} ended with status {done.returncode}")
