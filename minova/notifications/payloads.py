"""What notifications carry: frozen dataclasses with a version of their own, which is not that of any RPC object.

Who listens is not upgraded with minova, so within a major version a payload only grows. Names are Nova's where it has
one. ``happened_at`` is the time of the event; the notification itself bears the time at which it was sent.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from minova.states import ActionStatus, MigrationStatus, MigrationType, PowerState, TaskState, Verb, VmState


class ServiceChange(StrEnum):
    """What happened to a service."""

    REGISTERED = "registered"
    STARTED = "started"
    ENABLED = "enabled"
    DISABLED = "disabled"
    FORCED_DOWN = "forced-down"
    FORCED_DOWN_UNSET = "forced-down-unset"
    DRAINED = "drained"
    UNDRAINED = "undrained"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceActionPayload:
    """An operation on an instance, and the instance as it is at that moment: sizes in MiB of memory and GiB of disk.

    :ivar host: the host that has the guest; None: none has it.
    :ivar status: of the action: running, succeeded, failed or cancelled.
    :ivar error: why it failed or was cancelled, one line; empty if it did not.
    """

    VERSION: ClassVar[str] = "1.0"
    happened_at: datetime
    action_id: str
    verb: Verb
    status: ActionStatus
    error: str
    request_id: str
    user: str
    submitted_at: datetime
    finished_at: datetime | None
    uuid: str
    name: str
    host: str | None
    vm_state: VmState
    task_state: TaskState | None
    power_state: PowerState
    vcpus: int
    memory_mb: int
    disk_gb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceUpdatePayload:
    """An instance whose state was changed, and not by an operation.

    :ivar old_vm_state: what it was before.
    :ivar reason: who changed it, and why.
    """

    VERSION: ClassVar[str] = "1.0"
    happened_at: datetime
    uuid: str
    name: str
    host: str | None
    vm_state: VmState
    power_state: PowerState
    old_vm_state: VmState
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationPayload:
    """A change of host of an instance, and its new status."""

    VERSION: ClassVar[str] = "1.0"
    happened_at: datetime
    uuid: str
    action_id: str
    instance_uuid: str
    instance_name: str
    migration_type: MigrationType
    status: MigrationStatus
    source_host: str
    dest_host: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePayload:
    """A registered process of minova, and what happened to it.

    :ivar forced_down: the operator has said that it is off.
    """

    VERSION: ClassVar[str] = "1.0"
    happened_at: datetime
    binary: str
    host: str
    change: ServiceChange
    enabled: bool
    disabled_reason: str
    forced_down: bool
    draining: bool
    rpc_version: str
    started_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ExceptionPayload:
    """An error that nobody expected.

    :ivar exception: its class.
    :ivar exception_message: one line; the traceback is in the log of the service that met it.
    :ivar service: who met it: ``conductor:<host>`` or ``compute:<host>``, or the compute's host.
    """

    VERSION: ClassVar[str] = "1.0"
    happened_at: datetime
    service: str
    exception: str
    exception_message: str
    instance_uuid: str
    action_id: str | None


Payload = InstanceActionPayload | InstanceUpdatePayload | MigrationPayload | ServicePayload | ExceptionPayload
"""Whatever a notification may carry."""

PAYLOAD_TYPES: tuple[type[Payload], ...] = (
    InstanceActionPayload,
    InstanceUpdatePayload,
    MigrationPayload,
    ServicePayload,
    ExceptionPayload,
)
"""The classes of all payloads."""
