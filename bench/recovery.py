"""How long it takes until somebody goes on with an operation, after whoever was at it has gone.

    python -m bench.recovery [--runs N]

Real daemons on a private RabbitMQ and PostgreSQL (Debian's packages, see bindep.txt): two conductors with the default
lease and sweep, and two computes. Prints a table of seconds:

- graceful stop: from SIGTERM to a conductor until another has taken its action over, whose step waits for an answer;
- kill -9: the same from SIGKILL on;
- compute back: from the start of ``minova-compute`` until its hypervisor is at the order that it was killed over.
"""

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import repeat, starmap
from pathlib import Path

from minova.cmd import init_backend

init_backend()

from bench import table  # noqa: E402
from minova.cli.connection import Connection  # noqa: E402
from minova.objects import Action, MigrationOptions  # noqa: E402
from tests.fixtures.command import count, run  # noqa: E402
from tests.fixtures.daemon import Daemon  # noqa: E402
from tests.fixtures.services.program import wait_for  # noqa: E402
from tests.fixtures.services.services import Services  # noqa: E402
from tests.fixtures.site import Site  # noqa: E402

# Site has little patience; here it is that of an installation.
_DEFAULTS = """
[DEFAULT]
report_interval = 10
[conductor]
lease = 15
sweep_interval = 0.5
"""
_ENDLESS, _AT_ONCE = "[fake]\noperation_time = 3600\n", ""


class Bench:
    """A site, and what is done to it once for each measurement."""

    def __init__(self, site: Site, operator: Connection) -> None:
        """Measure at ``site``, with ``operator`` connected to it."""
        self._site = site
        self._operator = operator
        self._uuid = self._boot()

    def graceful_stop(self) -> float:
        """Return the seconds from SIGTERM to a conductor until another has its action."""
        return self._without_owner(lambda owner: os.kill(owner.pid, signal.SIGTERM))

    def kill(self) -> float:
        """Return the seconds from SIGKILL to a conductor until another has its action."""
        return self._without_owner(Daemon.kill)

    def compute_back(self) -> float:
        """Return the seconds from the start of a compute until its hypervisor has done what it was killed over."""
        self._restart_compute(_ENDLESS)
        before = self._power_state()
        api, ctxt = self._operator.conductor, self._operator.ctxt
        action = (api.stop_instance if before == "running" else api.start_instance)(ctxt, "web")
        # Until the order is in the hands of the driver.
        time.sleep(2)
        self._site.daemon("host1").kill()
        self._configure(_AT_ONCE)
        started = time.monotonic()
        self._site.daemon("host1").start()
        _poll(lambda: self._power_state() != before)
        took = time.monotonic() - started
        self._site.succeed(action.id)
        return took

    def _boot(self) -> str:
        shown = self._site.manage("instance", "boot", "web", "--host", "host1")
        return str(shown["uuid"])

    def _without_owner(self, end: Callable[[Daemon], None]) -> float:
        with self._silent_compute():
            action = self._ask()
            owner = self._site.action(action.id).owner
            conductor = self._site.daemon(owner.partition("/")[0])
            # Until it has asked.
            time.sleep(1)
            started = time.monotonic()
            end(conductor)
            _poll(lambda: self._site.action(action.id).owner != owner)
            took = time.monotonic() - started
        self._operator.conductor.cancel_action(self._operator.ctxt, action.id)
        self._site.end_of(action.id)
        if conductor.runs:
            conductor.wait()
        conductor.start()
        self._site.wait_until_up(conductor)
        return took

    def _ask(self) -> Action:
        """Begin what has a conductor wait for an answer that does not come."""
        api, ctxt = self._operator.conductor, self._operator.ctxt
        return api.live_migrate_instance(ctxt, "web", "host2", MigrationOptions())

    @contextmanager
    def _silent_compute(self) -> Iterator[None]:
        workers = self._site.daemon("host1").workers()
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        try:
            yield
        finally:
            for worker in workers:
                os.kill(worker, signal.SIGCONT)

    def _restart_compute(self, more: str) -> None:
        compute = self._site.daemon("host1")
        compute.stop()
        self._configure(more)
        compute.start()
        self._site.wait_until_up(compute)

    def _configure(self, more: str) -> None:
        (self._site.folder / "host1.conf").write_text(f"[DEFAULT]\nhost = host1\n{more}")

    def _power_state(self) -> str:
        file = self._site.folder / "state" / "fake" / "host1" / f"{self._uuid}.json"
        return str(json.loads(file.read_text())["power_state"])


def _poll(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "nobody ever went on"
        time.sleep(0.005)


def _measure(services: Services, folder: Path, runs: int) -> None:
    site = Site(folder, services.rabbitmq.transport_url(), services.postgresql.connection(), _DEFAULTS)
    try:
        for host in ("control1", "control2"):
            site.add_conductor(host)
        for host in ("host1", "host2"):
            site.add_compute(host)
        site.wait_until_up()
        wait_for(lambda: len(site.manage("host", "list")) == len(("host1", "host2")), "both hosts")
        with site.connect() as operator:
            _show(Bench(site, operator), runs)
    finally:
        site.stop()


def _show(bench: Bench, runs: int) -> None:
    cases = {"graceful stop": bench.graceful_stop, "kill -9": bench.kill, "compute back": bench.compute_back}
    # Each is measured when its line is due.
    table.show({name: starmap(measure, repeat((), runs)) for name, measure in cases.items()}, "seconds", 2)


def main(argv: Sequence[str]) -> int:
    """Measure as often as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.recovery", description="How long recovery takes, in seconds."
    )
    parser.add_argument("--runs", type=count, default=5, metavar="N", help="measurements of each; default: 5")
    runs = parser.parse_args(argv).runs
    services = Services()
    try:
        with tempfile.TemporaryDirectory() as folder:
            _measure(services, Path(folder), runs)
    finally:
        services.stop()
    return 0


if __name__ == "__main__":
    run(main)
