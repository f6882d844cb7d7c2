"""Migrations as libvirt shows them: what can be seen of one, and the call that carries one out."""

import ipaddress
import re
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import libvirt

from minova.objects import MigrationProgress
from minova.states import PowerState
from minova.virt.libvirt.guests import POWER_STATES

_NO_JOB = (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN)
_POST_COPY = (libvirt.VIR_DOMAIN_PAUSED_POSTCOPY, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED)
_OPEN = {
    libvirt.VIR_DOMAIN_PAUSED: (*_POST_COPY, libvirt.VIR_DOMAIN_PAUSED_MIGRATION, libvirt.VIR_DOMAIN_PAUSED_UNKNOWN),
    libvirt.VIR_DOMAIN_SHUTOFF: (
        libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED,
        libvirt.VIR_DOMAIN_SHUTOFF_DAEMON,
        libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN,
    ),
}
"""By libvirt's state, its reasons for that after which a guest whose migration had begun may run at the destination."""

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.(?!-)[A-Za-z0-9-]{1,63})*")
_SCOPE = re.compile(r"[A-Za-z0-9._-]+")
_PAGE = 4096
_LONGEST_NAME = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What can be seen at one moment of a guest that migrates, or has.

    :ivar state: libvirt's.
    :ivar reason: libvirt's, for that state.
    :ivar leaving: its migration to another host is under way.
    """

    state: int
    reason: int
    leaving: bool
    stats: dict[str, Any] = field(default_factory=dict)

    @property
    def power_state(self) -> PowerState:
        """The state as minova calls it."""
        return POWER_STATES.get(self.state, PowerState.NOSTATE)

    @property
    def alive(self) -> bool:
        """Whether it has memory that could be moved."""
        return self.power_state in (PowerState.RUNNING, PowerState.PAUSED)

    @property
    def in_post_copy(self) -> bool:
        """Whether it runs at the destination already."""
        return self.state == libvirt.VIR_DOMAIN_PAUSED and self.reason in _POST_COPY

    @property
    def has_broken(self) -> bool:
        """Whether its memory is on two hosts, and will not come together any more."""
        return self.in_post_copy and self.reason == libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED

    @property
    def may_have_left(self) -> bool:
        """Whether, once its migration has begun and nobody is at it any more, it may run at the destination."""
        return self.reason in _OPEN.get(self.state, ())

    @property
    def progress(self) -> MigrationProgress:
        """How far the migration is: disks first, then the memory, pass after pass."""
        stats = self.stats
        total, remaining = stats.get("data_total", 0), stats.get("data_remaining", 0)
        page = stats.get("memory_page_size", _PAGE)
        return MigrationProgress(
            total_bytes=total,
            done_bytes=max(0, total - remaining),
            remaining_bytes=remaining,
            dirty_rate=stats.get("memory_dirty_rate", 0) * page,
            bandwidth=stats.get("memory_bps", 0) or stats.get("disk_bps", 0),
            iteration=stats.get("memory_iteration", 0),
            elapsed=stats.get("time_elapsed", 0) / 1000,
            throttle=stats.get("auto_converge_throttle", 0),
            post_copy=self.in_post_copy,
            downtime_ms=stats.get("downtime", 0),
        )


def look(uuid: str, connection: libvirt.virConnect) -> Sight | None:
    """Return what can be seen of a guest; None: it is not here."""
    try:
        domain = connection.lookupByUUIDString(uuid)
        state, reason, *_ = domain.state()
        stats = _stats(domain)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise
    leaving = stats.get(libvirt.VIR_DOMAIN_JOB_OPERATION) == libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
    return Sight(state=state, reason=reason, leaving=leaving, stats=stats)


def _stats(domain: libvirt.virDomain) -> dict[str, Any]:
    try:
        stats: dict[str, Any] = domain.jobStats()
    except libvirt.libvirtError as error:
        # It is shut down, or leaves at this very moment.
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID:
            return {}
        raise
    return stats if stats.get("type", libvirt.VIR_DOMAIN_JOB_NONE) != libvirt.VIR_DOMAIN_JOB_NONE else {}


def without_job(ask: Callable[[], object]) -> None:
    """Ask something of a migration; nothing happens if there is none any more."""
    try:
        ask()
    except libvirt.libvirtError as error:
        if error.get_error_code() not in _NO_JOB:
            raise


def in_uri(address: str) -> str:
    """Return a host name or an IP address as it stands in a URI.

    :raises ValueError: it is neither. Another host has said it, and in a URI it could say more.
    """
    with suppress(ValueError):
        ip = ipaddress.ip_address(address)
        if isinstance(ip, ipaddress.IPv4Address):
            return address
        # Python takes anything for the scope.
        if ip.scope_id is None or _SCOPE.fullmatch(ip.scope_id):
            return f"[{address}]"
    if len(address) > _LONGEST_NAME or not _HOST_NAME.fullmatch(address):
        raise ValueError(f"{address!r} is neither a host name nor an IP address")
    return address


class Attempt:
    """One migration that libvirtd carries out; it waits for the end in a thread of its own.

    It has its own connection too, for while it waits nothing else gets through.
    """

    def __init__(self, uri: str, uuid: str, peer: str, parameters: dict[str, Any], flags: int) -> None:
        """Begin to migrate the guest from the libvirtd at ``uri`` to the one at ``peer``, as the source names it."""
        self.error: libvirt.libvirtError | None = None
        self._broken = False
        self._ended = threading.Event()
        # It ends with libvirtd's work, however long that takes: no stop of this process waits for it.
        work = threading.Thread(
            target=self._run, args=(uri, uuid, peer, parameters, flags), name="migration", daemon=True
        )
        work.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; return whether it came within that time."""
        return self._ended.wait(seconds)

    @property
    def broke_off(self) -> bool:
        """Whether it was not libvirtd that told the end: the connection to it broke."""
        return self._broken

    @property
    def was_aborted(self) -> bool:
        """Whether somebody had the migration aborted."""
        return self.error is not None and self.error.get_error_code() == libvirt.VIR_ERR_OPERATION_ABORTED

    @property
    def reason(self) -> str:
        """Why it failed, in one line."""
        return " ".join(str(self.error).split()) if self.error is not None else "the guest did not leave"

    def _run(self, uri: str, uuid: str, peer: str, parameters: dict[str, Any], flags: int) -> None:
        connection = None
        try:
            connection = libvirt.open(uri)
            connection.lookupByUUIDString(uuid).migrateToURI3(peer, parameters, flags)
        except libvirt.libvirtError as error:
            self.error = error
            self._broken = connection is not None and not connection.isAlive()
        finally:
            self._ended.set()
            if connection is not None:
                with suppress(libvirt.libvirtError):
                    connection.close()
