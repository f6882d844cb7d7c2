"""Whatever is published on the broker, no service dies of it."""

import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import kombu
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures import hostile
from tests.fixtures.services.services import SQLITE
from tests.fixtures.site import Site

EXAMPLES = {"postgresql": 1500, "mariadb": 300, SQLITE: 300}
"""How many messages are tried. What becomes of most has nothing to do with the database: a few show the difference."""

ROUND = 100
"""After so many messages, services have to answer."""

QUEUES = {
    "conductor": ("conductor", "conductor.control1"),
    "compute": ("compute.host1",),
}


@contextmanager
def publisher(site: Site) -> Iterator[kombu.Producer]:
    with kombu.Connection(site.transport_url.replace("rabbit://", "amqp://", 1)) as connection:
        yield connection.Producer()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """Return a conductor and two computes, which by default do not wait long for callers that never were there."""
    made = make_site()
    made.add_conductor()
    for host in ("host1", "host2"):
        made.add_compute(host)
    made.wait_until_up()
    return made


@pytest.mark.parametrize("database", EXAMPLES)
def test_hostile_messages_leave_every_service_alive(site: Site, database: str) -> None:
    processes = [(daemon.pid, daemon.workers()) for daemon in site.daemons]
    sent = 0
    with publisher(site) as producer, site.connect() as connection:

        @settings(
            max_examples=EXAMPLES[database],
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        @given(data=st.data())
        def publish(data: st.DataObject) -> None:
            nonlocal sent
            topic = data.draw(st.sampled_from(sorted(QUEUES)))
            body, kind = data.draw(hostile.bodies(topic)), data.draw(hostile.formats)
            queue = data.draw(st.sampled_from(QUEUES[topic]))
            producer.publish(body, routing_key=queue, content_type=kind, content_encoding="utf-8")
            sent += 1
            if sent % ROUND == 0:
                connection.control("conductor").ping(connection.ctxt, "control1")
                connection.control("compute").ping(connection.ctxt, "host1")

        publish()
    assert sent >= EXAMPLES[database] * 2 // 3
    assert [(daemon.pid, daemon.workers()) for daemon in site.daemons] == processes
    assert site.manage("instance", "boot", "vm", "--host", "host2")["state"] == "active"


class Burglar:
    """Runs a command when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str, bytes]]:
        return Path.write_bytes, (self.file, b"")  # type: ignore[return-value]


def test_nothing_is_unpickled(site: Site, tmp_path: Path) -> None:
    stolen = tmp_path / "stolen"
    with publisher(site) as producer:
        for queue in ("conductor", "compute.host1"):
            producer.publish(
                pickle.dumps(Burglar(stolen)),
                routing_key=queue,
                content_type="application/x-python-serialize",
                content_encoding="binary",
            )
    site.manage("instance", "boot", "vm", "--host", "host1")
    assert not stolen.exists()


def test_huge_message_is_refused(site: Site) -> None:
    with site.connect() as connection, pytest.raises(Exception, match="max_message_size"):
        connection.conductor.get_instance(connection.ctxt, "x" * (5 * 2**20))
    site.manage("instance", "boot", "vm")
