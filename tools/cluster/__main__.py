"""Start the cluster, say how to talk to it, and stop it again when that is wanted."""

import argparse
import os
import secrets
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn

from filelock import FileLock, Timeout

from tools.cluster.guests import FakeGuests, Guests, LibvirtGuests
from tools.cluster.processes import ClusterError, end_all, environment, require_free, stop, wait_until
from tools.cluster.services import PostgreSQL, RabbitMQ

PROCFILE = Path(__file__).with_name("Procfile")
PORT, PORTS = 45670, 4
STOPPING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, a service manager, and a terminal that is closed."""
DATABASES = ("postgresql", "sqlite")
DRIVERS = ("fake", "libvirt")


class Stopped(BaseException):
    """Somebody wants the cluster to stop."""


class Cluster:
    """Everything that runs, in one folder."""

    def __init__(self, folder: Path, port: int, database: str, driver: str) -> None:
        """Prepare a cluster. :raises ClusterError: a package is not installed."""
        self.folder = folder
        self.conf = folder / "minova.conf"
        self.local = folder / "local.conf"
        self.logs = folder / "log"
        self._state = folder / database
        for path in (self.logs, self._state):
            path.mkdir(mode=0o700, exist_ok=True)
        self._guests: Guests = LibvirtGuests(folder, self._state, say) if driver == "libvirt" else FakeGuests()
        secret = self._secret()
        self._broker = RabbitMQ(folder, port, secret)
        self._database = PostgreSQL(folder, port + 3, secret) if database == "postgresql" else None
        self._services = [self._broker, self._database] if self._database else [self._broker]

    def run(self) -> int:
        """Run everything until it is told to stop; return the exit status. :raises ClusterError:"""
        if end_all(self.folder):
            say("ended what an earlier cluster had left")
        require_free([port for service in self._services for port in service.ports])
        self._configure()
        with ExitStack() as stack:
            stack.callback(end_all, self.folder)
            for service in self._services:
                say(f"starting {type(service).__name__}")
                stack.callback(stop, service.start(self.logs))
            self._manage("db", "sync")
            # Before it is started: that may be interrupted.
            stack.callback(self._guests.stop)
            self._guests.start()
            daemons = self._start_daemons()
            stack.callback(stop, daemons)
            wait_until(self._is_up, "a daemon", daemons, self.logs)
            self._guests.register_image(self._manage)
            say(self._welcome())
            return daemons.wait()

    def _configure(self) -> None:
        connection = self._database.url if self._database else f"sqlite:///{self._state}/minova.sqlite"
        self.conf.touch(mode=0o600)
        self.local.touch(mode=0o600)
        self.conf.write_text(
            f"# Written anew at each start. Options of your own: {self.local}\n"
            f"[DEFAULT]\ntransport_url = {self._broker.url}\nstate_path = {self._state}\nuse_stderr = true\n"
            f"[database]\nconnection = {connection}\n"
            f"{self._guests.configuration}"
            f"{self.local.read_text()}"
        )

    def _secret(self) -> str:
        # The broker and the database remember it, so it must not change.
        file = self.folder / "secret"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_hex(16))
        return file.read_text()

    def _start_daemons(self) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        env = environment(self.folder, PATH=path, MINOVA_CONF=str(self.conf), MINOVA_LOGS=str(self.logs))
        env |= self._guests.environment()
        command = [sys.executable, "-m", "honcho", "--procfile", str(PROCFILE), "start"]
        return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, start_new_session=True)

    def _is_up(self) -> bool:
        rows = self._manage("host", "list", "--format", "value", "--column", "host", "--column", "state", check=False)
        # Somebody may have added others.
        return {"host1 up", "host2 up"} <= set(rows.splitlines())

    def _manage(self, *words: str, check: bool = True) -> str:
        program = Path(sys.executable).with_name("minova-manage")
        command = [str(program), "--config-file", str(self.conf), *words]
        done = subprocess.run(command, env=environment(self.folder), capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise ClusterError(done.stderr.strip())
        return done.stdout

    def _welcome(self) -> str:
        # The configuration is readable to nobody else.
        sudo = "sudo " if "SUDO_USER" in os.environ else ""
        command = f"{sudo}{Path(sys.executable).with_name('minova-manage')} --config-file {self.conf}"
        commands = "".join(f"    {command} {words}\n" for words in self._guests.commands)
        told = f"  {self._guests.told}\n" if self._guests.told else ""
        return (
            "a conductor and the computes host1 and host2 are up\n\n"
            f"  From another terminal:\n\n{commands}\n{told}"
            f"  Options of your own, for the next start: {self.local}\n"
            f"  Logs: {self.logs}    Stop: Ctrl-C\n"
        )


def _first_port(text: str) -> int:
    highest = 65535 - PORTS + 1
    if not text.isdecimal() or not 1024 <= int(text) <= highest:
        raise argparse.ArgumentTypeError(f"PORT={text}: choose the first of {PORTS} ports, from 1024 to {highest}")
    return int(text)


def say(message: str) -> None:
    """Tell the user."""
    sys.stdout.write(f"make cluster: {message}\n")
    sys.stdout.flush()


def main() -> int:
    """Run the cluster and return the exit status."""
    parser = argparse.ArgumentParser(prog="make cluster", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where everything is kept")
    parser.add_argument("--port", type=_first_port, default=PORT, help=f"the first of {PORTS} ports")
    parser.add_argument("--database", choices=DATABASES, default=DATABASES[0])
    parser.add_argument("--driver", choices=DRIVERS, default=DRIVERS[0])
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    # The database's user, who is another than root, has to get to its own folder; all others are closed to it.
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    for number in STOPPING:
        signal.signal(number, _stop)
    lock = FileLock(folder / "lock")
    try:
        with lock.acquire(timeout=0):
            return Cluster(folder, options.port, options.database, options.driver).run()
    except Timeout:
        return _fail(f"one is running already, with its files in {folder}: stop it with Ctrl-C first")
    except ClusterError as error:
        return _fail(str(error))
    except Stopped:
        say("stopped; make cluster starts it again with all that it had")
        return 0


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    # Once is enough: what is being stopped must not be interrupted.
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


def _fail(reason: str) -> int:
    sys.stderr.write(f"make cluster: error: {reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
