"""The tables.

A row of ``actions`` or ``compute_nodes`` carries a counter (``sequence``, ``generation``) that every writer compares
and increases, so that of two that decide at once only one succeeds.
"""

import base64
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, ForeignKey, Index, String, Text, TypeDecorator, UniqueConstraint
from sqlalchemy.dialects import mysql
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from minova.exception import DatabaseError
from minova.objects import Hop, Result
from minova.states import ActionStatus, DiskFormat, MigrationStatus, MigrationType, PowerState, TaskState, Verb, VmState

Uuid = String(36)
Name = String(255)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in UTC, to the microsecond, on databases that have no time zones."""

    impl = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return what the database stores."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return what the program sees."""
        return None if value is None else value.replace(tzinfo=UTC)


class StoredEnum(TypeDecorator[StrEnum]):
    """An enum by its value in a plain string column: a new member needs no change of the schema."""

    impl = String(32)
    cache_ok = True

    def __init__(self, kind: type[StrEnum]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: StrEnum | None, dialect: Dialect) -> str | None:
        """Return what the database stores."""
        return None if value is None else self.kind(value).value

    def process_result_value(self, value: str | None, dialect: Dialect) -> StrEnum | None:
        """Return what the program sees.

        :raises DatabaseError: a newer release has written what this one does not know.
        """
        if value is not None and value not in set(self.kind):
            reason = (
                f"it holds the {self.kind.__name__} {value!r}, which a newer release of minova wrote: upgrade this one"
            )
            raise DatabaseError(reason=reason)
        return None if value is None else self.kind(value)


class UserData(TypeDecorator[str]):
    """Text as base64, as in Nova: it is kept byte by byte, whatever characters the database has been set up for."""

    impl = Text().with_variant(mysql.MEDIUMTEXT(), "mysql", "mariadb")
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return what the database stores."""
        return None if value is None else base64.b64encode(value.encode()).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Return what the program sees."""
        return None if value is None else base64.b64decode(value).decode()


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {  # noqa: RUF012  # read by SQLAlchemy, which wants a plain dict
        datetime: UtcDateTime,
        str: Name,
        VmState: StoredEnum(VmState),
        TaskState: StoredEnum(TaskState),
        PowerState: StoredEnum(PowerState),
        Verb: StoredEnum(Verb),
        ActionStatus: StoredEnum(ActionStatus),
        MigrationType: StoredEnum(MigrationType),
        MigrationStatus: StoredEnum(MigrationStatus),
        Hop: StoredEnum(Hop),
        Result: StoredEnum(Result),
        DiskFormat: StoredEnum(DiskFormat),
        dict[str, Any]: JSON(none_as_null=True),
        list[str]: JSON(none_as_null=True),
    }


class Service(Base):
    """A process that reports to be alive: one row for each binary and host."""

    __tablename__ = "services"

    binary: Mapped[str] = mapped_column(String(64), primary_key=True)
    host: Mapped[str] = mapped_column(primary_key=True)
    rpc_version: Mapped[str] = mapped_column(String(16))
    started_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
    report_made_at: Mapped[datetime | None]
    enabled: Mapped[bool] = mapped_column(default=True)
    disabled_reason: Mapped[str] = mapped_column(default="")
    forced_down: Mapped[bool] = mapped_column(default=False)
    draining: Mapped[bool] = mapped_column(default=False)


class ComputeNode(Base):
    """What a host can give and has given; ``*_used`` is the sum of its allocations, kept for the scheduler's SQL."""

    __tablename__ = "compute_nodes"

    host: Mapped[str] = mapped_column(primary_key=True)
    generation: Mapped[int] = mapped_column(default=0)
    vcpus: Mapped[int]
    memory_mb: Mapped[int]
    disk_gb: Mapped[int]
    vcpus_used: Mapped[int] = mapped_column(default=0)
    memory_mb_used: Mapped[int] = mapped_column(default=0)
    disk_gb_used: Mapped[int] = mapped_column(default=0)
    hypervisor_type: Mapped[str] = mapped_column(String(64))
    cpu_model: Mapped[str] = mapped_column(default="")


class Instance(Base):
    """A virtual machine; a deleted one stays for its history."""

    __tablename__ = "instances"
    __table_args__ = (
        Index("ix_instances_name", "name"),
        Index("ix_instances_host", "host"),
        Index("ix_instances_deleted_at", "deleted_at"),
    )

    uuid: Mapped[str] = mapped_column(Uuid, primary_key=True)
    name: Mapped[str]
    vcpus: Mapped[int]
    memory_mb: Mapped[int]
    disk_gb: Mapped[int]
    host: Mapped[str | None]
    vm_state: Mapped[VmState]
    task_state: Mapped[TaskState | None]
    power_state: Mapped[PowerState]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    image: Mapped[dict[str, Any] | None]
    network: Mapped[str | None]
    user_data: Mapped[str | None] = mapped_column(UserData)
    ssh_keys: Mapped[list[str] | None]
    addresses: Mapped[list[str] | None]


class Image(Base):
    """What guests are made from; ``disk``, ``kernel`` and ``initrd`` are :class:`~minova.objects.ImageFile`."""

    __tablename__ = "images"
    __table_args__ = (UniqueConstraint("name", name="uq_images_name"),)

    uuid: Mapped[str] = mapped_column(Uuid, primary_key=True)
    name: Mapped[str]
    disk_format: Mapped[DiskFormat]
    disk: Mapped[dict[str, Any]]
    kernel: Mapped[dict[str, Any] | None]
    initrd: Mapped[dict[str, Any] | None]
    cmdline: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime]


class Allocation(Base):
    """Room that an instance holds on a host; while it migrates it holds room on two."""

    __tablename__ = "allocations"
    __table_args__ = (Index("ix_allocations_host", "host"),)

    instance_uuid: Mapped[str] = mapped_column(Uuid, ForeignKey("instances.uuid"), primary_key=True)
    host: Mapped[str] = mapped_column(primary_key=True)
    vcpus: Mapped[int]
    memory_mb: Mapped[int]
    disk_gb: Mapped[int]


class Action(Base):
    """One operation on one instance: audit record, unit of recovery and head of the trace.

    ``step`` names the step in work. ``undo_to`` is the step down to which it is undone, and ``resume`` says whether it
    goes forward again from there. ``data`` is the task's memory from step to step.
    """

    __tablename__ = "actions"
    __table_args__ = (
        Index("ix_actions_instance_uuid", "instance_uuid"),
        Index("ix_actions_status_lease", "status", "lease_expires_at"),
        Index("ix_actions_finished_at", "finished_at"),
        Index("ix_actions_submitted_at", "submitted_at"),
    )

    id: Mapped[str] = mapped_column(Uuid, primary_key=True)
    verb: Mapped[Verb]
    instance_uuid: Mapped[str] = mapped_column(Uuid, ForeignKey("instances.uuid"))
    status: Mapped[ActionStatus]
    step: Mapped[str] = mapped_column(String(64))
    sequence: Mapped[int] = mapped_column(default=1)
    attempt: Mapped[int] = mapped_column(default=1)
    owner: Mapped[str]
    lease_expires_at: Mapped[datetime]
    heard_at: Mapped[datetime]
    waits_for: Mapped[str | None]
    undo_to: Mapped[str] = mapped_column(String(64), default="")
    resume: Mapped[bool] = mapped_column(default=False)
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    previous_vm_state: Mapped[VmState]
    args: Mapped[dict[str, Any]]
    data: Mapped[dict[str, Any]]
    error: Mapped[str] = mapped_column(Text, default="")
    request_id: Mapped[str] = mapped_column(String(64))
    user: Mapped[str]
    submitted_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]

    __mapper_args__ = {"version_id_col": sequence, "version_id_generator": False}  # noqa: RUF012


class ActionEvent(Base):
    """One line of an action's trace."""

    __tablename__ = "action_events"
    __table_args__ = (Index("ix_action_events_action_id", "action_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    action_id: Mapped[str] = mapped_column(Uuid, ForeignKey("actions.id"))
    step: Mapped[str] = mapped_column(String(64))
    hop: Mapped[Hop]
    service: Mapped[str]
    attempt: Mapped[int]
    started_at: Mapped[datetime]
    finished_at: Mapped[datetime]
    result: Mapped[Result]
    message: Mapped[str] = mapped_column(Text, default="")


class Migration(Base):
    """One change of host of one instance; the progress is in bytes, bytes per second and seconds.

    ``unclear_hosts`` is for one that ended in doubt: the hosts that have to be heard, in this order, until it is known
    where the guest is. Empty: it is known by now; None: it never was in doubt. What hosts have said since
    ``unclear_since`` counts; it is set as long as hosts are left.
    """

    __tablename__ = "migrations"
    __table_args__ = (
        Index("ix_migrations_instance_uuid", "instance_uuid"),
        Index("ix_migrations_action_id", "action_id", unique=True),
        Index("ix_migrations_unclear_since", "unclear_since"),
        Index("ix_migrations_created_at", "created_at"),
    )

    uuid: Mapped[str] = mapped_column(Uuid, primary_key=True)
    instance_uuid: Mapped[str] = mapped_column(Uuid, ForeignKey("instances.uuid"))
    action_id: Mapped[str] = mapped_column(Uuid, ForeignKey("actions.id"))
    migration_type: Mapped[MigrationType]
    status: Mapped[MigrationStatus]
    source_host: Mapped[str]
    dest_host: Mapped[str]
    progress: Mapped[dict[str, Any]]
    unclear_hosts: Mapped[list[str] | None]
    unclear_since: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class InstanceFault(Base):
    """Why something failed on an instance; ``details`` holds the traceback of an error that nobody expected."""

    __tablename__ = "instance_faults"
    __table_args__ = (
        Index("ix_instance_faults_instance_uuid", "instance_uuid"),
        Index("ix_instance_faults_created_at", "created_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    instance_uuid: Mapped[str] = mapped_column(Uuid, ForeignKey("instances.uuid"))
    action_id: Mapped[str | None] = mapped_column(Uuid)
    code: Mapped[str]
    message: Mapped[str] = mapped_column(Text)
    details: Mapped[str] = mapped_column(Text, default="")
    host: Mapped[str] = mapped_column(default="")
    created_at: Mapped[datetime]
