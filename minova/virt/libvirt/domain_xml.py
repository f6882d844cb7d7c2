"""What libvirt is told of a guest, and what is read back of that.

It is built as a tree, so whatever stands in a name or a command line is text to libvirt. Paths consist of what the
operator has configured, UUIDs and digests.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from oslo_config import cfg

from minova.objects import Instance

NAMESPACE = "https://minova.dev/xmlns/instance/1.0"
"""That of the metadata element by which a guest is known to be minova's."""

NAME_PREFIX = "instance-"
"""Names of domains are this and the UUID: those that users choose need not be unique."""

_SIZES = ("vcpus", "memory_mb", "disk_gb")

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSource:
    """Where a network card is plugged in. ``kind`` is "network" or "bridge", as libvirt calls it."""

    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Hardware:
    """The files and the network of a guest on one host.

    :ivar console: where libvirt writes what the guest writes to its serial console.
    :ivar seed: a CD with what cloud-init is to do; None: there is none.
    :ivar kernel: booted directly; None: the guest boots from its disk.
    :ivar network: None: the guest has no network card.
    """

    disk: Path
    console: Path
    seed: Path | None = None
    kernel: Path | None = None
    initrd: Path | None = None
    network: NetworkSource | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked:
    """What a domain of minova's says of its instance; sizes as there."""

    name: str
    vcpus: int
    memory_mb: int
    disk_gb: int

    @classmethod
    def parse(cls, metadata: str) -> Self:
        """Return what the metadata element says; libvirt returns it without its namespace."""
        root = ElementTree.fromstring(metadata)
        found = {element.tag.rpartition("}")[2]: element for element in root}
        name = found["name"].text if "name" in found else None
        given = found["flavor"].attrib if "flavor" in found else {}
        # Anybody who may define domains can have changed them, and one guest must not keep the others from being seen.
        sizes = {size: int(given[size]) if given.get(size, "").isdecimal() else 0 for size in _SIZES}
        return cls(name=name or "", **sizes)


def build(conf: cfg.ConfigOpts, instance: Instance, hardware: Hardware) -> str:
    """Return the XML of a guest's domain."""
    domain = Element("domain", type=conf.libvirt.virt_type)
    _text(domain, "name", f"{NAME_PREFIX}{instance.uuid}")
    _text(domain, "uuid", instance.uuid)
    _text(domain, "title", " ".join(instance.name.split()))
    _metadata(domain, instance)
    _text(domain, "memory", str(instance.memory_mb), unit="MiB")
    _text(domain, "vcpu", str(instance.vcpus))
    _boot(domain, instance, hardware)
    features = SubElement(domain, "features")
    SubElement(features, "acpi")
    SubElement(features, "apic")
    _cpu(domain, conf)
    SubElement(domain, "clock", offset="utc")
    _text(domain, "on_poweroff", "destroy")
    _text(domain, "on_reboot", "restart")
    _text(domain, "on_crash", "destroy")
    _devices(domain, instance, hardware)
    return ElementTree.tostring(domain, encoding="unicode")


def definition_name(xml: str) -> str:
    """Return the name of the instance that the XML of a domain was made for; empty: it is damaged."""
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return ""
    return root.findtext(f"metadata/{{{NAMESPACE}}}instance/{{{NAMESPACE}}}name", "")


def _metadata(domain: Element, instance: Instance) -> None:
    ElementTree.register_namespace("minova", NAMESPACE)
    marked = SubElement(SubElement(domain, "metadata"), f"{{{NAMESPACE}}}instance")
    _text(marked, f"{{{NAMESPACE}}}name", instance.name)
    sizes = {size: str(getattr(instance, size)) for size in _SIZES}
    SubElement(marked, f"{{{NAMESPACE}}}flavor", sizes)


def _boot(domain: Element, instance: Instance, hardware: Hardware) -> None:
    os = SubElement(domain, "os")
    _text(os, "type", "hvm", arch="x86_64", machine="pc")
    if hardware.kernel is None or instance.image is None:
        SubElement(os, "boot", dev="hd")
        return
    _text(os, "kernel", str(hardware.kernel))
    if hardware.initrd is not None:
        _text(os, "initrd", str(hardware.initrd))
    if instance.image.cmdline:
        _text(os, "cmdline", instance.image.cmdline)


def _cpu(domain: Element, conf: cfg.ConfigOpts) -> None:
    mode = conf.libvirt.cpu_mode
    if mode == "auto":
        mode = "host-model" if conf.libvirt.virt_type == "kvm" else "none"
    if mode == "none":
        return
    if mode == "custom":
        # Emulation lacks some features of nearly all models, and runs guests all the same.
        check = "partial" if conf.libvirt.virt_type == "kvm" else "none"
        _text(SubElement(domain, "cpu", mode=mode, match="exact", check=check), "model", conf.libvirt.cpu_model)
    else:
        SubElement(domain, "cpu", mode=mode)


def _devices(domain: Element, instance: Instance, hardware: Hardware) -> None:
    devices = SubElement(domain, "devices")
    disk = SubElement(devices, "disk", type="file", device="disk")
    # Another cache mode would lose what the guest has written, when it is live-migrated over shared storage.
    SubElement(disk, "driver", name="qemu", type="qcow2", cache="none", discard="unmap")
    SubElement(disk, "source", file=str(hardware.disk))
    SubElement(disk, "target", dev="vda", bus="virtio")
    if hardware.seed is not None:
        seed = SubElement(devices, "disk", type="file", device="cdrom")
        SubElement(seed, "driver", name="qemu", type="raw")
        SubElement(seed, "source", file=str(hardware.seed))
        SubElement(seed, "target", dev="hda", bus="ide")
        SubElement(seed, "readonly")
    SubElement(devices, "controller", type="usb", model="none")
    if hardware.network is not None:
        interface = SubElement(devices, "interface", type=hardware.network.kind)
        SubElement(interface, "mac", address=instance.mac_address)
        SubElement(interface, "source", {hardware.network.kind: hardware.network.name})
        SubElement(interface, "model", type="virtio")
    serial = SubElement(devices, "serial", type="pty")
    SubElement(serial, "log", file=str(hardware.console), append="on")
    SubElement(serial, "target", port="0")
    SubElement(SubElement(devices, "console", type="pty"), "target", type="serial", port="0")
    _text(SubElement(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")


def _text(parent: Element, tag: str, text: str, **attributes: str) -> None:
    # These have no place in XML, escaped or not.
    SubElement(parent, tag, attributes).text = _NOT_IN_XML.sub("\ufffd", text)
