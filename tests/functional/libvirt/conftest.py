"""Two real hosts of libvirt, between which guests can move; all guests go after each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from minova.objects import Instance
from minova.virt.driver import ComputeDriver
from tests.fixtures.nursery import Nursery
from tests.fixtures.services.services import Services
from tests.fixtures.virt.hosts import TwoHosts, build_guest, require_libvirt
from tests.fixtures.virt.rig import LibvirtRig
from tests.fixtures.virt.site import CONFIGURATION, VirtSite

_SECONDS = 240


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what only simulated hypervisors can be asked to do."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.real)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(_SECONDS, method="signal"))
            mark = item.get_closest_marker("fake_only")
            if mark is not None:
                item.add_marker(pytest.mark.skip(reason=f"of simulated hypervisors only: {mark.kwargs['reason']}"))


@pytest.fixture(scope="session")
def running_hosts() -> Iterator[TwoHosts]:
    """Two hosts, for all tests of one process."""
    require_libvirt()
    hosts = TwoHosts()
    try:
        hosts.up()
        yield hosts
    finally:
        hosts.down()


@pytest.fixture(scope="session")
def guest_files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The test guest's files, which are kept for later."""
    require_libvirt()
    cache = getattr(request.config, "cache", None)
    folder = cache.mkdir("test-guest") if cache is not None else tmp_path_factory.mktemp("guest")
    with FileLock(folder / "lock"):
        return build_guest(folder)


@pytest.fixture
def two_hosts(running_hosts: TwoHosts) -> Iterator[TwoHosts]:
    """Two hosts without guests; one that a test before this has crashed is up again."""
    running_hosts.up()
    yield running_hosts
    running_hosts.up()
    running_hosts.clean()


@pytest.fixture
def rig(two_hosts: TwoHosts, guest_files: Path) -> LibvirtRig:
    return LibvirtRig(two_hosts, guest_files)


@pytest.fixture
def instance(rig: LibvirtRig) -> Instance:
    return rig.instance


@pytest.fixture
def source(rig: LibvirtRig) -> ComputeDriver:
    return rig.driver("source")


@pytest.fixture
def destination(rig: LibvirtRig) -> ComputeDriver:
    return rig.driver("destination")


@pytest.fixture
def make_site(
    two_hosts: TwoHosts, guest_files: Path, services: Services, nursery: Nursery, tmp_path: Path
) -> Iterator[Callable[..., VirtSite]]:
    """Make a site on the two hosts; check the invariants and stop it at the end."""
    sites: list[VirtSite] = []

    def make(more: str = "", *, shared: bool = True) -> VirtSite:
        url, connection = services.rabbitmq.transport_url(), services.database("postgresql").connection()
        sites.append(VirtSite(tmp_path, url, connection, CONFIGURATION + more, nursery=nursery))
        sites[-1].start(two_hosts, guest_files, shared=shared)
        return sites[-1]

    yield make
    for site in sites:
        try:
            site.check_invariants()
        finally:
            site.stop()


@pytest.fixture
def site(make_site: Callable[..., VirtSite]) -> VirtSite:
    """A conductor and two computes, whose hosts share their storage."""
    return make_site()
