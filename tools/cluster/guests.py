"""What the computes of a cluster run their guests on: the fake driver, or two hosts of libvirt in namespaces."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tools.cluster.processes import ClusterError, environment
from tools.virt import hosts
from tools.virt.hosts import CMDLINE, GUEST_FILES, PROGRAMS, TwoHosts, VirtError, VirtHost

IMAGE = "tiny"

Manage = Callable[..., str]
"""Runs ``minova-manage`` with some words, and returns what it shows."""

Say = Callable[[str], object]
"""Tells the user."""


class FakeGuests:
    """Guests that are files: there is nothing to prepare."""

    configuration = ""
    commands = ("instance boot web --vcpus 1 --memory 256 --disk 1", "instance live-migrate web", "service list")
    told = ""

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def environment(self) -> dict[str, str]:
        """Return variables for the daemons."""
        return {}

    def register_image(self, manage: Manage) -> None:
        """Do nothing: the driver takes any image."""


class LibvirtGuests:
    """Guests on QEMU: a libvirtd for each host, shared storage, and an image that boots in seconds."""

    commands = (
        f"instance boot web --image {IMAGE} --memory 128 --host host1",
        "instance console-log web --follow",
        "instance live-migrate web",
        "instance live-migrate web --to host1 --bandwidth 16",
        "service list",
    )

    def __init__(self, cluster: Path, folder: Path, say: Say) -> None:
        """Keep all that hosts and guests have in ``folder``, for the cluster in the folder ``cluster``.

        :raises ClusterError: this is not root, or a package is not installed.
        """
        if os.geteuid() != 0:
            raise ClusterError("hosts of libvirt need root: sudo make cluster DRIVER=libvirt")
        # A root of su's has a PATH without the last two.
        path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
        missing = {package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None}
        if missing:
            raise ClusterError(f"DRIVER=libvirt needs more: sudo apt-get install {' '.join(sorted(missing))}")
        kvm = has_kvm()
        self._folder, self._say = folder, say
        self._hosts = TwoHosts(folder / "hosts", environment(cluster, VIRT_KVM="1" if kvm else "0"))
        self.told = f"Guests run on {'KVM' if kvm else 'QEMU, emulated and slow: there is no KVM here'}"
        self.configuration = (
            f"[compute]\ndriver = libvirt\n"
            f"[libvirt]\nvirt_type = {'kvm' if kvm else 'qemu'}\nnetwork = none\n"
            f"instances_path = {self._hosts.shared}/instances\nconsole_path = {self._hosts.folder}/local/consoles\n"
        )

    def start(self) -> None:
        """Start both hosts; guests that were there are off. :raises ClusterError:"""
        self._say("starting the hosts")
        self._try(self._hosts.up)

    def stop(self) -> None:
        """End both hosts, with whatever runs on them; all disks stay. :raises ClusterError:"""
        for host in (self._hosts.a, self._hosts.b):
            self._try(host.crash)

    def environment(self) -> dict[str, str]:
        """Return variables for the daemons: what has a compute run beside its host's libvirtd."""
        return {"WITHIN_HOST1": _beside(self._hosts.a), "WITHIN_HOST2": _beside(self._hosts.b)}

    def register_image(self, manage: Manage) -> None:
        """Make the tiny guest, and register it, unless it is. :raises ClusterError:"""
        if IMAGE in manage("image", "list", "--format", "value", "--column", "name").splitlines():
            return
        self._say(f"making the image {IMAGE}")
        guest, images = self._folder / "guest", self._hosts.shared / "images"
        self._try(lambda: hosts.build_guest(guest))
        images.mkdir(exist_ok=True)
        disk, kernel, initrd = (str(shutil.copy(guest / name, images)) for name in GUEST_FILES)
        how = ("--format", "qcow2", "--kernel", kernel, "--initrd", initrd, "--cmdline", CMDLINE)
        manage("image", "add", IMAGE, disk, *how)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except VirtError as error:
            raise ClusterError(str(error)) from error


Guests = FakeGuests | LibvirtGuests


def _beside(host: VirtHost) -> str:
    # The shell of the Procfile splits it.
    return " ".join([*host.beside(), "env", f"OS_LIBVIRT__LIVE_MIGRATION_INBOUND_ADDR={host.address}"])


def has_kvm(proc: Path = Path("/proc"), device: Path = Path("/dev/kvm")) -> bool:
    """Return whether the hardware can run guests."""
    # There are machines with a /dev/kvm on which no guest ever boots.
    flags = set((proc / "cpuinfo").read_text().split())
    return bool(flags & {"svm", "vmx"}) and os.access(device, os.R_OK | os.W_OK)
