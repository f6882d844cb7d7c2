"""Rows to the objects that leave the conductor."""

from datetime import datetime, timedelta
from typing import Any, TypeVar

import msgspec

from minova import objects
from minova.db import models
from minova.objects import WireObject
from minova.states import HostState

_Object = TypeVar("_Object", bound=WireObject)


def _from_row(kind: type[_Object], row: models.Base, **more: Any) -> _Object:
    """Build an object from the columns that bear its fields' names, and from ``more``."""
    columns = {
        name: getattr(row, name) for name in kind.__dataclass_fields__ if name not in more and hasattr(row, name)
    }
    return kind(**columns, **more)


def instance(row: models.Instance) -> objects.Instance:
    """Return an instance."""
    return _from_row(objects.Instance, row)


def action(row: models.Action, instance_name: str, migration_uuid: str | None) -> objects.Action:
    """Return an action."""
    return _from_row(objects.Action, row, instance_name=instance_name, migration_uuid=migration_uuid)


def action_event(row: models.ActionEvent) -> objects.ActionEvent:
    """Return one line of a trace."""
    return _from_row(objects.ActionEvent, row)


def fault(row: models.InstanceFault) -> objects.Fault:
    """Return a fault."""
    return _from_row(objects.Fault, row)


def migration(row: models.Migration, instance_name: str) -> objects.Migration:
    """Return a migration."""
    progress = msgspec.convert(row.progress, objects.MigrationProgress)
    return _from_row(objects.Migration, row, instance_name=instance_name, progress=progress)


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
