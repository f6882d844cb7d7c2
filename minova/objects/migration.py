"""Migrations and how far they are."""

from dataclasses import dataclass
from typing import ClassVar

from minova.objects.base import UUID, Moment
from minova.states import MigrationStatus, MigrationType


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationOptions:
    """How to live-migrate.

    :ivar block_migration: copy the disks too; else they must be on shared storage.
    :ivar bandwidth_mib: limit in MiB/s; None: the driver's default.
    """

    VERSION: ClassVar[str] = "1.0"
    block_migration: bool = False
    bandwidth_mib: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationProgress:
    """How far a live migration is: bytes, bytes per second and seconds.

    :ivar iteration: which pass over the memory this is, from 1.
    """

    VERSION: ClassVar[str] = "1.0"
    total_bytes: int = 0
    done_bytes: int = 0
    remaining_bytes: int = 0
    dirty_rate: int = 0
    bandwidth: int = 0
    iteration: int = 0
    elapsed: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One change of host of one instance.

    :ivar unclear_hosts: it ended in doubt, and these have to be heard until it is known where the guest is.
    """

    VERSION: ClassVar[str] = "1.1"
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
