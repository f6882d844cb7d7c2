"""What is shown of each kind of object: its columns, and how a value reads to people and to programs."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from cliff.columns import FormattableColumn

from minova.location import shown
from minova.objects import Action, ActionEvent, Fault, Host, Image, Instance, Migration, MigrationProgress, Service
from minova.objects.base import DATA
from minova.states import MigrationStatus

if TYPE_CHECKING:
    from minova.notifications.subscription import Message

T = TypeVar("T")
Columns = Mapping[str, Callable[[T], object]]
"""Column name to what it shows of an object, in order."""

MIB = 2**20


class Cell(FormattableColumn[Any]):
    """A value that programs get as it is, and people as ``text``."""

    def __init__(self, value: object, text: str) -> None:
        super().__init__(value)
        self._text = text

    def human_readable(self) -> str:
        """Return the text."""
        return self._text

    def __lt__(self, other: object) -> bool:
        """Sort by value; nothing comes last."""
        if not isinstance(other, Cell):
            return NotImplemented
        return bool((self._value is None, self._value) < (other._value is None, other._value))


def row(columns: Columns[T], item: T) -> tuple[object, ...]:
    """Return what the columns show of ``item``."""
    return tuple(show(item) for show in columns.values())


def optional(value: str | None) -> Cell:
    """Show what may be missing."""
    return Cell(None if value is None else str(value), value or "-")


def flag(value: bool) -> Cell:
    """Show a yes or no."""
    return Cell(value, "yes" if value else "no")


def mib(value: int) -> Cell:
    """Show an amount that is given in MiB."""
    return Cell(value, f"{value} MiB")


def gib(value: int) -> Cell:
    """Show an amount that is given in GiB."""
    return Cell(value, f"{value} GiB")


def size(value: int) -> Cell:
    """Show an amount that is given in bytes."""
    return Cell(value, f"{value / MIB:.0f} MiB")


def rate(value: int) -> Cell:
    """Show bytes per second."""
    return Cell(value, f"{value / MIB:.0f} MiB/s")


def when(value: datetime | None) -> Cell:
    """Show a time in UTC, to the second."""
    return optional(value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if value else None)


def duration(seconds: float | None) -> Cell:
    """Show seconds; as milliseconds if they are few."""
    if seconds is None:
        return optional(None)
    text = f"{seconds * 1000:.0f} ms" if abs(seconds) < 1 else f"{seconds:.1f} s"
    return Cell(round(seconds, 3), text)


def _lasted(action: Action) -> Cell:
    return duration((action.finished_at - action.submitted_at).total_seconds() if action.finished_at else None)


def _copied(migration: Migration) -> Cell:
    if not migration.progress.total_bytes:
        return optional(None)
    # The last report of the progress may be older than the end.
    share = 1.0 if migration.status is MigrationStatus.COMPLETED else copied_share(migration.progress)
    in_short = migration.progress.verdict.partition(":")[0]
    return Cell(round(share, 3), f"{share:.0%}" + (f", {in_short}" if in_short else ""))


def copied_share(progress: MigrationProgress) -> float:
    """Return how much of the guest is at the destination, from 0 to 1; falls when the guest dirties memory."""
    return min(1.0, max(0.0, 1 - progress.remaining_bytes / progress.total_bytes)) if progress.total_bytes else 0.0


def _options(migration: Migration) -> Cell:
    """Show what was asked for; the rest was left to the configuration of the source."""
    if migration.options is None:
        return optional(None)
    asked = {name: value for name, value in msgspec.to_builtins(migration.options).items() if value is not None}
    said = {name: flag(value) if isinstance(value, bool) else value for name, value in asked.items()}
    return Cell(asked, "\n".join(f"{name} = {value}" for name, value in said.items()))


def offset_ms(action: Action, event: ActionEvent) -> float:
    """Return the milliseconds from the submission of ``action`` to the start of ``event``.

    Negative, if the clocks of their hosts differ.
    """
    return _milliseconds(event.started_at - action.submitted_at)


def lasted_ms(event: ActionEvent) -> float:
    """Return the milliseconds that ``event`` took."""
    return _milliseconds(event.finished_at - event.started_at)


def _milliseconds(difference: timedelta) -> float:
    # Adding zero turns a negative zero into a plain one.
    return round(difference.total_seconds() * 1000, 1) + 0.0


def _subject(message: "Message") -> Cell:
    """Show what a notification is about: the name of the instance, or the service."""
    data = message.payload.get(DATA, {})
    service = f"{data['binary']}:{data['host']}" if {"binary", "host"} <= data.keys() else None
    names = (data.get(key) for key in ("name", "instance_name", "instance_uuid"))
    return optional(next(filter(None, names), service))


def _happened(message: "Message") -> str:
    """Show when it happened, or failing that when it was sent, in UTC to the second."""
    moment = str(message.payload.get(DATA, {}).get("happened_at", message.timestamp))
    return f"{moment[:19].replace(' ', 'T')}Z"


def _detail(message: "Message") -> Cell:
    """Show the one thing of a payload that tells most."""
    data = message.payload.get(DATA, {})
    if "source_host" in data:
        return optional(f"{data['source_host']} → {data.get('dest_host')}")
    if "exception" in data:
        return optional(f"{data['exception']}: {data.get('exception_message')}")
    told = (data.get(key) for key in ("error", "reason", "change", "task_state", "vm_state"))
    return optional(next(filter(None, told), None))


INSTANCE_ROW: Columns[Instance] = {
    "name": lambda item: item.name,
    "uuid": lambda item: item.uuid,
    "host": lambda item: optional(item.host),
    "state": lambda item: item.vm_state.value,
    "task": lambda item: optional(item.task_state),
    "power": lambda item: item.power_state.value,
    "vcpus": lambda item: item.vcpus,
    "memory": lambda item: mib(item.memory_mb),
    "disk": lambda item: gib(item.disk_gb),
}

INSTANCE: Columns[Instance] = {
    **INSTANCE_ROW,
    "created": lambda item: when(item.created_at),
    "updated": lambda item: when(item.updated_at),
    "image": lambda item: optional(item.image.name if item.image else None),
    "network": lambda item: optional(item.network),
    "mac_address": lambda item: optional(item.mac_address if item.network != "none" else None),
    "addresses": lambda item: optional(", ".join(item.addresses) or None),
    "user_data": lambda item: flag(bool(item.user_data)),
}

IMAGE_ROW: Columns[Image] = {
    "name": lambda item: item.name,
    "uuid": lambda item: item.uuid,
    "format": lambda item: item.disk_format.value,
    "location": lambda item: shown(item.disk.location),
    "created": lambda item: when(item.created_at),
}

IMAGE: Columns[Image] = {
    **IMAGE_ROW,
    "sha256": lambda item: item.disk.sha256,
    "kernel": lambda item: optional(shown(item.kernel.location) if item.kernel else None),
    "kernel_sha256": lambda item: optional(item.kernel.sha256 if item.kernel else None),
    "initrd": lambda item: optional(shown(item.initrd.location) if item.initrd else None),
    "initrd_sha256": lambda item: optional(item.initrd.sha256 if item.initrd else None),
    "cmdline": lambda item: optional(item.cmdline or None),
}

FAULT: Columns[Fault] = {
    "created": lambda item: when(item.created_at),
    "code": lambda item: item.code,
    "message": lambda item: item.message,
    "host": lambda item: optional(item.host),
    "action": lambda item: optional(item.action_id),
}

FAULT_DETAILED: Columns[Fault] = {**FAULT, "details": lambda item: optional(item.details)}

ACTION_ROW: Columns[Action] = {
    "id": lambda item: item.id,
    "verb": lambda item: item.verb.value,
    "instance": lambda item: item.instance_name,
    "status": lambda item: item.status.value,
    "step": lambda item: item.step,
    "submitted": lambda item: when(item.submitted_at),
    "duration": _lasted,
    "error": lambda item: optional(item.error),
}

ACTION: Columns[Action] = {
    "id": lambda item: item.id,
    "verb": lambda item: item.verb.value,
    "instance": lambda item: item.instance_name,
    "instance_uuid": lambda item: item.instance_uuid,
    "status": lambda item: item.status.value,
    "step": lambda item: item.step,
    "attempt": lambda item: item.attempt,
    "error": lambda item: optional(item.error),
    "migration": lambda item: optional(item.migration_uuid),
    "submitted": lambda item: when(item.submitted_at),
    "finished": lambda item: when(item.finished_at),
    "duration": _lasted,
    "cancel_requested": lambda item: flag(item.cancel_requested),
    "user": lambda item: optional(item.user),
    "owner": lambda item: optional(item.owner),
    "request": lambda item: item.request_id,
}

TRACE: Columns[tuple[Action, ActionEvent]] = {
    "step": lambda item: item[1].step,
    "hop": lambda item: item[1].hop.value,
    "service": lambda item: item[1].service,
    "attempt": lambda item: item[1].attempt,
    "start_ms": lambda item: offset_ms(*item),
    "duration_ms": lambda item: lasted_ms(item[1]),
    "result": lambda item: item[1].result.value,
    "message": lambda item: optional(item[1].message),
}

MIGRATION_ROW: Columns[Migration] = {
    "uuid": lambda item: item.uuid,
    "instance": lambda item: item.instance_name,
    "type": lambda item: item.migration_type.value,
    "status": lambda item: item.status.value,
    "source": lambda item: item.source_host,
    "destination": lambda item: item.dest_host,
    "copied": _copied,
    "created": lambda item: when(item.created_at),
}

MIGRATION: Columns[Migration] = {
    **MIGRATION_ROW,
    "updated": lambda item: when(item.updated_at),
    "unclear_hosts": lambda item: ", ".join(item.unclear_hosts),
    "action": lambda item: item.action_id,
    "instance_uuid": lambda item: item.instance_uuid,
    "options": _options,
    "total": lambda item: size(item.progress.total_bytes),
    "done": lambda item: size(item.progress.done_bytes),
    "remaining": lambda item: size(item.progress.remaining_bytes),
    "dirty_rate": lambda item: rate(item.progress.dirty_rate),
    "bandwidth": lambda item: rate(item.progress.bandwidth),
    "iteration": lambda item: item.progress.iteration,
    "throttle": lambda item: Cell(item.progress.throttle, f"{item.progress.throttle} %"),
    "post_copy": lambda item: flag(item.progress.post_copy),
    "downtime": lambda item: duration(item.progress.downtime_ms / 1000),
    "elapsed": lambda item: duration(item.progress.elapsed),
    "verdict": lambda item: optional(item.progress.verdict or None),
}

HOST_ROW: Columns[Host] = {
    "host": lambda item: item.host,
    "state": lambda item: item.state.value,
    "enabled": lambda item: flag(item.enabled),
    "draining": lambda item: flag(item.draining),
    "instances": lambda item: item.instances,
    "vcpus_used": lambda item: item.vcpus_used,
    "vcpus": lambda item: item.vcpus,
    "memory_used": lambda item: mib(item.memory_mb_used),
    "memory": lambda item: mib(item.memory_mb),
    "disk_used": lambda item: gib(item.disk_gb_used),
    "disk": lambda item: gib(item.disk_gb),
}

HOST: Columns[Host] = {
    **HOST_ROW,
    "hypervisor": lambda item: item.hypervisor_type,
    "cpu_model": lambda item: optional(item.cpu_model),
}

SERVICE: Columns[Service] = {
    "host": lambda item: item.host,
    "binary": lambda item: item.binary,
    "state": lambda item: item.state.value,
    "enabled": lambda item: flag(item.enabled),
    "forced_down": lambda item: flag(item.forced_down),
    "draining": lambda item: flag(item.draining),
    "reason": lambda item: optional(item.disabled_reason),
    "rpc_version": lambda item: item.rpc_version,
    "started": lambda item: when(item.started_at),
    "last_seen": lambda item: when(item.last_seen_at),
}

NOTIFICATION: "Columns[Message]" = {
    "time": _happened,
    "priority": lambda item: item.priority.lower(),
    "event": lambda item: item.event_type,
    "publisher": lambda item: item.publisher_id,
    "subject": _subject,
    "detail": _detail,
    "payload": lambda item: item.payload,
}
