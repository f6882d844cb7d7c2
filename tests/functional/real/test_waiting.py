"""The broker as a buffer: what was asked while nobody was there is done when somebody comes."""

import threading
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from tests.fixtures.services.services import DATABASES, Services
from tests.fixtures.site import Site

# A guest that is dirtied faster than it is copied.
ENDLESS = """
[fake]
migration_dirty_rate = 4000
migration_bandwidth = 2000
"""


@pytest.fixture
def small_site(make_site: Callable[..., Site]) -> Site:
    """A conductor and a compute."""
    made = make_site()
    made.add_conductor("control1")
    made.add_compute("host1")
    made.wait_until_up()
    return made


def _wait_for_message(site: Site, services: Services, queue: str, method: str) -> None:
    site.wait_for(lambda: method in services.rabbitmq.waiting(site.transport_url, queue), f"{method} in {queue}")


@pytest.mark.parametrize("database", DATABASES)
def test_request_outlives_the_absence_of_all_conductors_and_a_restart_of_the_broker(
    small_site: Site, services: Services
) -> None:
    site, results = small_site, list[CompletedProcess[str]]()
    site.daemon("control1").stop()
    user = threading.Thread(target=lambda: results.append(site.run(args=("instance", "boot", "web"))))
    user.start()
    # Nobody tells which conductor is the oldest, either.
    _wait_for_message(site, services, "conductor", "boot_instance")
    services.rabbitmq.restart()
    site.daemon("control1").start()
    user.join()
    assert [(done.returncode, done.stderr) for done in results] == [(0, "")]
    assert site.manage("instance", "show", "web")["state"] == "active"


@pytest.mark.parametrize("database", DATABASES)
def test_compute_that_returns_finds_what_it_was_sent(small_site: Site, services: Services) -> None:
    site = small_site
    site.manage("instance", "boot", "web")
    site.daemon("host1").kill()
    action = site.manage("instance", "stop", "web", "--no-wait")["id"]
    _wait_for_message(site, services, "compute.host1", "stop_instance")
    services.rabbitmq.restart(kill=True)
    site.daemon("host1").start()
    site.succeed(action)
    assert site.manage("instance", "show", "web")["state"] == "stopped"


def test_what_a_compute_tells_of_its_work_does_not_pile_up(make_site: Callable[..., Site], services: Services) -> None:
    site = make_site(ENDLESS)
    conductor, compute, destination = site.add_conductor(), site.add_compute("host1"), site.add_compute("host2")
    site.wait_until_up()
    site.manage("instance", "boot", "web", "--host", "host1")
    action = site.manage("instance", "live-migrate", "web", "--no-wait")["id"]
    site.wait_for(lambda: site.manage("migration", "show", action)["status"] == "running", "the migration")
    conductor.kill()
    for method in ("report_migration", "renew_orders", "report_host"):
        _wait_for_message(site, services, "conductor", method)
    for daemon in (compute, destination):
        daemon.kill()
    site.wait_for(lambda: services.rabbitmq.waiting(site.transport_url, "conductor") == [], "nothing is left")
    for daemon in site.daemons:
        daemon.start()
    site.wait_until_up()
    assert site.manage("action", "cancel", action)["status"] == "cancelled"


def test_host_that_is_known_to_be_down_is_asked_nothing(small_site: Site) -> None:
    site = small_site
    site.manage("instance", "boot", "web")
    site.lose_host("host1")
    site.manage("service", "force-down", "host1")
    assert "host host1 cannot be used" in site.refused("instance", "stop", "web")
    assert site.manage("action", "list", "-c", "verb") == [{"verb": "boot"}]
