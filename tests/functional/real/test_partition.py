"""A compute that cannot reach the broker: its guests run on, it begins nothing, and when it is back all ends well."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from minova.cli.connection import Connection
from minova.db import models
from minova.db.queries import COMPUTE
from minova.objects import utcnow
from minova.states import ActionStatus
from tests.fixtures.proxy import Proxy
from tests.fixtures.site import Site

SOON = """
[DEFAULT]
service_down_time = 8
[oslo_messaging_rabbit]
heartbeat_timeout_threshold = 4
[fake]
migration_bandwidth = 128
"""
"""A compute is soon missed, and soon notices that the broker is silent; a guest of 1 GiB moves for some."""

CUTS = ("cut", "swallow")
"""How a wire is cut: with a word to both ends, or without."""


@pytest.fixture
def site(wires: list[Proxy], make_site: Callable[..., Site]) -> Site:
    """A conductor and two computes, of which host1 has a wire of its own to the broker."""
    site = make_site(SOON)
    wires.append(Proxy(site.transport_url))
    site.add_conductor()
    site.add_compute("host1", f"transport_url = {wires[0].url}\n")
    site.add_compute("host2")
    site.wait_until_up()
    return site


@pytest.fixture
def wire(wires: list[Proxy], site: Site) -> Iterator[Proxy]:
    """The wire of host1; it is whole at the end."""
    yield wires[0]
    wires[0].heal()


@pytest.fixture
def operator(site: Site) -> Iterator[Connection]:
    """Somebody who is quicker than a new ``minova-manage``, so that what is asked for comes just after a cut."""
    with site.connect() as connection:
        connection.conductor.list_hosts(connection.ctxt)
        yield connection


def boot(site: Site, name: str = "web", host: str = "host1") -> str:
    # Large enough to be cut off while it moves.
    uuid: str = site.manage("instance", "boot", name, "--host", host, "--memory", "1024")["uuid"]
    return uuid


def state_of(site: Site, host: str) -> str:
    (row,) = [row for row in site.manage("service", "list") if row["host"] == host]
    state: str = row["state"]
    return state


def wait_until_heard(site: Site, host: str = "host1") -> None:
    """Wait until a host is up, and has done what it was told in answer to its first report from now on."""
    for _ in range(2):
        since = utcnow()
        site.wait_for(lambda since=since: heard_since(site, host, since), f"{host} reports")
    assert state_of(site, host) == "up"


def heard_since(site: Site, host: str, since: datetime) -> bool:
    with site.database.read() as session:
        return session.get_one(models.Service, (COMPUTE, host)).last_seen_at > since


def file_of(site: Site, host: str, uuid: str) -> Path:
    return site.folder / "state" / "fake" / host / f"{uuid}.json"


def guest(site: Site, host: str, uuid: str) -> dict[str, Any] | None:
    file = file_of(site, host, uuid)
    found: dict[str, Any] | None = json.loads(file.read_text()) if file.exists() else None
    return found


def power(site: Site, host: str, uuid: str) -> str | None:
    found = guest(site, host, uuid)
    return found["power_state"] if found else None


def turn_off(site: Site, host: str, uuid: str) -> None:
    """Have a guest shut itself down."""
    found = guest(site, host, uuid)
    assert found
    (site.folder / "state" / "fake" / host / f"{uuid}.json").write_text(
        json.dumps({**found, "power_state": "shutdown"})
    )


@pytest.mark.parametrize("how", CUTS)
def test_compute_that_is_cut_off_is_unknown_and_its_guests_run_on(
    site: Site, wire: Proxy, operator: Connection, how: str
) -> None:
    web, db = boot(site), boot(site, "db")
    getattr(wire, how)()
    # It does not know yet that it is cut off, nor does anybody else.
    action = operator.conductor.stop_instance(operator.ctxt, "web").id
    site.wait_for_silence("host1")
    assert state_of(site, "host1") == "unknown"
    assert [power(site, "host1", each) for each in (web, db)] == ["running", "running"]
    assert "was not heard from" in site.refused("instance", "stop", "db")
    turn_off(site, "host1", db)
    wire.heal()
    assert site.succeed(action).error == ""
    assert power(site, "host1", web) == "shutdown"
    site.wait_for(lambda: site.instance(db).vm_state == "stopped", "the correction")
    wait_until_heard(site)
    site.manage("instance", "start", "db")


@pytest.mark.parametrize(("how", "unset"), [("cut", True), ("swallow", False)], ids=["cut-unset", "swallow-fenced"])
def test_compute_whose_guests_were_evacuated_destroys_its_copies_first(
    site: Site, wire: Proxy, operator: Connection, how: str, unset: bool
) -> None:
    web, db = boot(site), boot(site, "db")
    site.manage("instance", "stop", "db")
    getattr(wire, how)()
    # The order to start it waits at the broker, and is worth beginning for five minutes.
    start = operator.conductor.start_instance(operator.ctxt, "db").id
    site.wait_for_silence("host1")
    site.manage("service", "force-down", "host1")
    assert site.end_of(start).status is ActionStatus.FAILED
    for name in ("web", "db"):
        assert site.manage("instance", "evacuate", name)["host"] == "host2"
    site.manage("instance", "start", "db")
    if unset:
        site.manage("service", "force-down", "host1", "--unset")
    lines = len(site.daemon("host1").log.read_text().splitlines())
    wire.heal()
    for uuid in (web, db):
        site.wait_for(lambda uuid=uuid: guest(site, "host1", uuid) is None, "the copy is destroyed")
        assert power(site, "host2", uuid) == "running"
    if not unset:
        assert "it is down" in site.refused("instance", "boot", "new", "--host", "host1")
        site.manage("service", "force-down", "host1", "--unset")
    wait_until_heard(site)
    site.manage("instance", "boot", "new", "--host", "host1")
    said = site.daemon("host1").log.read_text().splitlines()[lines:]
    done = [line.partition(" Action ")[2] for line in said if "minova.compute.work" in line and "succeeded" in line]
    assert len(done) == 1
    assert ": spawn of " in done[0]


def cut_off_during_migration(site: Site, wire: Proxy, uuid: str, source: str, how: str) -> str:
    """Cut host1 off while a guest moves from or to it; return the action once the host is unknown."""
    action: str = site.manage("instance", "live-migrate", uuid, "--no-wait")["id"]
    # The step is known to the conductor sooner than to the source, which may be the one that is cut off.
    site.wait_for(lambda: bool((guest(site, source, uuid) or {}).get("migration")), "the guest moves")
    getattr(wire, how)()
    site.wait_for_silence("host1")
    return action


@pytest.mark.parametrize(
    ("how", "source", "destination"), [("cut", "host1", "host2"), ("swallow", "host2", "host1")], ids=CUTS
)
def test_live_migration_goes_on_while_one_of_its_hosts_is_cut_off(
    site: Site, wire: Proxy, how: str, source: str, destination: str
) -> None:
    uuid = boot(site, host=source)
    action = cut_off_during_migration(site, wire, uuid, source, how)
    site.wait_for(lambda: guest(site, destination, uuid) is not None, "the guest has moved by itself")
    assert site.action(action).finished_at is None
    wire.heal()
    site.succeed(action)
    assert site.instance(uuid).host == destination


def test_live_migration_whose_source_is_given_up_ends_where_the_guest_is(site: Site, wire: Proxy) -> None:
    uuid = boot(site)
    action = cut_off_during_migration(site, wire, uuid, "host1", "swallow")
    site.wait_for(lambda: guest(site, "host2", uuid) is not None, "the guest has moved by itself")
    site.manage("service", "force-down", "host1")
    site.succeed(action)
    assert site.instance(uuid).host == "host2"
    site.manage("service", "force-down", "host1", "--unset")
    wire.heal()
    wait_until_heard(site)
    site.manage("instance", "live-migrate", "web", "--to", "host1")
