"""A private RabbitMQ and PostgreSQL from Debian's packages; nothing of the machine's own is used or touched."""

import os
import shutil
import subprocess
from pathlib import Path

from tools.cluster.processes import ClusterError, environment, find_program, is_listening, start, wait_until

_RABBITMQ = ["/usr/lib/rabbitmq/bin"]
_POSTGRESQL = sorted((str(path) for path in Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)

Process = subprocess.Popen[bytes]


class RabbitMQ:
    """A broker on three ports from ``port`` on: its own, the one for other nodes, and the port mapper's."""

    def __init__(self, folder: Path, port: int, secret: str) -> None:
        """Prepare a broker for the user ``minova``. :raises ClusterError: the package is not installed."""
        # Not the one on the PATH of Debian, which insists on being root or the package's own user.
        self._server = find_program("rabbitmq-server", _RABBITMQ)
        self._folder = folder
        self._secret = secret
        self.ports = [port, port + 1, port + 2]
        self.url = f"rabbit://minova:{secret}@127.0.0.1:{port}/"

    def start(self, logs: Path) -> Process:
        """Start it, and return when it takes connections. :raises ClusterError: it does not."""
        home, log = self._folder / "rabbitmq", logs / "rabbitmq.log"
        home.mkdir(mode=0o700, exist_ok=True)
        (home / "enabled_plugins").write_text("[].\n")
        (home / "rabbitmq.conf").write_text(f"default_user = minova\ndefault_pass = {self._secret}\n")
        process = start([self._server], self._environment(home), log)
        wait_until(lambda: is_listening(self.ports[0]), "RabbitMQ", process, log)
        return process

    def _environment(self, home: Path) -> dict[str, str]:
        port, peer_port, mapper_port = map(str, self.ports)
        return environment(
            self._folder,
            HOME=str(home),
            ERL_CRASH_DUMP=str(home / "erl_crash.dump"),
            ERL_EPMD_ADDRESS="127.0.0.1",
            ERL_EPMD_PORT=mapper_port,
            RABBITMQ_CONF_ENV_FILE=os.devnull,
            RABBITMQ_CONFIG_FILE=str(home / "rabbitmq.conf"),
            RABBITMQ_DIST_PORT=peer_port,
            RABBITMQ_ENABLED_PLUGINS_FILE=str(home / "enabled_plugins"),
            RABBITMQ_LOG_BASE=str(home / "log"),
            RABBITMQ_MNESIA_BASE=str(home / "mnesia"),
            RABBITMQ_NODENAME="minova@localhost",
            RABBITMQ_NODE_IP_ADDRESS="127.0.0.1",
            RABBITMQ_NODE_PORT=port,
            RABBITMQ_PID_FILE=str(home / "pid"),
            # The one port that RABBITMQ_NODE_IP_ADDRESS does not bind.
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}",
        )


class PostgreSQL:
    """A database on ``port``. It refuses to be root's, and then belongs to the package's user."""

    def __init__(self, folder: Path, port: int, secret: str) -> None:
        """Prepare a database for the user ``minova``. :raises ClusterError: the package is not installed."""
        self._server = find_program("postgres", _POSTGRESQL)
        self._folder = folder
        self._home = folder / "postgresql"
        self._port, self._secret = port, secret
        self.ports = [port]
        self.url = f"postgresql+psycopg2://minova:{secret}@127.0.0.1:{port}/postgres"

    def start(self, logs: Path) -> Process:
        """Start it, made anew if there was none, and return when it works. :raises ClusterError: it does not."""
        log, data = logs / "postgresql.log", self._home / "data"
        env = environment(self._folder)
        if not (data / "PG_VERSION").exists():
            self._make(data, env, log)
        (data / "postmaster.pid").unlink(missing_ok=True)
        where = ["-D", str(data), "-p", str(self._port), "-h", "127.0.0.1", "-k", str(self._home)]
        process = start([*self._as_its_user(), self._server, *where], env, log)
        asked = [self._beside("pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={self._port}"]
        wait_until(lambda: subprocess.run(asked, env=env, check=False).returncode == 0, "PostgreSQL", process, log)
        return process

    def _make(self, data: Path, env: dict[str, str], log: Path) -> None:
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir(mode=0o700)
        password = self._home / "password"
        password.write_text(self._secret)
        if os.geteuid() == 0:
            for path in (self._home, password):
                shutil.chown(path, "postgres", "postgres")
        how = ["--auth=scram-sha-256", f"--pwfile={password}", "--username=minova", "--no-sync"]
        command = [*self._as_its_user(), self._beside("initdb"), f"--pgdata={data}", *how]
        if start(command, env, log).wait() != 0:
            hint = " (as root, it needs folders that user postgres may enter)" if os.geteuid() == 0 else ""
            raise ClusterError(f"PostgreSQL cannot make its files{hint}: see {log}, or make cluster DATABASE=sqlite")

    def _beside(self, program: str) -> str:
        return str(Path(self._server).with_name(program))

    def _as_its_user(self) -> list[str]:
        if os.geteuid() != 0:
            return []
        # Unlike su, it leaves no process of its own in between.
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
