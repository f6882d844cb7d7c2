"""What an operator is told while processes die: over a real broker, of a real database."""

from typing import Any

import pytest

from tests.fixtures.site import Site

# One migration copies for a minute: time for its source to be missed, and to come back.
SLOW = """
[fake]
migration_bandwidth = 128
[DEFAULT]
service_down_time = 6
"""


@pytest.fixture
def configuration() -> str:
    """Computes take their time, and are soon missed."""
    return SLOW


def _said(story: dict[str, Any]) -> dict[str, str]:
    return {word["host"]: word["said"] for word in story["hosts"]}


def test_compute_is_killed_in_a_live_migration(site: Site) -> None:
    site.manage("instance", "boot", "web", "--host", "host1", "--memory", "8192")
    action = site.manage("instance", "live-migrate", "web", "--no-wait")["id"]
    site.wait_for_step(action, "migrate")
    site.wait_for(lambda: "migrating to host2" in _said(_explain(site))["host1"], "the start of the copying")
    story = _explain(site)
    assert (story["action_id"], story["step"], story["waits_for"]) == (action, "migrate", "host1")
    assert "has an order in hand: migrate since " in _said(story)["host1"]
    assert story["next_attempt"] == "none is due: host1 has the order in hand, and renews the lease"

    site.daemon("host1").kill()
    site.wait_for_silence("host1")
    story = _explain(site)
    assert _said(story)["host1"].startswith("silent: last heard ")
    assert _said(story)["host2"] == "answers, has no such guest"
    assert story["next_attempt"].startswith("none while host1 is silent")
    assert story["owner"].startswith("control1/")
    assert "host2 tells by finish_at_destination whether it was done all the same" in story["next"][-1]

    site.daemon("host1").start()
    site.wait_until_up(site.daemon("host1"))
    site.wait_for(lambda: "has an order in hand: migrate" in _said(_explain(site))["host1"], "the next attempt")
    assert _explain(site)["attempt"] > 1
    assert site.manage("action", "cancel", action)["status"] == "cancelled"
    story = _explain(site)
    assert (story["status"], _said(story)["host1"]) == ("cancelled", "running")
    assert story["next"][0].startswith("Nothing is pending")

    site.daemon("control1").kill()
    line = site.refused("instance", "explain", "web")
    assert line.startswith("minova-manage: error: any conductor did not answer within ")


def _explain(site: Site) -> dict[str, Any]:
    story: dict[str, Any] = site.manage("instance", "explain", "web")
    return story
