"""``kill -9`` of processes in the middle of operations: they end all the same, and everything is where it belongs."""

import pytest

from minova.states import ActionStatus
from tests.fixtures.services.services import DATABASES
from tests.fixtures.site import Site

# A report whose answer dies with a conductor is made again before its host is missed.
# A live migration of an instance copies for two seconds, and an operation takes half of one: time to be killed in.
# One of BIG memory copies for a minute, which is more than a busy machine needs to get something else done.
BIG = 8192
SLOW = """
[fake]
operation_time = 0.5
migration_bandwidth = 128
[DEFAULT]
service_down_time = 6
[rpc]
quick_timeout = 2
"""


@pytest.fixture
def configuration() -> str:
    """Computes take their time, and are soon missed."""
    return SLOW


def _begin_migration(site: Site, name: str = "web") -> str:
    action: str = site.manage("instance", "live-migrate", name, "--no-wait")["id"]
    site.wait_for_step(action, "migrate")
    return action


def _assert_on(site: Site, host: str, name: str = "web") -> None:
    shown = site.manage("instance", "show", name)
    assert (shown["host"], shown["state"], shown["power"]) == (host, "active", "running")


@pytest.mark.parametrize("database", DATABASES)
def test_everyone_is_killed_in_turn(site: Site) -> None:
    site.manage("instance", "boot", "web", "--host", "host1")

    action = _begin_migration(site)
    site.daemon("control1").kill()
    site.add_conductor("control2")
    site.succeed(action)
    _assert_on(site, "host2")

    # The source is host2 now.
    action = _begin_migration(site)
    site.daemon("host2").kill()
    site.daemon("host2").start()
    site.succeed(action)
    _assert_on(site, "host1")

    # And the destination again.
    site.wait_until_up(site.daemon("host2"))
    action = _begin_migration(site)
    site.daemon("host2").kill()
    site.daemon("host2").start()
    site.succeed(action)
    site.wait_until_up(site.daemon("host2"))

    site.manage("instance", "boot", "big", "--host", "host2", "--memory", str(BIG))
    assert site.manage("action", "cancel", _begin_migration(site, "big"))["status"] == "cancelled"
    _assert_on(site, "host2", "big")

    action = _begin_migration(site, "big")
    site.lose_host("host2")
    site.manage("service", "force-down", "host2")
    assert site.end_of(action).status is not ActionStatus.SUCCEEDED
    site.wait_for_silence("host2")
    site.wait_for(lambda: site.manage("migration", "show", action)["unclear_hosts"] == "", "host1 is heard of big")
    for name in ("web", "big"):
        assert site.manage("instance", "evacuate", name)["host"] == "host1"


def test_workers_are_killed_in_a_boot_and_in_a_live_migration(site: Site) -> None:
    for number, host in enumerate(("control1", "host1"), start=1):
        name = f"vm{number}"
        booted = site.manage("instance", "boot", name, "--host", "host1", "--no-wait")["id"]
        site.daemon(host).kill_workers()
        site.succeed(booted)
        moved = site.manage("instance", "live-migrate", name, "--to", "host2", "--no-wait")["id"]
        site.wait_for_step(moved, "migrate")
        site.daemon(host).kill_workers()
        site.succeed(moved)
    assert {row["host"] for row in site.manage("instance", "list")} == {"host2"}
