"""An operator's day, by ``minova-manage`` alone, on every database."""

import pytest

from tests.fixtures.services.services import DATABASES
from tests.fixtures.site import Site


@pytest.mark.parametrize("database", DATABASES)
def test_operators_day(site: Site) -> None:
    booted = site.manage("instance", "boot", "web", "--host", "host1")
    assert (booted["host"], booted["state"], booted["power"]) == ("host1", "active", "running")

    assert site.manage("instance", "live-migrate", "web")["host"] == "host2"
    assert site.manage("instance", "stop", "web")["state"] == "stopped"
    assert site.manage("instance", "migrate", "web", "--to", "host1")["host"] == "host1"
    assert site.manage("instance", "start", "web")["power"] == "running"
    assert "cannot start instance web" in site.refused("instance", "start", "web")

    (host1, host2) = site.manage("host", "list")
    assert (host1["instances"], host2["instances"]) == (1, 0)
    assert {row["status"] for row in site.manage("action", "list")} == {"succeeded"}

    assert site.run(args=("instance", "delete", "web")).stdout == "deleted\n"
    assert site.manage("instance", "list") == []
    assert [error for daemon in site.daemons for error in daemon.errors()] == []
