"""Two libvirtd hosts on this machine, and the guest that they run."""

import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent

PROGRAMS = {
    "libvirtd": "libvirt-daemon",
    "virsh": "libvirt-clients",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "ip": "iproute2",
    "unshare": "util-linux",
}
"""What runs hosts and guests, and in which of Debian's packages it is."""

GUEST_FILES = ("disk.qcow2", "vmlinuz", "initramfs.img")
"""Those of the tiny guest that it boots from: disk, kernel and what the kernel begins with."""

CMDLINE = "console=ttyS0 quiet panic=1 mitigations=off nokaslr tsc=reliable no_timer_check"
"""What the tiny guest's kernel is told."""

_SECONDS = 180
"""After so long a script hangs; to fetch the guest's kernel may take a while."""


class VirtError(Exception):
    """A host or the guest cannot be had; the message is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtHost:
    """One of the two hosts.

    :ivar name: "a" or "b".
    :ivar folder: that of both.
    :ivar address: in the network that only the hosts share.
    """

    name: str
    folder: Path
    address: str

    @property
    def uri(self) -> str:
        """Where its libvirtd is reached from here."""
        return f"qemu+unix:///system?socket={self.folder}/{self.name}/run/libvirt-sock"

    @property
    def local(self) -> Path:
        """What is ``local`` below the folder of both, to this host."""
        return self.folder / self.name / "local"

    @property
    def pid(self) -> int:
        """Its first process."""
        return int((self.folder / self.name / "init").read_text().split()[0])

    def command(self, *args: str) -> list[str]:
        """Return what runs a command inside the host: its process is replaced by the command's."""
        return [str(HERE / "two_hosts.sh"), "exec", str(self.folder), self.name, *args]

    def beside(self) -> list[str]:
        """Return what makes a process see the host's files, but for its network, which stays that of its caller."""
        return ["nsenter", f"--target={self.pid}", "--mount", "--"]

    def restart_libvirtd(self, *, kill: bool = False) -> None:
        """Restart its libvirtd, which is stopped, or killed; its guests go on. :raises VirtError:"""
        run_script("two_hosts.sh", "restart", self.folder, self.name, "KILL" if kill else "TERM")

    def crash(self) -> None:
        """Kill it and its guests at once; their disks stay. :raises VirtError:"""
        run_script("two_hosts.sh", "crash", self.folder, self.name)


class TwoHosts:
    """Both hosts; what is in ``shared`` is the same for them."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        """Nothing is started yet.

        :param folder: for all that they have.
        :param env: the environment of the hosts; by default that of this process.
        """
        self.folder = folder
        self.shared = folder / "shared"
        self.a = VirtHost(name="a", folder=folder, address="10.77.0.1")
        self.b = VirtHost(name="b", folder=folder, address="10.77.0.2")
        self._env = env

    def up(self) -> None:
        """Start them, or the one that has crashed. :raises VirtError:"""
        run_script("two_hosts.sh", "up", self.folder, env=self._env)

    def down(self) -> None:
        """End them and their guests, and remove what they have left. :raises VirtError:"""
        run_script("two_hosts.sh", "down", self.folder)


def build_guest(folder: Path) -> None:
    """Make the tiny guest's files, unless they are up to date. :raises VirtError:"""
    run_script("build_guest.sh", folder)


def run_script(name: str, *args: str | Path, env: Mapping[str, str] | None = None) -> None:
    """Run a script of this folder to its end. :raises VirtError: with the last that it said."""
    # Its output goes to a file, for what it starts would keep a pipe open.
    with tempfile.TemporaryFile("w+") as errors:
        command = [str(HERE / name), *map(str, args)]
        try:
            done = subprocess.run(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise VirtError(f"{name} did not end within {_SECONDS} s") from None
        errors.seek(0)
        if done.returncode:
            lines = errors.read().strip().splitlines()
            raise VirtError(lines[-1] if lines else f"{name} failed with status {done.returncode}")
