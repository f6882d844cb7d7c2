"""Faults for the record, and for whoever asks why."""

from sqlalchemy.orm import Session

from minova.db import models
from minova.objects import Fault, utcnow


def record(session: Session, instance_uuid: str, action_id: str | None, fault: Fault) -> None:
    """Add a fault to an instance's."""
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
