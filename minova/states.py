"""States and their transitions, as data.

Two tables say everything: :data:`OPERATIONS` (what may be done to an instance, when, and what it leads to) and
:data:`MIGRATION` (how a migration's status changes). The diagrams in ``docs/`` are generated from them. This module
imports nothing of minova. The names are Nova's (``nova/compute/vm_states.py``, ``task_states.py``, ``power_state.py``).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class VmState(StrEnum):
    """What an instance is, as far as its user is concerned: stable between operations."""

    BUILDING = "building"
    ACTIVE = "active"
    PAUSED = "paused"
    STOPPED = "stopped"
    ERROR = "error"
    DELETED = "deleted"


class TaskState(StrEnum):
    """What is being done to an instance right now; an instance at rest has none."""

    SPAWNING = "spawning"
    DELETING = "deleting"
    POWERING_ON = "powering-on"
    POWERING_OFF = "powering-off"
    REBOOTING = "rebooting"
    REBOOTING_HARD = "rebooting_hard"
    PAUSING = "pausing"
    UNPAUSING = "unpausing"
    MIGRATING = "migrating"
    RESIZE_MIGRATING = "resize_migrating"
    EVACUATING = "evacuating"
    REBUILDING = "rebuilding"


class PowerState(StrEnum):
    """What a hypervisor says of a guest."""

    NOSTATE = "nostate"
    RUNNING = "running"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"
    CRASHED = "crashed"


class Verb(StrEnum):
    """The operations: one verb, one conductor task, one row of :data:`OPERATIONS`."""

    BOOT = "boot"
    DELETE = "delete"
    START = "start"
    STOP = "stop"
    REBOOT = "reboot"
    HARD_REBOOT = "hard-reboot"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    LIVE_MIGRATE = "live-migrate"
    MIGRATE = "migrate"
    EVACUATE = "evacuate"
    REBUILD = "rebuild"


class ActionStatus(StrEnum):
    """Where an action stands. ``RUNNING`` and ``UNDOING`` are open; the others are ends."""

    RUNNING = "running"
    UNDOING = "undoing"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN_ACTION = frozenset({ActionStatus.RUNNING, ActionStatus.UNDOING})


class MigrationType(StrEnum):
    """Nova's names for the ways a guest changes its host."""

    LIVE = "live-migration"
    COLD = "migration"
    EVACUATION = "evacuation"


class MigrationStatus(StrEnum):
    """Where a migration stands; ``COMPLETED``, ``CANCELLED``, ``FAILED`` and ``ERROR`` are ends.

    ``FAILED``: undone, the instance is where it was. ``ERROR``: it could not be undone, and an operator has to look.
    """

    ACCEPTED = "accepted"
    PREPARING = "preparing"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    ERROR = "error"


class TimeoutAction(StrEnum):
    """What is done with a live migration whose time is over; Nova's ``live_migration_timeout_action``."""

    ABORT = "abort"
    FORCE_COMPLETE = "force_complete"


class DiskFormat(StrEnum):
    """What the content of an image is; Glance's names."""

    RAW = "raw"
    QCOW2 = "qcow2"


class MigrationEvent(StrEnum):
    """What moves a migration from one status to the next."""

    PREPARE = "prepare"
    QUEUE = "queue"
    START = "start"
    COMPLETE = "complete"
    CANCEL = "cancel"
    FAIL = "fail"
    GIVE_UP = "give up"


class HostState(StrEnum):
    """Whether a service can be counted on. A host that is silent is ``UNKNOWN``, never assumed dead."""

    UP = "up"
    UNKNOWN = "unknown"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One verb: when it is allowed and what it leads to.

    :ivar allowed: the states from which it may start.
    :ivar task_state: what the instance shows while it runs.
    :ivar after_success: the state it leads to; None: whatever the guest's power state says.
    :ivar after_failure: the state after a failure that was undone; None: the state before.
    :ivar cancellable: whether ``action cancel`` can stop it half-way.
    :ivar in_doubt: whether it is allowed while nobody knows on which host the guest is: it makes none.
    """

    allowed: frozenset[VmState]
    task_state: TaskState
    after_success: VmState | None
    after_failure: VmState | None = None
    cancellable: bool = False
    in_doubt: bool = False


def _from(*states: VmState) -> frozenset[VmState]:
    return frozenset(states)


OPERATIONS: Mapping[Verb, Operation] = {
    Verb.BOOT: Operation(
        allowed=_from(VmState.BUILDING),
        task_state=TaskState.SPAWNING,
        after_success=VmState.ACTIVE,
        after_failure=VmState.ERROR,
        cancellable=True,
    ),
    Verb.DELETE: Operation(
        allowed=_from(VmState.ACTIVE, VmState.PAUSED, VmState.STOPPED, VmState.ERROR),
        task_state=TaskState.DELETING,
        after_success=VmState.DELETED,
        after_failure=VmState.ERROR,
        in_doubt=True,
    ),
    Verb.START: Operation(
        allowed=_from(VmState.STOPPED),
        task_state=TaskState.POWERING_ON,
        after_success=VmState.ACTIVE,
    ),
    Verb.STOP: Operation(
        allowed=_from(VmState.ACTIVE),
        task_state=TaskState.POWERING_OFF,
        after_success=VmState.STOPPED,
    ),
    Verb.REBOOT: Operation(
        allowed=_from(VmState.ACTIVE),
        task_state=TaskState.REBOOTING,
        after_success=VmState.ACTIVE,
    ),
    Verb.HARD_REBOOT: Operation(
        allowed=_from(VmState.ACTIVE, VmState.PAUSED, VmState.STOPPED, VmState.ERROR),
        task_state=TaskState.REBOOTING_HARD,
        after_success=VmState.ACTIVE,
    ),
    Verb.PAUSE: Operation(
        allowed=_from(VmState.ACTIVE),
        task_state=TaskState.PAUSING,
        after_success=VmState.PAUSED,
    ),
    Verb.UNPAUSE: Operation(
        allowed=_from(VmState.PAUSED),
        task_state=TaskState.UNPAUSING,
        after_success=VmState.ACTIVE,
    ),
    Verb.LIVE_MIGRATE: Operation(
        allowed=_from(VmState.ACTIVE, VmState.PAUSED),
        task_state=TaskState.MIGRATING,
        after_success=None,
        cancellable=True,
    ),
    Verb.MIGRATE: Operation(
        allowed=_from(VmState.ACTIVE, VmState.STOPPED),
        task_state=TaskState.RESIZE_MIGRATING,
        after_success=None,
        cancellable=True,
    ),
    Verb.EVACUATE: Operation(
        allowed=_from(VmState.ACTIVE, VmState.PAUSED, VmState.STOPPED, VmState.ERROR),
        task_state=TaskState.EVACUATING,
        after_success=None,
        cancellable=True,
    ),
    Verb.REBUILD: Operation(
        allowed=_from(VmState.ACTIVE, VmState.STOPPED, VmState.ERROR),
        task_state=TaskState.REBUILDING,
        after_success=None,
    ),
}
"""Every verb, and what it does to an instance's state."""


def _moves(
    event: MigrationEvent, to: MigrationStatus, *sources: MigrationStatus
) -> dict[tuple[MigrationStatus, MigrationEvent], MigrationStatus]:
    return {(source, event): to for source in sources}


_S = MigrationStatus
_OPEN = (_S.ACCEPTED, _S.PREPARING, _S.QUEUED, _S.RUNNING)

OPEN_MIGRATION = frozenset(_OPEN)

MIGRATION: Mapping[tuple[MigrationStatus, MigrationEvent], MigrationStatus] = {
    **_moves(MigrationEvent.PREPARE, _S.PREPARING, _S.ACCEPTED),
    **_moves(MigrationEvent.QUEUE, _S.QUEUED, _S.PREPARING),
    **_moves(MigrationEvent.START, _S.RUNNING, _S.ACCEPTED, _S.PREPARING, _S.QUEUED),
    **_moves(MigrationEvent.COMPLETE, _S.COMPLETED, _S.PREPARING, _S.QUEUED, _S.RUNNING),
    **_moves(MigrationEvent.CANCEL, _S.CANCELLED, *_OPEN),
    **_moves(MigrationEvent.FAIL, _S.FAILED, *_OPEN),
    **_moves(MigrationEvent.GIVE_UP, _S.ERROR, *_OPEN),
}
"""(status, event) -> status. What is not in it cannot happen."""

VM_STATE_OF_POWER: Mapping[PowerState, VmState] = {
    PowerState.RUNNING: VmState.ACTIVE,
    PowerState.PAUSED: VmState.PAUSED,
    PowerState.SHUTDOWN: VmState.STOPPED,
    PowerState.CRASHED: VmState.ERROR,
    PowerState.NOSTATE: VmState.ERROR,
}
"""The state of an instance at rest, from what the hypervisor says of its guest."""

RESETTABLE = (VmState.ACTIVE, VmState.PAUSED, VmState.STOPPED, VmState.ERROR)
"""The states to which an operator may reset an instance by hand."""
