"""What becomes of guests and drivers when libvirtd is restarted, is away, or has guests of others."""

import os
import subprocess
import uuid
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import libvirt
import pytest

from minova.exception import ConfigurationError, DriverError
from minova.objects import Instance, MigrateData
from minova.virt.driver import ComputeDriver
from minova.virt.libvirt.addresses import Addresses
from tests.contract.rig import OPTIONS, RUNNING, UUID, state
from tests.fixtures.lab import wait_until
from tests.fixtures.virt.rig import CMDLINE, READY, Console, LibvirtRig

FOREIGN = "99999999-9999-4999-8999-999999999999"


def test_guests_outlive_a_restart_of_libvirtd(rig: LibvirtRig, source: ComputeDriver, instance: Instance) -> None:
    source.spawn(instance)
    console = Console(source)
    console.wait_until_ready()
    rig.hosts.a.restart_libvirtd()
    assert [guest.power_state for guest in source.list_guests()] == [RUNNING]
    rig.hosts.a.restart_libvirtd()
    source.power_off(UUID)
    rig.hosts.a.restart_libvirtd()
    source.power_on(UUID)
    console.wait_for(READY, times=2)


def test_a_host_whose_libvirtd_is_away_says_so_in_one_line(rig: LibvirtRig, source: ComputeDriver) -> None:
    source.capacity()
    rig.hosts.a.crash()
    for ask in (source.capacity, source.list_guests, lambda: source.get_guest(UUID)):
        with pytest.raises(DriverError) as caught:
            ask()
        assert "does libvirtd run?" in caught.value.message
        assert "\n" not in caught.value.message
    rig.hosts.up()
    assert source.list_guests() == ()


def test_a_host_tells_which_cpu_it_has(rig: LibvirtRig, source: ComputeDriver) -> None:
    capabilities = ElementTree.fromstring(libvirt.open(rig.hosts.a.uri).getCapabilities())
    assert source.capacity().cpu_model == capabilities.findtext("host/cpu/model")


def test_a_host_that_cannot_run_guests_as_configured_says_so(rig: LibvirtRig) -> None:
    rig.set("source", virt_type="kvm")
    with pytest.raises(DriverError, match="virt_type = kvm: this host cannot run such guests"):
        rig.driver("source").capacity()


def test_a_cpu_model_has_to_be_named(rig: LibvirtRig) -> None:
    rig.set("source", cpu_mode="custom")
    with pytest.raises(ConfigurationError, match="needs cpu_model"):
        rig.driver("source")


WEAK_CPU = "<cpu mode='custom' match='exact'><model>qemu64</model></cpu>"
STRONG_CPU = WEAK_CPU.replace("</cpu>", "<feature policy='require' name='avx512f'/></cpu>")
"""An emulated one cannot do that."""


def test_a_guest_whose_cpu_can_do_more_than_a_host_has_is_not_taken(source: ComputeDriver, instance: Instance) -> None:
    source.check_can_live_migrate_destination(instance, OPTIONS, MigrateData(cpu=WEAK_CPU))
    with pytest.raises(DriverError, match=r"the guest's CPU cannot be had here .*avx512f.* choose another host"):
        source.check_can_live_migrate_destination(instance, OPTIONS, MigrateData(cpu=STRONG_CPU))


def test_a_guest_that_has_its_hosts_cpu_is_not_taken_where_that_can_do_less(
    rig: LibvirtRig, source: ComputeDriver, instance: Instance
) -> None:
    capabilities = ElementTree.fromstring(libvirt.open(rig.hosts.b.uri).getCapabilities())
    cpu = capabilities.find("host/cpu")
    assert cpu is not None
    same = ElementTree.tostring(cpu, "unicode")
    source.check_can_live_migrate_destination(instance, OPTIONS, MigrateData(cpu=same))
    # The one is AMD's, the other Intel's: there is no host that has both.
    better = same.replace("</cpu>", "<feature name='xop'/><feature name='mpx'/></cpu>")
    with pytest.raises(DriverError, match=r"the guest's CPU cannot be had here .*(xop|mpx)"):
        source.check_can_live_migrate_destination(instance, OPTIONS, MigrateData(cpu=better))


@pytest.fixture
def foreign(rig: LibvirtRig) -> libvirt.virDomain:
    """A guest that somebody else runs on host a."""
    connection = libvirt.open(rig.hosts.a.uri)
    domain = connection.defineXML(
        f"""<domain type="qemu"><name>instance-{FOREIGN}</name><uuid>{FOREIGN}</uuid>
        <memory unit="MiB">64</memory><os><type>hvm</type></os></domain>"""
    )
    domain.create()
    return domain


def test_guests_of_others_are_neither_seen_nor_touched(source: ComputeDriver, foreign: libvirt.virDomain) -> None:
    assert source.list_guests() == ()
    assert source.get_guest(FOREIGN) is None
    source.destroy(FOREIGN)
    for change in (
        lambda: source.power_off(FOREIGN),
        lambda: source.reboot(FOREIGN, hard=True),
        lambda: source.pause(FOREIGN),
    ):
        with pytest.raises(DriverError):
            change()
    assert foreign.state()[0] == libvirt.VIR_DOMAIN_RUNNING


def test_an_instance_does_not_take_the_place_of_a_guest_of_others(
    source: ComputeDriver, instance: Instance, foreign: libvirt.virDomain
) -> None:
    with pytest.raises(DriverError):
        source.spawn(replace(instance, uuid=FOREIGN))
    assert foreign.state()[0] == libvirt.VIR_DOMAIN_RUNNING


@pytest.fixture(params=["bridge", "network"])
def network(request: pytest.FixtureRequest, rig: LibvirtRig) -> str:
    """A bridge of host a, or a libvirt network on that."""
    if request.param == "bridge":
        return "br0"
    name = f"net-{uuid.uuid4().hex[:8]}"
    connection = libvirt.open(rig.hosts.a.uri)
    connection.networkCreateXML(f'<network><name>{name}</name><forward mode="bridge"/><bridge name="br0"/></network>')
    return name


def interfaces(rig: LibvirtRig) -> Path:
    """Return what host a finds at /sys/class/net."""
    return Path("/proc", str(rig.hosts.a.pid), "root", "sys/class/net")


def test_the_address_of_a_guest_is_seen_once_it_is_known(
    rig: LibvirtRig, source: ComputeDriver, instance: Instance, network: str
) -> None:
    image = rig.image(f"{CMDLINE} ip4=10.77.0.50/24")
    # What the kernel tells a process of the host's, not one of the machine that both are on.
    source._guests._addresses = Addresses(Path(f"/proc/{rig.hosts.a.pid}/net/arp"))
    source._facts._interfaces = interfaces(rig)
    source.spawn(replace(instance, network=network, image=image))
    Console(source).wait_until_ready()

    def addresses() -> tuple[str, ...]:
        # Nothing listens there, but the host has to ask for the way.
        knock = rig.hosts.a.command("bash", "-c", "exec 3<>/dev/tcp/10.77.0.50/9")
        subprocess.run(knock, stderr=subprocess.DEVNULL, env=os.environ, check=False)
        guest = source.get_guest(UUID)
        assert guest is not None
        return guest.addresses

    wait_until(lambda: addresses() == ("10.77.0.50",), "the guest's address")
    assert state(source) is RUNNING


@pytest.mark.parametrize("name", ["eth0", "lo", "../net/br0", "br0/bridge", "nowhere"])
def test_what_is_no_bridge_is_no_network(rig: LibvirtRig, source: ComputeDriver, instance: Instance, name: str) -> None:
    source._facts._interfaces = interfaces(rig)
    with pytest.raises(DriverError, match="neither an active libvirt network nor a bridge"):
        source.spawn(replace(instance, network=name))
    assert source.list_guests() == ()
