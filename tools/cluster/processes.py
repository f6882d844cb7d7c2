"""Starting processes that can be found again, whoever died meanwhile."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

MARK = "MINOVA_CLUSTER"
"""The variable that each process of a cluster has, with the cluster's folder."""

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0


class ClusterError(Exception):
    """The cluster cannot run; the message is one line that says what to do."""


def environment(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a process of the cluster."""
    # What is meant for the machine's own broker or database is not for ours.
    foreign = ("RABBITMQ_", "ERL_", "PG")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**kept, MARK: str(folder), **more}


def find_program(name: str, folders: Sequence[str]) -> str:
    """Return where a program is, in the folders or on the PATH. :raises ClusterError: it is not installed."""
    found = shutil.which(name, path=os.pathsep.join(folders)) or shutil.which(name)
    if found is None:
        raise ClusterError(f"{name} is not installed: sudo apt-get install rabbitmq-server postgresql")
    return found


def require_free(ports: Sequence[int]) -> None:
    """Check that nobody listens on ports of the loopback interface. :raises ClusterError: somebody does."""
    for port in ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise ClusterError(f"port {port} is in use: choose others with make cluster PORT=<first>") from None


def start(command: Sequence[str], env: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process of its own session, so that Ctrl-C ends only what is told to end, in order."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def wait_until(
    is_up: Callable[[], bool], what: str, process: subprocess.Popen[bytes], log: Path, seconds: float = _START_SECONDS
) -> None:
    """Wait until a process does its work. :raises ClusterError: it ended, or took too long."""
    deadline = time.monotonic() + seconds
    while not is_up():
        if process.poll() is not None or time.monotonic() > deadline:
            raise ClusterError(f"{what} did not start: see {log}")
        time.sleep(0.1)


def is_listening(port: int) -> bool:
    """Return whether somebody takes connections on a port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def stop(process: subprocess.Popen[bytes]) -> None:
    """Have a process end; one that does not is left to :func:`end_all`."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        return


def end_all(folder: Path) -> int:
    """End all processes of the cluster in a folder, and return how many there were."""
    found = [process for process in psutil.process_iter() if _belongs(process, folder)]
    for process in found:
        _signal(process.terminate)
    _gone, alive = psutil.wait_procs(found, timeout=_STOP_SECONDS)
    for process in alive:
        _signal(process.kill)
    psutil.wait_procs(alive, timeout=_STOP_SECONDS)
    return len(found)


def _belongs(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(MARK) == str(folder)
    except (psutil.Error, OSError):
        # It is somebody else's, or it has just ended.
        return False


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
