"""Faults for the record, and for whoever asks why."""

from sqlalchemy.orm import Session

from minova.conductor import notices
from minova.db import models
from minova.exception import ServiceFault
from minova.objects import Fault, utcnow


def record(session: Session, instance_uuid: str, action_id: str | None, fault: Fault) -> None:
    """Add a fault to an instance's; one that nobody expected is told to the world too."""
    if fault.details or fault.code == ServiceFault.__name__:
        notices.unexpected(session, instance_uuid, action_id, fault)
    session.add(
        models.InstanceFault(
            instance_uuid=instance_uuid,
            action_id=action_id,
            code=fault.code,
            message=fault.message,
            details=fault.details,
            host=fault.host,
            created_at=utcnow(),
        )
    )
