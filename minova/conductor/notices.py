"""What conductors announce to the world, with the transaction that makes it true."""

from sqlalchemy.orm import Session

from minova.db import convert, models
from minova.db.session import announce
from minova.notifications.catalogue import (
    COMPUTE_EXCEPTION,
    INSTANCE_UPDATE,
    SERVICE_CREATE,
    SERVICE_UPDATE,
    Notification,
    Phase,
    action_event,
    migration_event,
)
from minova.notifications.payloads import ExceptionPayload, ServiceChange
from minova.objects import Fault, utcnow
from minova.states import ActionStatus, VmState

_PHASES = {
    ActionStatus.RUNNING: Phase.START,
    ActionStatus.SUCCEEDED: Phase.END,
    ActionStatus.FAILED: Phase.ERROR,
    ActionStatus.CANCELLED: Phase.ERROR,
}


def action(session: Session, row: models.Action, instance: models.Instance) -> None:
    """Tell that an action has begun or ended."""
    event_type = action_event(row.verb, _PHASES[row.status])
    announce(session, Notification(event_type, convert.action_payload(row, instance)))


def instance_updated(session: Session, row: models.Instance, old_vm_state: VmState, reason: str) -> None:
    """Tell that the state of an instance was changed by no action."""
    announce(session, Notification(INSTANCE_UPDATE, convert.instance_payload(row, old_vm_state, reason)))


def migration(session: Session, row: models.Migration) -> None:
    """Tell that a migration has got another status."""
    name = session.get_one(models.Instance, row.instance_uuid).name
    announce(session, Notification(migration_event(row.status), convert.migration_payload(row, name)))


def service(session: Session, row: models.Service, change: ServiceChange) -> None:
    """Tell what happened to a service."""
    event_type = SERVICE_CREATE if change is ServiceChange.REGISTERED else SERVICE_UPDATE
    announce(session, Notification(event_type, convert.service_payload(row, change)))


def unexpected(session: Session, instance_uuid: str, action_id: str | None, fault: Fault) -> None:
    """Tell of an error that nobody expected."""
    payload = ExceptionPayload(
        happened_at=utcnow(),
        service=fault.host,
        exception=fault.code,
        exception_message=fault.message,
        instance_uuid=instance_uuid,
        action_id=action_id,
    )
    announce(session, Notification(COMPUTE_EXCEPTION, payload))
