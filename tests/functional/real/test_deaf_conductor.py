"""A conductor that reaches the database but not the broker: it keeps nothing from those that reach both."""

from collections.abc import Callable

import pytest
from sqlalchemy import select

from minova.db import models
from tests.fixtures.proxy import Proxy
from tests.fixtures.site import Site

GUESTS = 6
"""So many that the conductor that is cut off would take over one of them at least."""

# It has to notice by itself that nothing comes through any more, as well as be told.
SOON = """
[oslo_messaging_rabbit]
heartbeat_timeout_threshold = 4
"""


@pytest.fixture
def site(wires: list[Proxy], make_site: Callable[..., Site]) -> Site:
    """Two conductors, of which control1 has a wire of its own to the broker, and a compute."""
    site = make_site(SOON)
    wires.append(Proxy(site.transport_url))
    site.add_conductor("control1", f"transport_url = {wires[0].url}\n")
    site.add_conductor("control2")
    site.add_compute("host1")
    site.wait_until_up()
    return site


def attempts(site: Site, actions: list[str]) -> list[int]:
    with site.database.read() as session:
        return list(session.scalars(select(models.Action.attempt).where(models.Action.id.in_(actions))))


@pytest.mark.parametrize("how", ["cut", "swallow"])
def test_actions_are_not_taken_over_by_a_conductor_without_the_broker(site: Site, wires: list[Proxy], how: str) -> None:
    names = [f"vm{number}" for number in range(GUESTS)]
    for name in names:
        site.manage("instance", "boot", name)
    getattr(wires[0], how)()
    with site.daemon("host1").frozen():
        actions = [site.manage("instance", "stop", name, "--no-wait")["id"] for name in names]
        # The leases run out, since the compute renews none.
        site.wait_for(lambda: min(attempts(site, actions)) > 1, "all of them are taken over")
    for action in actions:
        site.succeed(action)
    wires[0].heal()
