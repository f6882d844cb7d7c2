"""What libvirt is told of a guest: names are text in it, and what it says can be read back."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from oslo_config import cfg

from minova import conf as minova_conf
from minova.objects import Image, ImageFile, Instance, utcnow
from minova.states import DiskFormat
from minova.virt.libvirt.domain_xml import Hardware, Marked, NetworkSource, build, definition_name
from tests.contract.rig import INSTANCE, UUID, make_instance

HARDWARE = Hardware(disk=Path("/disks/disk"), console=Path("/consoles/log"))

HOSTILE = "</name><devices>&amp; \"'\x00\x1f]]>\ud800 $(touch x) ../../etc"


def built(instance: Instance = INSTANCE, hardware: Hardware = HARDWARE, **options: Any) -> Element:
    conf = cfg.ConfigOpts()
    minova_conf.register_opts(conf)
    conf(args=[], default_config_files=[], default_config_dirs=[])
    for name, value in options.items():
        conf.set_override(name, value, group="libvirt")
    return ElementTree.fromstring(build(conf, instance, hardware))


def image(cmdline: str = "") -> Image:
    file = ImageFile(location="/images/x", sha256="0" * 64)
    return Image(uuid=UUID, name="tiny", disk_format=DiskFormat.QCOW2, disk=file, created_at=utcnow(), cmdline=cmdline)


def tags(root: Element) -> list[str]:
    return [element.tag for element in root.iter()]


def marked(root: Element) -> Marked:
    [element] = root.findall("metadata/*")
    return Marked.parse(ElementTree.tostring(element, encoding="unicode"))


def test_what_a_domain_says_of_its_instance_is_read_back() -> None:
    assert marked(built()) == Marked(name="web", vcpus=1, memory_mb=256, disk_gb=1)
    assert definition_name(ElementTree.tostring(built(), encoding="unicode")) == "web"


def test_libvirt_returns_it_without_its_namespace() -> None:
    assert Marked.parse("<instance><name>a &amp; b</name><flavor vcpus='2'/></instance>") == Marked(
        name="a & b", vcpus=2, memory_mb=0, disk_gb=0
    )


@pytest.mark.parametrize("sizes", ["", "<flavor/>", "<flavor vcpus='x' memory_mb='-1' disk_gb='1.5'/>"])
def test_what_was_changed_by_hand_counts_for_nothing(sizes: str) -> None:
    assert Marked.parse(f"<instance>{sizes}</instance>") == Marked(name="", vcpus=0, memory_mb=0, disk_gb=0)


def test_the_name_in_a_damaged_definition_is_not_known() -> None:
    assert definition_name("<domain>") == definition_name("<domain/>") == ""


def test_hostile_names_and_command_lines_are_text() -> None:
    hardware = Hardware(disk=Path("/d"), console=Path("/c"), kernel=Path("/k"), initrd=Path("/i"))
    harmless = built(make_instance(image=image("quiet")), hardware)
    hostile = built(make_instance(name=HOSTILE, image=image(HOSTILE)), hardware)
    assert tags(hostile) == tags(harmless)
    assert marked(hostile).name == HOSTILE.translate({0: "\ufffd", 0x1F: "\ufffd", 0xD800: "\ufffd"})
    assert hostile.findtext("name") == f"instance-{UUID}"


def test_no_character_breaks_out() -> None:
    name = "".join(chr(point) for point in range(0x110000))
    assert tags(built(make_instance(name=name))) == tags(built())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("kvm", {"mode": "host-model"})),
        ({"virt_type": "qemu"}, ("qemu", None)),
        ({"cpu_mode": "none"}, ("kvm", None)),
        ({"cpu_mode": "host-passthrough"}, ("kvm", {"mode": "host-passthrough"})),
        (
            {"cpu_mode": "custom", "cpu_model": "qemu64", "virt_type": "qemu"},
            ("qemu", {"mode": "custom", "match": "exact", "check": "none"}),
        ),
    ],
)
def test_cpu(options: dict[str, str], expected: tuple[str, dict[str, str] | None]) -> None:
    root = built(**options)
    cpu = root.find("cpu")
    assert (root.get("type"), cpu.attrib if cpu is not None else None) == expected
    if "cpu_model" in options:
        assert root.findtext("cpu/model") == options["cpu_model"]


def test_a_guest_boots_from_its_disk_unless_its_image_has_a_kernel() -> None:
    assert built().find("os/boot") is not None
    hardware = Hardware(disk=Path("/d"), console=Path("/c"), kernel=Path("/k"), initrd=Path("/i"))
    direct = built(make_instance(image=image("quiet")), hardware)
    assert [direct.findtext(f"os/{name}") for name in ("kernel", "initrd", "cmdline")] == ["/k", "/i", "quiet"]
    assert direct.find("os/boot") is None


@pytest.mark.parametrize("kind", ["network", "bridge"])
def test_the_network_card_has_the_address_of_the_instance(kind: str) -> None:
    network = NetworkSource(kind=kind, name="br0")
    root = built(hardware=Hardware(disk=Path("/d"), console=Path("/c"), network=network))
    [interface] = root.findall("devices/interface")
    source, mac = interface.find("source"), interface.find("mac")
    assert source is not None
    assert mac is not None
    assert (interface.get("type"), source.attrib, mac.get("address")) == (kind, {kind: "br0"}, INSTANCE.mac_address)


def test_a_guest_without_network_or_seed_has_neither() -> None:
    root = built()
    assert root.findall("devices/interface") == []
    assert [disk.get("device") for disk in root.findall("devices/disk")] == ["disk"]


def test_the_seed_is_a_cd() -> None:
    root = built(hardware=Hardware(disk=Path("/d"), console=Path("/c"), seed=Path("/s")))
    assert [disk.get("device") for disk in root.findall("devices/disk")] == ["disk", "cdrom"]
