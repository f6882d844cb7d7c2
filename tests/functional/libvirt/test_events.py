"""What guests do by themselves is known at once, though their host is not to report for an hour."""

from collections.abc import Callable

from tests.fixtures.virt.site import HOST1, VirtSite

SELDOM = """
[DEFAULT]
report_interval = 3600
service_down_time = 7200
"""


def test_a_guest_that_shuts_itself_down_is_known_to_have_stopped(make_site: Callable[..., VirtSite]) -> None:
    site = make_site(SELDOM)
    uuid = site.boot(HOST1)
    with site.libvirt(HOST1) as connection:
        connection.lookupByUUIDString(uuid).shutdown()
    site.wait_for(lambda: site.manage("instance", "show", uuid)["state"] == "stopped", "the end of the guest")
    # It can be started by who sees that, at once.
    site.manage("instance", "start", uuid)
    site.wait_for_ticks(HOST1, uuid)
