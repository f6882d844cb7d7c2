"""How the status of a migration changes: in one place, which tells of it."""

from sqlalchemy.orm import Session

from minova.conductor import notices
from minova.db import models
from minova.objects import utcnow
from minova.states import MIGRATION, MigrationEvent


def advance(session: Session, row: models.Migration, event: MigrationEvent) -> None:
    """Write down what happens to a migration; nothing, if it is beyond that already."""
    before = row.status
    row.status, row.updated_at = MIGRATION.get((before, event), before), utcnow()
    if row.status is not before:
        notices.migration(session, row)
