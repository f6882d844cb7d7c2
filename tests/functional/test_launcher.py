"""A daemon's processes: how they are started, told things, and replaced; and what systemd hears of it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures import probe
from tests.fixtures.lab import PATIENCE, wait_until
from tests.fixtures.systemd import Manager

ROOT = Path(__file__).parents[2]


class Daemon:
    """A master and its workers."""

    def __init__(self, folder: Path, workers: int, env: dict[str, str]) -> None:
        self.folder = folder
        self.workers = workers
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", probe.__name__, str(folder), str(workers)],
                cwd=ROOT,
                env={**os.environ, **env},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def said(self, what: str) -> list[tuple[int, str]]:
        """Return (worker's process, number of threads in its configuration) of each line of the journal."""
        journal = self.folder / "journal"
        lines = journal.read_text().splitlines() if journal.exists() else []
        return [(int(pid), threads) for pid, said, threads in map(str.split, lines) if said == what]

    def wait_for(self, what: str, times: int) -> list[int]:
        """Wait until workers have said something so often; return their processes."""
        wait_until(lambda: len(self.said(what)) >= times, f"{what}, {times} times")
        return [pid for pid, _threads in self.said(what)]

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE)


Launch = Callable[..., Daemon]


def configure(folder: Path, *lines: str) -> None:
    (folder / "minova.conf").write_text("\n".join(lines))


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path)
    yield manager
    manager.close()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    daemons: list[Daemon] = []
    configure(tmp_path)

    def launch(workers: int = 1, **env: str) -> Daemon:
        daemons.append(Daemon(tmp_path, workers, env))
        return daemons[-1]

    yield launch
    for each in daemons:
        if each.process.poll() is None:
            os.killpg(each.process.pid, signal.SIGKILL)
            each.process.wait(PATIENCE)


def test_each_worker_is_a_process_and_all_are_drained_at_the_end(launch: Launch) -> None:
    service = launch(3)
    built = service.wait_for("built", 3)
    assert len({*built, service.process.pid}) == 4
    assert service.stop() == 0
    assert sorted(service.wait_for("drained", 3)) == sorted(built)


def test_worker_that_dies_is_replaced(launch: Launch) -> None:
    service = launch(2)
    first, second = service.wait_for("built", 2)
    os.kill(first, signal.SIGKILL)
    assert service.wait_for("built", 3)[2] not in (first, second)
    assert service.stop() == 0
    assert set(service.wait_for("drained", 2)) == {second, service.said("built")[2][0]}


def test_reload_reaches_all_workers_and_those_that_come_later(launch: Launch, manager: Manager) -> None:
    service = launch(2, NOTIFY_SOCKET=str(manager.path))
    (service.folder / "ready").touch()
    manager.wait_for("READY=1")
    built = service.wait_for("built", 2)
    configure(service.folder, "[conductor]", "threads = 5")
    service.process.send_signal(signal.SIGHUP)
    assert sorted(service.wait_for("reset", 2)) == sorted(built)
    assert {threads for _pid, threads in service.said("reset")} == {"5"}
    os.kill(built[0], signal.SIGKILL)
    service.wait_for("built", 3)
    assert service.said("built")[2][1] == "5"


def test_reloads_close_together_end_with_the_newest_configuration(launch: Launch, manager: Manager) -> None:
    service = launch(4, NOTIFY_SOCKET=str(manager.path))
    (service.folder / "ready").touch()
    manager.wait_for("READY=1")
    for number in range(5, 25):
        configure(service.folder, "[conductor]", f"threads = {number}")
        service.process.send_signal(signal.SIGHUP)

    def is_ready_again() -> bool:
        silent = manager.hears_nothing()
        told = [field for field in manager.heard if field in ("RELOADING=1", "READY=1")]
        return silent and "RELOADING=1" in told and told[-1] == "READY=1"

    wait_until(is_ready_again, "an end of the reloads")
    newest = dict(service.said("reset"))
    assert newest == dict.fromkeys(service.wait_for("built", 4), "24")


def test_reload_of_a_mistake_is_told_in_the_log_and_changes_nothing(launch: Launch, manager: Manager) -> None:
    service = launch(1, NOTIFY_SOCKET=str(manager.path))
    (service.folder / "ready").touch()
    manager.wait_for("READY=1")
    configure(service.folder, "[conductor]", "thread = 5")
    service.process.send_signal(signal.SIGHUP)
    service.wait_for("reset", 1)
    assert service.said("reset")[0][1] == "16"
    assert "The configuration stays as it was: " in service.log.read_text()
    assert "did you mean threads?" in service.log.read_text()


def test_systemd_hears_of_readiness_only_when_all_workers_serve(launch: Launch, manager: Manager) -> None:
    service = launch(2, NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="600000")
    service.wait_for("built", 2)
    manager.wait_for("WATCHDOG=1")
    assert "READY=1" not in manager.heard
    (service.folder / "ready").touch()
    manager.wait_for("READY=1")


def test_systemd_hears_of_a_reload_and_its_end(launch: Launch, manager: Manager) -> None:
    service = launch(2, NOTIFY_SOCKET=str(manager.path))
    (service.folder / "ready").touch()
    manager.wait_for("READY=1")
    service.process.send_signal(signal.SIGHUP)
    manager.wait_for("RELOADING=1")
    assert manager.heard[-1].startswith("MONOTONIC_USEC=")
    manager.wait_for("READY=1")
    assert len(service.said("reset")) == 2


def test_systemd_hears_of_the_end_before_the_workers_drain(launch: Launch, manager: Manager) -> None:
    service = launch(1, NOTIFY_SOCKET=str(manager.path))
    (service.folder / "ready").touch()
    manager.wait_for("READY=1")
    assert service.stop() == 0
    manager.wait_for("STOPPING=1")


def test_watchdog_is_not_fed_while_a_worker_hangs(launch: Launch, manager: Manager) -> None:
    service = launch(2, NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="2000000")
    (service.folder / "ready").touch()
    manager.wait_for("READY=1")
    [first, *_rest] = service.wait_for("built", 2)
    os.kill(first, signal.SIGSTOP)
    wait_until(manager.hears_nothing, "an end of the watchdog's food")
    os.kill(first, signal.SIGCONT)
    manager.wait_for("WATCHDOG=1")


def test_worker_that_died_does_not_starve_the_watchdog(launch: Launch, manager: Manager) -> None:
    service = launch(2, NOTIFY_SOCKET=str(manager.path), WATCHDOG_USEC="3000000")
    (service.folder / "ready").touch()
    manager.wait_for("READY=1")
    os.kill(service.wait_for("built", 2)[0], signal.SIGKILL)
    service.wait_for("built", 3)
    manager.listen()
    manager.wait_for("WATCHDOG=1")


def test_each_process_answers_sigusr2_with_a_report_that_holds_no_password(launch: Launch, tmp_path: Path) -> None:
    configure(
        tmp_path,
        "[DEFAULT]",
        "transport_url = rabbit://minova:hush@broker/",
        "[database]",
        "connection = postgresql://minova:hush@db/minova",
        "[oslo_reports]",
        f"log_dir = {tmp_path}",
    )
    service = launch(2)
    processes = [service.process.pid, *service.wait_for("started", 2)]
    for pid in processes:
        os.kill(pid, signal.SIGUSR2)

    def reports() -> dict[int, str]:
        files = tmp_path.glob(f"{probe.PROG}-*_gurumeditation_*")
        return {int(re.findall(r"-(\d+)_", file.name)[0]): file.read_text() for file in files}

    wait_until(lambda: all("threads = 16" in reports().get(pid, "") for pid in processes), "three reports")
    wait_until(lambda: sum("probing" in text for text in reports().values()) == 2, "what the workers do")
    assert set(reports()) == set(processes)
    for text in reports().values():
        assert "Guru Meditation" in text
        assert "hush" not in text
    assert "postgresql://***@db/minova" in reports()[processes[1]]
    assert service.stop() == 0
