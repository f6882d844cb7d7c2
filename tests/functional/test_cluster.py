"""``make cluster``: real daemons with a private broker and database, which leave nothing behind."""

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fixtures.lab import wait_until
from tests.fixtures.services.program import wait_for
from tests.fixtures.virt.hosts import require_libvirt
from tools.cluster import processes
from tools.cluster.guests import LibvirtGuests, has_kvm
from tools.cluster.services import PostgreSQL, RabbitMQ

ROOT = Path(__file__).parents[2]

PATIENCE = 150.0
"""Seconds after which a broker, a database and three daemons will not come up, go down or have a guest any more."""

LOST = 10
"""So much that a guest has counted may not be on its disk yet when its power is taken."""

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


def free_ports(count: int) -> int:
    """Return the first of so many ports in a row that nobody uses."""
    while True:
        first = random.randrange(20_000, 30_000)
        try:
            processes.require_free(range(first, first + count))
        except processes.ClusterError:
            continue
        return first


class Run:
    """One ``make cluster``, and what it has said."""

    def __init__(self, folder: Path, port: int | str, *more: str, **env: str) -> None:
        self.folder = folder
        self._output = folder.with_name(f"{folder.name}.out")
        command = [sys.executable, "-m", "tools.cluster", f"--folder={folder}", f"--port={port}", *more]
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **env}, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    def wait_until_up(self) -> None:
        wait_until(lambda: "host1 and host2 are up" in self.said or self.process.poll() is not None, "an end", PATIENCE)
        assert self.process.poll() is None, self.said

    def end(self) -> int:
        return self.process.wait(PATIENCE)

    def manage(self, *words: str) -> str:
        """Run minova-manage as it was told how."""
        told = next(line for line in self.said.splitlines() if "minova-manage" in line).split()
        command = [*told[: told.index("--config-file") + 2], *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stdout

    def told_commands(self) -> list[list[str]]:
        """Return the commands that it has told, without what is the same for all."""
        return [line.split(".conf ", 1)[1].split() for line in self.said.splitlines() if "minova-manage" in line]

    def counted(self) -> int:
        """Return how far the real guest has counted on its disk, once it counts on."""
        seen = self._last_count()
        wait_for(
            lambda: self._last_count() > seen, lambda: f"a guest that counts: {self._console()[-2000:]!r}", PATIENCE
        )
        return self._last_count()

    def _last_count(self) -> int:
        counts = re.findall(r"disk=(\d+)\r?\n", self._console())
        return int(counts[-1]) if counts else 0

    def _console(self) -> str:
        return self.manage("instance", "console-log", "web")

    def daemons(self, program: str) -> dict[int, psutil.Process]:
        """Return the masters of daemons, by their processes' numbers: what is started, and started again."""
        starters = [each for each in self.members() if "tools.cluster.respawn" in each.cmdline()]
        masters = [child for each in starters if program in each.cmdline() for child in each.children()]
        return {each.pid: each for each in masters}

    def members(self) -> list[psutil.Process]:
        return [each for each in psutil.process_iter() if processes._belongs(each, self.folder)]


Cluster = Callable[..., Run]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the database's user may enter, unlike pytest's own."""
    base = Path(tempfile.mkdtemp(prefix="minova-cluster-"))
    base.chmod(0o711)
    yield base / "cluster"
    shutil.rmtree(base)


@pytest.fixture
def cluster(folder: Path) -> Iterator[Cluster]:
    runs: list[Run] = []
    try:
        RabbitMQ(folder, 0, "")
        PostgreSQL(folder, 0, "")
    except processes.ClusterError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    port = free_ports(4)

    def run(*more: str, **env: str) -> Run:
        runs.append(Run(folder, port, *more, **env))
        return runs[-1]

    yield run
    for each in runs:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()
    processes.end_all(folder)


def test_cluster_runs_instances_and_stops_without_a_trace(cluster: Cluster) -> None:
    run = cluster()
    run.wait_until_up()
    run.manage("instance", "boot", "web", "--vcpus", "1", "--memory", "64", "--disk", "1")
    [before] = run.manage("instance", "list", "-f", "value", "-c", "host").split()
    run.manage("instance", "live-migrate", "web")
    after = run.manage("instance", "list", "-f", "value", "-c", "host", "-c", "state").split()
    assert after == [{"host1": "host2", "host2": "host1"}[before], "active"]
    sockets = [each for member in run.members() for each in member.net_connections("tcp")]
    heard_on = {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}
    assert "127.0.0.1" in heard_on
    assert heard_on <= {"127.0.0.1", "::1"}
    names = {each.name() for each in run.members()}
    assert any("beam" in name for name in names)
    assert "postgres" in names
    for log in ("conductor", "host1", "host2", "rabbitmq", "postgresql"):
        assert (run.folder / "log" / f"{log}.log").exists()

    second = cluster()
    assert second.end() == 1
    assert second.said.count("\n") == 1
    assert "one is running already" in second.said

    run.process.send_signal(signal.SIGINT)
    assert run.end() == 0
    assert run.members() == []
    assert (run.folder / "secret").read_text() not in run.said


def test_daemon_that_is_killed_is_started_again(cluster: Cluster) -> None:
    run = cluster("--database=sqlite")
    run.wait_until_up()
    run.manage("instance", "boot", "web", "--vcpus", "1", "--memory", "64", "--disk", "1")
    for program in ("minova-compute", "minova-conductor"):
        before = run.daemons(program)
        assert before
        for master in before.values():
            master.kill()
        wait_until(
            lambda program=program, before=before: len(set(run.daemons(program)) - set(before)) == len(before),
            f"{program}s started again",
            PATIENCE,
        )
    run.manage("instance", "stop", "web")
    assert run.manage("instance", "list", "-f", "value", "-c", "state").split() == ["stopped"]
    assert run.process.poll() is None, run.said
    run.process.send_signal(signal.SIGTERM)
    assert run.end() == 0
    assert run.members() == []


def test_cluster_runs_real_guests_and_keeps_their_disks(cluster: Cluster) -> None:
    require_libvirt()
    run = cluster("--database=sqlite", "--driver=libvirt")
    run.wait_until_up()
    boot, _follow, move, back, _services = run.told_commands()
    run.manage(*boot)
    for command, host in ((move, "host2"), (back, "host1")):
        run.manage(*command)
        assert run.manage("instance", "list", "-f", "value", "-c", "host").split() == [host]
    folder, before = run.folder / "sqlite" / "hosts", run.counted()
    assert {process.name() for process in mounted(folder)} >= {"libvirtd", "qemu-system-x86_64"}
    run.process.send_signal(signal.SIGINT)
    assert run.end() == 0
    assert run.members() == mounted(folder) == []

    again = cluster("--database=sqlite", "--driver=libvirt")
    again.wait_until_up()
    listed = ("instance", "list", "-f", "value", "-c", "state")
    wait_until(lambda: again.manage(*listed).split() == ["stopped"], "that the power was off", PATIENCE)
    assert again.manage("image", "list", "-f", "value", "-c", "name").split() == ["tiny"]
    again.manage("instance", "start", "web")
    assert again.counted() > before - LOST, "it has another disk"
    again.process.send_signal(signal.SIGTERM)
    assert again.end() == 0
    assert again.members() == mounted(folder) == []


def mounted(folder: Path) -> list[psutil.Process]:
    """Return the processes that see something mounted in a folder."""
    return [process for process in psutil.process_iter() if str(folder) in mounts_of(process.pid)]


def mounts_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/mounts").read_text()
    except OSError:
        return ""


@pytest.mark.parametrize("driver", ["xen", ""])
def test_driver_that_there_is_not_is_refused(folder: Path, driver: str) -> None:
    run = Run(folder, 45670, f"--driver={driver}")
    assert run.end() == 2
    assert f"invalid choice: '{driver}' (choose from 'fake', 'libvirt')" in run.said.splitlines()[-1]
    assert "Traceback" not in run.said


def test_real_guests_without_root_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(processes.ClusterError, match=r"need root: sudo make cluster DRIVER=libvirt$"):
        LibvirtGuests(folder, folder, print)


def test_packages_that_real_guests_need_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda program, **_: None if program.startswith(("qemu", "virsh")) else program)
    with pytest.raises(processes.ClusterError, match=r"apt-get install libvirt-clients qemu-system-x86 qemu-utils$"):
        LibvirtGuests(folder, folder, print)


@pytest.mark.parametrize(
    ("flags", "device", "expected"),
    [("fpu vmx", True, True), ("fpu svm", True, True), ("fpu vmx", False, False), ("fpu hypervisor", True, False)],
)
def test_kvm_takes_both_hardware_and_its_device(tmp_path: Path, flags: str, device: bool, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    if device:
        (tmp_path / "kvm").touch()
    assert has_kvm(tmp_path, tmp_path / "kvm") is expected


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("exit 0", 0)])
def test_daemon_that_ends_by_itself_is_not_started_again(script: str, status: int) -> None:
    command = [sys.executable, "-m", "tools.cluster.respawn", "sh", "-c", script]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == status


def test_daemon_that_is_told_to_stop_is_not_started_again() -> None:
    script = "trap 'kill $!; exit 5' TERM; sleep 60 & echo up; wait"
    command = [sys.executable, "-m", "tools.cluster.respawn", "sh", "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as respawner:
        assert respawner.stdout is not None
        assert respawner.stdout.readline() == b"up\n"
        respawner.terminate()
        assert respawner.wait(PATIENCE) == 5


def test_cluster_that_was_killed_is_cleaned_up_by_the_next(cluster: Cluster) -> None:
    first = cluster("--database=sqlite")
    first.wait_until_up()
    first.manage("instance", "boot", "web", "--vcpus", "1", "--memory", "64", "--disk", "1")
    first.process.kill()
    first.process.wait()
    left = first.members()
    (first.folder / "local.conf").write_text("[upgrade_levels]\ncompute = 1.0\n")
    second = cluster("--database=sqlite")
    second.wait_until_up()
    assert "ended what an earlier cluster had left" in second.said
    assert left
    assert not any(each.is_running() for each in left)
    assert second.manage("instance", "list", "-f", "value", "-c", "name", "-c", "state").split() == ["web", "active"]
    assert "[upgrade_levels] compute = 1.0" in second.manage("rpc", "versions"), "local.conf does not count"
    # The terminal is closed.
    second.process.send_signal(signal.SIGHUP)
    assert second.end() == 0
    assert second.members() == []


@pytest.mark.parametrize("port", ["0", "80", "-5", "65533", "70000", "http"])
def test_port_that_cannot_be_is_refused(folder: Path, port: str) -> None:
    run = Run(folder, port)
    assert run.end() == 2
    last = run.said.splitlines()[-1]
    assert f"PORT={port}: choose the first of 4 ports, from 1024 to 65532" in last
    assert "Traceback" not in run.said


def test_port_that_is_taken_is_named(cluster: Cluster, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = Run(folder, port)
        assert run.end() == 1
    expected = f"make cluster: error: port {port} is in use: choose others with make cluster PORT=<first>\n"
    assert run.said == expected


def test_package_that_is_missing_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tools.cluster.services._RABBITMQ", [])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(processes.ClusterError) as refusal:
        RabbitMQ(folder, 1, "")
    advice = "sudo apt-get install rabbitmq-server postgresql"
    assert str(refusal.value) == f"rabbitmq-server is not installed: {advice}"


def test_environment_of_the_machines_own_services_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PGHOST", "RABBITMQ_NODE_PORT", "ERL_FLAGS"):
        monkeypatch.setenv(name, "foreign")
    environment: dict[str, Any] = processes.environment(tmp_path, PGPORT="ours")
    assert "foreign" not in environment.values()
    assert (environment["PGPORT"], environment[processes.MARK]) == ("ours", str(tmp_path))
