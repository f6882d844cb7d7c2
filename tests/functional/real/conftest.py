"""Daemons as processes, on a private RabbitMQ and a private database."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.nursery import Nursery
from tests.fixtures.proxy import Proxy
from tests.fixtures.services.services import Services
from tests.fixtures.site import BIN, Site

_SECONDS = 240

_SITES, _SERVICES = pytest.StashKey[list[Site]](), pytest.StashKey[Services]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark these tests, and have one that takes too long end by an exception: it has processes to stop."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(_SECONDS, method="signal"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show with a test that failed what its daemons and the broker had to say."""
    report = yield
    if report.failed and (sites := item.stash.get(_SITES, [])):
        report.sections += [("logs of daemons", site.tail()) for site in sites]
        report.sections.append(("log of the broker", item.stash[_SERVICES].rabbitmq.tail()))
    return report


@pytest.fixture(autouse=True)
def no_unexpected_error() -> None:
    """Accept errors in the log of the tests' own process: a client that loses its broker tells so."""


@pytest.fixture
def database() -> str:
    """The kind of database; a test that wants several parametrizes this."""
    return "postgresql"


@pytest.fixture
def make_site(
    services: Services, nursery: Nursery, database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Site]]:
    """Make sites on a virtual host and a database of their own; check and stop them at the end."""
    # What goes wrong before a test has all its fixtures is reported too.
    request.node.stash[_SERVICES] = services
    sites = request.node.stash[_SITES] = []

    def make(more: str = "", *, transport_url: str = "", connection: str = "", scripts: Path = BIN) -> Site:
        folder = tmp_path / f"site{len(sites) + 1}"
        folder.mkdir()
        url = transport_url or services.rabbitmq.transport_url()
        tables = connection or services.database(database).connection()
        sites.append(Site(folder, url, tables, more, scripts, nursery=nursery))
        return sites[-1]

    yield make
    for site in sites:
        try:
            site.check_invariants()
        finally:
            site.stop()


@pytest.fixture
def configuration() -> str:
    """What the configuration of :func:`site` has more; a file whose tests need some overrides this."""
    return ""


@pytest.fixture
def site(make_site: Callable[..., Site], configuration: str) -> Site:
    """A conductor and two computes, which are up."""
    made = make_site(configuration)
    made.add_conductor()
    for host in ("host1", "host2"):
        made.add_compute(host)
    made.wait_until_up()
    return made


@pytest.fixture
def wires() -> Iterator[list[Proxy]]:
    """What has to be closed after the site: a daemon that cannot reach the broker does not end by itself."""
    made: list[Proxy] = []
    yield made
    for wire in made:
        wire.stop()
