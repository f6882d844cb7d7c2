"""Many conductors: requests are spread, whoever dies is replaced, and nothing is done twice."""

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import select

from minova.db import models
from minova.objects import BootRequest, Hop
from tests.fixtures.daemon import Daemon
from tests.fixtures.services.services import DATABASES
from tests.fixtures.site import Site

WORKERS = 3
INSTANCES = 24


def boot_all(site: Site) -> list[str]:
    """Submit many boots at once, and return their actions."""
    with site.connect() as connection:
        requests = (BootRequest(name=f"vm{n}", vcpus=1, memory_mb=64, disk_gb=1) for n in range(INSTANCES))
        return [connection.conductor.boot_instance(connection.ctxt, request).id for request in requests]


def takeovers(site: Site) -> int:
    with site.database.read() as session:
        return len(session.scalars(select(models.ActionEvent).where(models.ActionEvent.hop == Hop.TAKEOVER)).all())


def loaded(make_site: Callable[..., Site]) -> tuple[Site, list[Daemon]]:
    """Return a site with two conductors of several workers each, and these."""
    site = make_site("[compute]\nmax_concurrent_live_migrations = 4\n[rpc]\nquick_timeout = 30\n")
    conductors = [site.add_conductor(host, f"[conductor]\nworkers = {WORKERS}\n") for host in ("control1", "control2")]
    for host in ("host1", "host2"):
        site.add_compute(host)
    site.wait_until_up()
    site.wait_for(lambda: all(len(each.workers()) == WORKERS for each in conductors), "all workers")
    return site, conductors


@pytest.mark.parametrize("database", DATABASES)
def test_requests_are_spread_over_workers_and_conductors(make_site: Callable[..., Site]) -> None:
    site, conductors = loaded(make_site)
    rows = {row["host"]: row["state"] for row in site.manage("service", "list")}
    assert rows == dict.fromkeys(("control1", "control2", "host1", "host2"), "up")
    called = Counter(each["host"] for each in site.manage("rpc", "ping", "--all"))
    assert called == {"control1": WORKERS, "control2": WORKERS, "host1": 1, "host2": 1}
    for action in boot_all(site):
        site.succeed(action)
    with site.database.read() as session:
        owners = Counter(action.owner for action in session.scalars(select(models.Action)))
    assert {owner.partition("/")[0] for owner in owners} == {"control1", "control2"}
    assert len(owners) > len(conductors)
    assert takeovers(site) == 0
    assert [error for daemon in site.daemons for error in daemon.errors()] == []


def test_worker_that_is_killed_is_replaced_and_what_it_held_goes_on(make_site: Callable[..., Site]) -> None:
    site, conductors = loaded(make_site)
    actions = boot_all(site)
    for conductor in conductors:
        before = conductor.workers()
        os.kill(before[0], signal.SIGKILL)
        site.wait_for(
            lambda conductor=conductor, before=before: len(set(conductor.workers()) - {before[0]}) == WORKERS,
            "a new worker",
        )
    for action in actions:
        site.succeed(action)
    assert {row["state"] for row in site.manage("service", "list")} == {"up"}


def test_one_request_id_is_in_the_logs_of_all_that_took_part(make_site: Callable[..., Site]) -> None:
    site = make_site()
    for host in ("host1", "host2"):
        site.add_compute(host, "[DEFAULT]\nuse_json = true\ndebug = true\n")
    site.add_conductor("control1", f"[DEFAULT]\nuse_json = true\ndebug = true\n[conductor]\nworkers = {WORKERS}\n")
    site.wait_until_up()
    site.manage("instance", "boot", "web", "--host", "host1")
    site.manage("instance", "live-migrate", "web")
    [migrated] = [row for row in site.manage("action", "list") if row["verb"] == "live-migrate"]
    request_id = site.action(migrated["id"]).request_id
    for daemon in site.daemons:
        lines = [json.loads(line) for line in daemon.log.read_text().splitlines()]
        about = [line for line in lines if migrated["id"] in line["message"]]
        assert about, f"{daemon.host} says nothing of the action"
        assert {line["context"].get("request_id") for line in about} == {request_id}
        assert all(re.match(r"req-|$", line["context"].get("request_id", "")) for line in lines)
