"""What systemd hears of real daemons."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.site import Site
from tests.fixtures.systemd import Manager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path)
    yield manager
    manager.close()


def test_compute_is_ready_once_a_conductor_knows_of_it(make_site: Callable[..., Site], manager: Manager) -> None:
    site = make_site()
    site._env["NOTIFY_SOCKET"] = str(manager.path)
    compute = site.add_compute("host1")
    del site._env["NOTIFY_SOCKET"]
    site.wait_for(lambda: "Waiting for a conductor" in compute.tail(), "a wait for a conductor")
    assert "READY=1" not in manager.listen()
    site.add_conductor()
    manager.wait_for("READY=1")
    assert [row["state"] for row in site.manage("host", "list")] == ["up"]


def test_conductor_is_ready_once_all_its_workers_take_requests(
    make_site: Callable[..., Site], manager: Manager
) -> None:
    site = make_site()
    site._env["NOTIFY_SOCKET"] = str(manager.path)
    conductor = site.add_conductor("control1", "[conductor]\nworkers = 2\n")
    manager.wait_for("READY=1")
    assert [row["host"] for row in site.manage("service", "list")] == ["control1"]
    conductor.stop()
    assert "STOPPING=1" in manager.listen()
