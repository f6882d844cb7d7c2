"""What guests do by themselves is known at once, though their host is not to report for an hour."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.services.services import Services
from tests.fixtures.virt.hosts import TwoHosts
from tests.fixtures.virt.site import CONFIGURATION, HOST1, VirtSite

SELDOM = """
[DEFAULT]
report_interval = 3600
service_down_time = 7200
"""


@pytest.fixture
def site(two_hosts: TwoHosts, guest_files: Path, services: Services, tmp_path: Path) -> Iterator[VirtSite]:
    connection = services.database("postgresql").connection()
    site = VirtSite(tmp_path, services.rabbitmq.transport_url(), connection, CONFIGURATION + SELDOM)
    try:
        site.start(two_hosts, guest_files)
        yield site
        site.check_invariants()
    finally:
        site.stop()


def test_a_guest_that_shuts_itself_down_is_known_to_have_stopped(site: VirtSite) -> None:
    uuid = site.boot(HOST1)
    with site.libvirt(HOST1) as connection:
        connection.lookupByUUIDString(uuid).shutdown()
    site.wait_for(lambda: site.manage("instance", "show", uuid)["state"] == "stopped", "the end of the guest")
    # It can be started by who sees that, at once.
    site.manage("instance", "start", uuid)
    site.wait_for_ticks(HOST1, uuid)
