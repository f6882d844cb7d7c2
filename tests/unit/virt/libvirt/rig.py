"""Hosts whose libvirtd shows what it is told to."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from oslo_config import cfg

libvirt = pytest.importorskip("libvirt")

from minova import conf as minova_conf  # noqa: E402
from minova.exception import OperationRefused  # noqa: E402
from minova.virt.libvirt import driver as drivers  # noqa: E402
from tests.contract.rig import UUID  # noqa: E402

COMING = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)
OFF = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED)
"""States of a domain, and their reasons: it is just being moved to here; it was switched off."""


class Refusal(libvirt.libvirtError):  # type: ignore[misc]  # libvirt has no types
    """An error of libvirt's."""

    def __init__(self, code: int) -> None:
        super().__init__("no")
        self.code = code

    def get_error_code(self) -> int:
        return self.code


class Domain:
    """A guest's, which is defined."""

    def __init__(self, libvirtd: "Libvirtd", seen: tuple[int, int]) -> None:
        self._libvirtd = libvirtd
        self.seen = seen
        self.monitor = libvirt.VIR_DOMAIN_CONTROL_OK

    def metadata(self, *_: Any) -> str:
        return '<instance><name>web</name><flavor vcpus="1" memory_mb="1" disk_gb="1"/></instance>'

    def UUIDString(self) -> str:
        return UUID

    def state(self) -> list[int]:
        return [*self.seen]

    def isActive(self) -> int:
        return int(self.seen[0] != libvirt.VIR_DOMAIN_SHUTOFF)

    def isPersistent(self) -> int:
        return 1

    def controlInfo(self) -> list[int]:
        return [self.monitor, 0, 0]

    def jobInfo(self) -> list[int]:
        if self.seen == COMING:
            raise Refusal(libvirt.VIR_ERR_OPERATION_UNSUPPORTED)
        return [libvirt.VIR_DOMAIN_JOB_NONE]

    def jobStats(self) -> dict[str, Any]:
        return {"type": libvirt.VIR_DOMAIN_JOB_NONE}

    def interfaceAddresses(self, *_: Any) -> dict[str, Any]:
        return {}

    def destroy(self) -> None:
        self.seen = OFF

    def undefineFlags(self, _flags: int) -> None:
        self._libvirtd.domain = None


class Libvirtd:
    """One host's; both a connection of ours and one of libvirt's."""

    uri = "qemu:///system"

    def __init__(self, host: str) -> None:
        self._host = host
        self.domain: Domain | None = None

    def has(self, seen: tuple[int, int]) -> Domain:
        """Let it have a domain that is in a state, for a reason."""
        self.domain = Domain(self, seen)
        return self.domain

    def run(self, _operation: str, work: Callable[[Any], Any]) -> Any:
        return work(self)

    def refusal(self, operation: str, reason: str) -> OperationRefused:
        return OperationRefused(host=self._host, operation=operation, reason=reason)

    def listAllDomains(self) -> list[Domain]:
        return [self.domain] if self.domain is not None else []

    def defineXML(self, _definition: str) -> Domain:
        return self.has(OFF)

    def lookupByUUIDString(self, _uuid: str) -> Domain:
        if self.domain is None:
            raise Refusal(libvirt.VIR_ERR_NO_DOMAIN)
        return self.domain


class Host:
    """One with its libvirtd and its driver."""

    def __init__(self, tmp_path: Path, name: str, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.libvirtd = Libvirtd(name)
        monkeypatch.setattr(drivers, "Connection", lambda _uri, _host: self.libvirtd)
        conf = cfg.ConfigOpts()
        minova_conf.register_opts(conf)
        conf(args=[], default_config_files=[], default_config_dirs=[])
        for option, folder in (("instances_path", storage), ("console_path", name), ("image_cache_path", "images")):
            conf.set_override(option, str(tmp_path / folder), group="libvirt")
        self.driver: Any = drivers.LibvirtDriver(conf, name, images=None)  # type: ignore[arg-type]
        self.storage = self.driver._storage

    def can_make_guests(self) -> None:
        """Let it have room and a network."""
        self.driver._room = SimpleNamespace(taken=lambda _instance: nullcontext())
        self.driver._builder._facts = SimpleNamespace(network=lambda _name: None)
