"""What the host has: capacity, CPU model, networks."""

import os
from pathlib import Path
from xml.etree import ElementTree

import libvirt
from oslo_config import cfg

from minova.exception import ConfigurationError
from minova.objects import HostCapacity
from minova.virt.libvirt.connection import Connection
from minova.virt.libvirt.domain_xml import NetworkSource

_GIB = 2**30
_KIB_PER_MIB = 1024

NO_NETWORK = "none"


class HostFacts:
    """What is true of one host, whichever guests it has."""

    def __init__(self, conf: cfg.ConfigOpts, connection: Connection, interfaces: Path = Path("/sys/class/net")) -> None:
        """``interfaces`` is where the kernel tells of those of the host.

        :raises ConfigurationError: the CPU model is missing.
        """
        if conf.libvirt.cpu_mode == "custom" and not conf.libvirt.cpu_model:
            raise ConfigurationError(reason="[libvirt] cpu_mode = custom needs cpu_model")
        self._conf = conf
        self._connection = connection
        self._interfaces = interfaces

    def capacity(self) -> HostCapacity:
        """Return what the host can give to guests, times the allocation ratios. :raises OperationRefused:"""
        return self._connection.run("capacity", self._capacity)

    def network(self, name: str | None) -> NetworkSource | None:
        """Return the libvirt network or bridge that an instance asked for; None: it is to have no network card.

        :param name: None: as the host is configured.
        :raises OperationRefused: the host has neither.
        """
        wanted = name or self._conf.libvirt.network
        if wanted == NO_NETWORK:
            return None
        if self._connection.run("looking for the network", lambda connection: _has_network(connection, wanted)):
            return NetworkSource(kind="network", name=wanted)
        if Path(wanted).name == wanted and (self._interfaces / wanted / "bridge").is_dir():
            return NetworkSource(kind="bridge", name=wanted)
        raise self._connection.refusal(
            "looking for the network",
            f"there is neither an active libvirt network nor a bridge {wanted}: make one, or choose another with "
            f"--network or [libvirt] network ({NO_NETWORK}: no network card)",
        )

    def _capacity(self, connection: libvirt.virConnect) -> HostCapacity:
        self._require_virt_type(connection)
        ratios, disk = self._conf.compute, self._file_system()
        # getInfo() can be wrong about the memory.
        memory_mb = connection.getMemoryStats(-1)["total"] // _KIB_PER_MIB - self._conf.libvirt.reserved_host_memory_mb
        return HostCapacity(
            vcpus=int(connection.getInfo()[2] * ratios.cpu_allocation_ratio),
            memory_mb=max(0, int(memory_mb * ratios.ram_allocation_ratio)),
            disk_gb=int(disk.f_blocks * disk.f_frsize // _GIB * ratios.disk_allocation_ratio),
            hypervisor_type=self._conf.libvirt.virt_type,
            cpu_model=ElementTree.fromstring(connection.getCapabilities()).findtext("host/cpu/model", ""),
        )

    def _require_virt_type(self, connection: libvirt.virConnect) -> None:
        virt_type = self._conf.libvirt.virt_type
        try:
            connection.getDomainCapabilities(None, "x86_64", None, virt_type)
        except libvirt.libvirtError as error:
            if not connection.isAlive():
                raise
            reason = f"[libvirt] virt_type = {virt_type}: this host cannot run such guests ({error})"
            raise self._connection.refusal("capacity", reason) from error

    def _file_system(self) -> os.statvfs_result:
        folder = self._conf.libvirt.instances_path
        try:
            return os.statvfs(folder)
        except OSError as error:
            raise self._connection.refusal("capacity", f"{folder}: {error.strerror}") from error


def _has_network(connection: libvirt.virConnect, name: str) -> bool:
    try:
        return bool(connection.networkLookupByName(name).isActive())
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_NETWORK, libvirt.VIR_ERR_NO_SUPPORT):
            return False
        raise
