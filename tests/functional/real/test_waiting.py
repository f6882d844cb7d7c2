"""The broker as a buffer: what was asked while nobody was there is done when somebody comes."""

import threading
from collections.abc import Callable
from subprocess import CompletedProcess

import pytest

from tests.fixtures.services.services import Services
from tests.fixtures.site import Site

# For as long as a daemon may need to start on a machine that has much to do.
PATIENT = "[rpc]\nquick_timeout = 60\n"


@pytest.fixture
def patient_site(make_site: Callable[..., Site]) -> Site:
    """A conductor and a compute, and clients that wait for a minute."""
    made = make_site(PATIENT)
    made.add_conductor("control1")
    made.add_compute("host1")
    made.wait_until_up()
    return made


def _wait_for_message(site: Site, services: Services, queue: str, number: int = 1) -> None:
    def waits() -> bool:
        queues = services.rabbitmq.queues(site.transport_url, "messages")
        return any(each["name"] == queue and int(each["messages"]) >= number for each in queues)

    site.wait_for(waits, f"a message that waits in {queue}")


def test_request_outlives_the_absence_of_all_conductors_and_a_restart_of_the_broker(
    patient_site: Site, services: Services
) -> None:
    site, results = patient_site, list[CompletedProcess[str]]()
    site.daemon("control1").stop()
    user = threading.Thread(target=lambda: results.append(site.run(args=("instance", "boot", "web"))))
    user.start()
    # The first message is no more than a ping; after it comes one whose answer the user waits for.
    _wait_for_message(site, services, "conductor", 2)
    services.rabbitmq.restart()
    site.daemon("control1").start()
    user.join()
    assert [(done.returncode, done.stderr) for done in results] == [(0, "")]
    assert site.manage("instance", "show", "web")["state"] == "active"


def test_compute_that_returns_finds_what_it_was_sent(patient_site: Site, services: Services) -> None:
    site = patient_site
    site.manage("instance", "boot", "web")
    site.daemon("host1").kill()
    action = site.manage("instance", "stop", "web", "--no-wait")["id"]
    _wait_for_message(site, services, "compute.host1")
    services.rabbitmq.restart(kill=True)
    site.daemon("host1").start()
    site.succeed(action)
    assert site.manage("instance", "show", "web")["state"] == "stopped"


def test_host_that_is_known_to_be_down_is_asked_nothing(patient_site: Site) -> None:
    site = patient_site
    site.manage("instance", "boot", "web")
    site.lose_host("host1")
    site.manage("service", "force-down", "host1")
    assert "host host1 cannot be used" in site.refused("instance", "stop", "web")
    assert site.manage("action", "list", "-c", "verb") == [{"verb": "boot"}]
