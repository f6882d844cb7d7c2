"""What the CPUs of guests can do, and whether those of hosts can do it too."""

from xml.etree import ElementTree

import libvirt


def of_guest(domain: libvirt.virDomain) -> str:
    """Return what a guest's CPU can do, in libvirt's XML; empty: whatever QEMU emulates by itself."""
    cpu = ElementTree.fromstring(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)).find("cpu")
    if cpu is not None and cpu.get("mode") == "host-passthrough":
        # It does not tell what it can do: that is what the host's can.
        cpu = ElementTree.fromstring(domain.connect().getCapabilities()).find("host/cpu")
    return ElementTree.tostring(cpu, encoding="unicode") if cpu is not None else ""


def require(connection: libvirt.virConnect, virt_type: str, cpu: str) -> None:
    """Check that a host can do all that a CPU can of which another's :func:`of_guest` has told.

    :raises libvirt.libvirtError: it cannot (``VIR_ERR_CPU_INCOMPATIBLE``).
    """
    flags, described = libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE, ElementTree.fromstring(cpu)
    if described.get("mode") is None and described.get("match") is None:
        # A host's own: what emulation adds to ours is of no use to whom it is passed through.
        connection.compareCPU(cpu, flags)
    else:
        connection.compareHypervisorCPU(None, None, None, virt_type, cpu, flags)
