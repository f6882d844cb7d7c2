"""How long what is done to real guests takes: ``python -m bench.guests``, as root, as often as ``--runs`` says.

It runs real daemons on a private RabbitMQ and PostgreSQL, and two hosts of libvirt in namespaces (Debian's packages,
see bindep.txt), with the tests' guest of 128 MiB. Prints a table of milliseconds, each from the request to a conductor
on. There are as many runs with shared storage as without it, so there are twice as many of the first three:

- boot, start: until the guest says that it is ready; when first booted, its image is fetched;
- stop: until the action has ended, for which the guest shuts itself down;
- live migration, block migration: until the action has ended; between two libvirtds of one machine;
- downtime: what libvirt says of each of these, once it is over;
- silence: the longest time in which nothing was heard of the guest around the move, and by its own clock, which stands
  still with it, and may be wrong on a busy machine without KVM. It speaks every 200 ms, and a bit.
"""

import argparse
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from minova.cmd import init_backend

init_backend()

import libvirt  # noqa: E402

from bench import table  # noqa: E402
from minova.cli.connection import Connection  # noqa: E402
from minova.objects import BootRequest, MigrationOptions  # noqa: E402
from tests.fixtures.command import count, run  # noqa: E402
from tests.fixtures.services.services import Services  # noqa: E402
from tests.fixtures.virt.hosts import TwoHosts, build_guest, require_libvirt  # noqa: E402
from tests.fixtures.virt.rig import READY  # noqa: E402
from tests.fixtures.virt.site import CONFIGURATION, HOST1, HOST2, VirtSite  # noqa: E402

_TICK = re.compile(r"tick=(\d+) up=([\d.]+) boot=\w+ disk=\d+\r?\n")

_SECONDS_AFTER = 1.0
"""For so long the guest is heard after it has moved."""


class Ear:
    """Hears a guest on both hosts, for as long as it is open."""

    def __init__(self, site: VirtSite, uuid: str) -> None:
        """Hear the guest of ``uuid``."""
        self._site = site
        self._uuid = uuid
        self._heard_at: list[float] = []
        self._ticks: dict[int, float] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> "Ear":
        """Begin to listen."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening, a moment later."""
        time.sleep(_SECONDS_AFTER)
        self._closed.set()
        self._thread.join()

    @property
    def silence(self) -> float:
        """The longest time in which nothing was heard, in ms."""
        return _longest(self._heard_at)

    @property
    def silence_to_guest(self) -> float:
        """The longest time between two things that it said, in ms by its own clock."""
        return _longest([self._ticks[number] for number in sorted(self._ticks)])

    def _listen(self) -> None:
        before = ["", ""]
        while not self._closed.wait(0.002):
            said = [self._site.console(host, self._uuid) for host in (HOST1, HOST2)]
            if any(len(now) > len(earlier) for now, earlier in zip(said, before, strict=True)):
                self._heard_at.append(time.monotonic())
                self._ticks |= {int(tick): float(up) for text in said for tick, up in _TICK.findall(text)}
            before = said


class Bench:
    """What is done to one guest, and how long that takes in ms."""

    def __init__(self, site: VirtSite, operator: Connection, took: dict[str, list[float]]) -> None:
        """Measure at ``site``, with ``operator`` connected to it, and note the results in ``took``."""
        self._site = site
        self._api, self._ctxt = operator.conductor, operator.ctxt
        self._uuid = ""
        self._took = took

    def power(self) -> None:
        """Boot a guest, stop it, and start it again."""
        request = BootRequest(name="vm", vcpus=1, memory_mb=128, disk_gb=1, host=HOST1, image="tiny")
        with self._measured("boot"):
            self._uuid = self._api.boot_instance(self._ctxt, request).instance_uuid
            self._wait_until_ready(1)
        self._wait_until_it_counts()
        with self._measured("stop"):
            self._site.succeed(self._api.stop_instance(self._ctxt, "vm").id)
        with self._measured("start"):
            action = self._api.start_instance(self._ctxt, "vm").id
            self._wait_until_ready(2)
        self._site.succeed(action)
        self._wait_until_it_counts()

    def move(self, name: str, options: MigrationOptions) -> None:
        """Live-migrate the guest that was booted."""
        with Ear(self._site, self._uuid) as ear, self._measured(name):
            self._site.succeed(self._api.live_migrate_instance(self._ctxt, "vm", HOST2, options).id)
        with self._site.libvirt(HOST2) as connection:
            stats = connection.lookupByUUIDString(self._uuid).jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
        self._add(f"{name}: downtime", stats["downtime"])
        self._add(f"{name}: silence", ear.silence)
        self._add(f"{name}: silence by its clock", ear.silence_to_guest)

    def delete(self) -> None:
        """Delete the guest."""
        self._site.succeed(self._api.delete_instance(self._ctxt, "vm").id)

    def _measured(self, name: str) -> "_Stopwatch":
        return _Stopwatch(lambda took: self._add(name, took))

    def _add(self, name: str, took: float) -> None:
        self._took.setdefault(name, []).append(took)

    def _wait_until_ready(self, boots: int) -> None:
        self._site.wait_for(lambda: self._site.console(HOST1, self._uuid).count(READY) >= boots, "a guest that is up")

    def _wait_until_it_counts(self) -> None:
        # Before that it does not listen.
        self._site.wait_for_ticks(HOST1, self._uuid)


class _Stopwatch:
    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._tell((time.monotonic() - self._started) * 1000)


def _longest(moments: Sequence[float]) -> float:
    return max((later - earlier for earlier, later in pairwise(moments)), default=0.0) * 1000


def _measure(services: Services, hosts: TwoHosts, folder: Path, runs: int) -> dict[str, list[float]]:
    guest = build_guest(folder / "guest")
    took: dict[str, list[float]] = {}
    for shared, name in ((True, "live migration"), (False, "block migration")):
        place = folder / name.replace(" ", "-")
        place.mkdir()
        site = VirtSite(place, services.rabbitmq.transport_url(), services.postgresql.connection(), CONFIGURATION)
        try:
            site.start(hosts, guest, shared=shared)
            with site.connect() as operator:
                bench = Bench(site, operator, took)
                for _ in range(runs):
                    bench.power()
                    bench.move(name, MigrationOptions(block_migration=not shared))
                    bench.delete()
        finally:
            site.stop()
        hosts.clean()
    return took


def main(argv: Sequence[str]) -> int:
    """Measure as often as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.guests", description="How long real guests take, in ms.")
    parser.add_argument("--runs", type=count, default=5, metavar="N", help="measurements of each; default: 5")
    runs = parser.parse_args(argv).runs
    try:
        require_libvirt()
    except (pytest.skip.Exception, pytest.fail.Exception) as missing:
        sys.stderr.write(f"{missing}\n")
        return 1
    services, hosts = Services(), TwoHosts()
    try:
        hosts.up()
        with tempfile.TemporaryDirectory() as folder:
            table.show(_measure(services, hosts, Path(folder), runs), "milliseconds", 0)
    finally:
        hosts.down()
        services.stop()
    return 0


if __name__ == "__main__":
    run(main)
