"""Migrations and how far they are."""

from dataclasses import dataclass
from typing import ClassVar

from minova.objects.base import UUID, Moment
from minova.states import MigrationStatus, MigrationType, TimeoutAction

_MIB = 2**20

_TELLING_PASS = 3
"""Two passes are over in it: the first copies everything whatever the guest does, and only the second tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationOptions:
    """How to live-migrate.

    :ivar block_migration: copy the disks too; else they must be on shared storage.
    :ivar bandwidth_mib: limit in MiB/s; None: the driver's default.
    :ivar max_downtime_ms: milliseconds for which the guest may stand still at the switch-over.
    :ivar auto_converge: slow the guest down, more and more, if it changes its memory faster than that can be copied.
    :ivar post_copy: if it does not converge, let the guest go on at the destination and fetch its memory from there.
    :ivar timeout: seconds that it may take in all; 0: no limit.
    :ivar timeout_action: what is done when they are over.

    What is None is as the source is configured.
    """

    VERSION: ClassVar[str] = "1.1"
    block_migration: bool = False
    bandwidth_mib: int | None = None
    max_downtime_ms: int | None = None
    auto_converge: bool | None = None
    post_copy: bool | None = None
    timeout: int | None = None
    timeout_action: TimeoutAction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateData:
    """What the hosts of a live migration tell each other, by way of the conductor. Drivers that need none leave it out.

    :ivar cpu: the guest's CPU, in the hypervisor's own words.
    :ivar address: where the destination takes the guest.
    """

    VERSION: ClassVar[str] = "1.0"
    cpu: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationProgress:
    """How far a live migration is: bytes, bytes per second and seconds.

    :ivar iteration: which pass over the memory this is, from 1.
    :ivar throttle: by how many percent auto-converge slows the guest down.
    :ivar post_copy: the guest runs at the destination already, and its memory follows.
    :ivar downtime_ms: for how long the guest stands still at the switch-over: measured at the end, expected before.
    """

    VERSION: ClassVar[str] = "1.1"
    total_bytes: int = 0
    done_bytes: int = 0
    remaining_bytes: int = 0
    dirty_rate: int = 0
    bandwidth: int = 0
    iteration: int = 0
    elapsed: float = 0.0
    throttle: int = 0
    post_copy: bool = False
    downtime_ms: int = 0

    @property
    def converges(self) -> bool:
        """Whether what remains becomes less by itself, as far as can be told by now.

        A pass copies what the guest has changed during the one before: dirty rate / bandwidth times as much. If that is
        not less than 1, each pass has as much to do as the one before, and more passes do not help: what did not fit
        into the permitted downtime will not fit later either.
        """
        if self.remaining_bytes == 0 or self.post_copy or self.iteration < _TELLING_PASS:
            return True
        return self.dirty_rate == 0 or self.dirty_rate < self.bandwidth

    @property
    def verdict(self) -> str:
        """What an operator should know, as a sentence that begins with "The migration"; empty: it just goes on."""
        if self.remaining_bytes == 0:
            return ""
        if self.post_copy:
            return "is in post-copy: the guest runs at the destination"
        slowed = f", the guest slowed down by {self.throttle} %" if self.throttle else ""
        if self.converges:
            return f"converges{slowed}" if slowed else ""
        rates = f"dirty rate {self.dirty_rate / _MIB:.0f} MiB/s, bandwidth {self.bandwidth / _MIB:.0f} MiB/s"
        return f"does not converge: {rates}{slowed}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One change of host of one instance.

    :ivar unclear_hosts: it ended in doubt, and these have to be heard until it is known where the guest is.
    :ivar options: how it was asked for; None: it is no live migration.
    """

    VERSION: ClassVar[str] = "1.2"
    uuid: UUID
    instance_uuid: UUID
    instance_name: str
    action_id: str
    migration_type: MigrationType
    status: MigrationStatus
    source_host: str
    dest_host: str
    progress: MigrationProgress
    created_at: Moment
    updated_at: Moment
    unclear_hosts: tuple[str, ...] = ()
    options: MigrationOptions | None = None
