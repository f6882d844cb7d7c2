"""An operator's day, by ``minova-manage`` alone, on every database."""

import pytest

from tests.fixtures.services.services import DATABASES, Services
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


def test_broker_soon_forgets_what_a_command_leaves_behind(site: Site, services: Services) -> None:
    site.manage("instance", "list")
    site.manage("rpc", "ping", "--all")
    queues = services.rabbitmq.queues(site.transport_url, "arguments", "consumers")
    expiring = [each for each in queues if "x-expires" in str(each["arguments"])]
    left = [str(each["arguments"]) for each in expiring if not int(each["consumers"])]
    kept = [str(each["arguments"]) for each in expiring if int(each["consumers"])]
    assert len(left) >= 2
    assert all("60000" in arguments for arguments in left)
    assert kept
    assert not any("60000" in arguments for arguments in kept)
