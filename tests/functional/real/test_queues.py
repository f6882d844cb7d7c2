"""Queues that another release, or another configuration, has left at the broker."""

import json
import subprocess
from collections.abc import Callable

import kombu
import pytest
from sqlalchemy import select

from minova.db import models
from minova.db.queries import COMPUTE, CONDUCTOR
from tests.fixtures.services.services import Services
from tests.fixtures.site import BIN, Site

CLASSIC = "[oslo_messaging_rabbit]\nrabbit_quorum_queue = false\n"
REMEDY = "[oslo_messaging_rabbit] rabbit_quorum_queue = true makes"


def declare(url: str, queue: str, *, durable: bool) -> None:
    """Declare a classic queue as oslo.messaging would; those of a release that used none are not durable."""
    with kombu.Connection(url.replace("rabbit://", "amqp://", 1)) as connection:
        exchange = kombu.Exchange("minova", "topic", durable=durable)
        kombu.Queue(queue, exchange, queue, durable=durable, channel=connection.default_channel).declare()


@pytest.mark.parametrize(
    ("binary", "queue", "durable"), [(CONDUCTOR, "conductor", False), (COMPUTE, "compute.host1", True)]
)
def test_daemon_that_meets_a_queue_of_another_type_says_what_to_do(
    make_site: Callable[..., Site], binary: str, queue: str, durable: bool
) -> None:
    site = make_site()
    declare(site.transport_url, queue, durable=durable)
    daemon = site.add(binary, "host1")
    assert daemon.wait() == 1
    *_log, line = daemon.log.read_text().splitlines()
    assert line.startswith(f"{binary}: error: configuration: the broker has queue {queue}, or its exchange, of another")
    assert REMEDY in line
    assert "set it to false until all services are upgraded" in line
    assert site.database.write(lambda session: list(session.scalars(select(models.Service)))) == []


def test_upgrade_check_tells_of_queues_of_another_type(make_site: Callable[..., Site], services: Services) -> None:
    site = make_site()

    def check() -> dict[str, str]:
        command = [BIN / "minova-status", "--config-file", site.config, "upgrade", "check", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return {each["check"]: each["details"] or "" for each in json.loads(done.stdout)["checks"]}

    assert check()["Queues"] == ""
    # To look at queues makes none.
    assert services.rabbitmq.queues(site.transport_url) == []
    declare(site.transport_url, "conductor", durable=False)
    assert REMEDY in check()["Queues"]


def test_broker_that_is_restarted_has_forgotten_what_was_not_durable(
    make_site: Callable[..., Site], services: Services
) -> None:
    site = make_site()
    declare(site.transport_url, "conductor", durable=False)
    services.rabbitmq.restart()
    site.add_conductor()
    site.wait_until_up()
    assert {"name": "conductor", "type": "quorum"} in services.rabbitmq.queues(site.transport_url, "type")


def test_services_that_keep_the_type_that_there_is_work(make_site: Callable[..., Site]) -> None:
    site = make_site(CLASSIC)
    declare(site.transport_url, "conductor", durable=False)
    site.add_conductor()
    site.add_compute("host1")
    site.wait_until_up()
    assert site.manage("instance", "boot", "web")["state"] == "active"
