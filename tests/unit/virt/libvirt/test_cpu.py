"""What a guest's CPU is said to be able to do."""

import pytest

libvirt = pytest.importorskip("libvirt")

from minova.virt.libvirt import cpu  # noqa: E402

GUEST = """<domain type="test"><name>vm</name><memory>65536</memory><os><type>hvm</type></os>{cpu}</domain>"""


@pytest.mark.parametrize(
    ("of_guest", "told"),
    [
        ("", ""),
        ("<cpu match='exact'><model>qemu64</model></cpu>", "qemu64</model>"),
        # libvirt's own simulation of a host has such a one.
        ("<cpu mode='host-passthrough'/>", "<arch>i686</arch>"),
    ],
)
def test_cpu_that_is_the_hosts_can_do_what_that_can(of_guest: str, told: str) -> None:
    domain = libvirt.open("test:///default").createXML(GUEST.format(cpu=of_guest))
    try:
        assert told in cpu.of_guest(domain)
        assert bool(told) == bool(cpu.of_guest(domain))
    finally:
        domain.destroy()
