"""Rows to the objects that leave the conductor."""

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from minova import objects
from minova.db import models
from minova.notifications import payloads
from minova.objects import WireObject, utcnow
from minova.objects.instance import HIDDEN
from minova.states import HostState, VmState

_Object = TypeVar("_Object", bound=WireObject)


def _from_row(kind: type[_Object], row: models.Base, **more: Any) -> _Object:
    """Build an object from the columns that bear its fields' names, and from ``more``."""
    columns = {
        name: getattr(row, name) for name in kind.__dataclass_fields__ if name not in more and hasattr(row, name)
    }
    return kind(**columns, **more)


def instance(row: models.Instance) -> objects.Instance:
    """Return an instance."""
    return _from_row(
        objects.Instance,
        row,
        image=msgspec.convert(row.image, objects.Image | None),
        user_data=row.user_data or "",
        ssh_keys=tuple(row.ssh_keys or ()),
        addresses=tuple(row.addresses or ()),
    )


def shown_instance(row: models.Instance) -> objects.Instance:
    """Return an instance for those who ask: of its user data, large and secret as it is, only whether there is any."""
    found = instance(row)
    return replace(found, user_data=HIDDEN if found.user_data else "")


def image(row: models.Image) -> objects.Image:
    """Return an image."""
    files = {
        name: msgspec.convert(getattr(row, name), objects.ImageFile | None) for name in ("disk", "kernel", "initrd")
    }
    return _from_row(objects.Image, row, **files)


def action(row: models.Action, instance_name: str, migration_uuid: str | None) -> objects.Action:
    """Return an action."""
    return _from_row(objects.Action, row, instance_name=instance_name, migration_uuid=migration_uuid)


def action_event(row: models.ActionEvent) -> objects.ActionEvent:
    """Return one line of a trace."""
    return _from_row(objects.ActionEvent, row)


def fault(row: models.InstanceFault) -> objects.Fault:
    """Return a fault."""
    return _from_row(objects.Fault, row)


def migration(row: models.Migration, instance_name: str, args: dict[str, Any]) -> objects.Migration:
    """Return a migration; ``args`` are its action's."""
    joined = {
        "instance_name": instance_name,
        "progress": msgspec.convert(row.progress, objects.MigrationProgress),
        "unclear_hosts": tuple(row.unclear_hosts or ()),
        "options": _options(args),
    }
    return _from_row(objects.Migration, row, **joined)


def _options(args: dict[str, Any]) -> objects.MigrationOptions | None:
    """Return how a live migration was asked for; of what only a newer release can say nothing is known."""
    with suppress(msgspec.ValidationError):
        return msgspec.convert(args["options"], objects.MigrationOptions) if "options" in args else None
    return None


def service_state(row: models.Service, now: datetime, down_time: float) -> HostState:
    """Return whether a service can be counted on; one that was not heard for ``down_time`` seconds is unknown."""
    if row.forced_down:
        return HostState.DOWN
    return HostState.UP if row.last_seen_at >= now - timedelta(seconds=down_time) else HostState.UNKNOWN


def service(row: models.Service, now: datetime, down_time: float) -> objects.Service:
    """Return a service."""
    return _from_row(objects.Service, row, state=service_state(row, now, down_time))


def host(
    node: models.ComputeNode, row: models.Service, instances: int, now: datetime, down_time: float
) -> objects.Host:
    """Return a compute host, from its node, its service and the number of its instances."""
    state = service_state(row, now, down_time)
    return _from_row(objects.Host, node, state=state, enabled=row.enabled, draining=row.draining, instances=instances)


def action_payload(row: models.Action, instance: models.Instance) -> payloads.InstanceActionPayload:
    """Return what is told of an action and its instance."""
    its = ("uuid", "name", "host", "vm_state", "task_state", "power_state", "vcpus", "memory_mb", "disk_gb")
    about_instance = {name: getattr(instance, name) for name in its}
    return _from_row(payloads.InstanceActionPayload, row, happened_at=utcnow(), action_id=row.id, **about_instance)


def instance_payload(row: models.Instance, old_vm_state: VmState, reason: str) -> payloads.InstanceUpdatePayload:
    """Return what is told of an instance whose state was changed."""
    return _from_row(
        payloads.InstanceUpdatePayload, row, happened_at=utcnow(), old_vm_state=old_vm_state, reason=reason
    )


def migration_payload(row: models.Migration, instance_name: str) -> payloads.MigrationPayload:
    """Return what is told of a migration."""
    return _from_row(payloads.MigrationPayload, row, happened_at=utcnow(), instance_name=instance_name)


def service_payload(row: models.Service, change: payloads.ServiceChange) -> payloads.ServicePayload:
    """Return what is told of a service."""
    return _from_row(payloads.ServicePayload, row, happened_at=utcnow(), change=change)
