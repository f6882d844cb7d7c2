"""Migrations under way: their progress, abort, and forcing them to end."""

import functools
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import msgspec
import oslo_messaging
from oslo_config import cfg
from sqlalchemy import update
from sqlalchemy.orm import Session

from minova.conductor import moves
from minova.conductor.engine import Engine
from minova.conductor.tasks import Services, Task
from minova.context import RequestContext, working_for
from minova.db import models
from minova.db.queries import find_migration, migration_of, waits_for_none_that_is_fenced
from minova.db.session import Database, persistent
from minova.exception import ActionUnknown, InvalidInput, MinovaError, NotForceable
from minova.objects import MigrationProgress, Order, utcnow
from minova.states import OPEN_ACTION, MigrationEvent, MigrationStatus, MigrationType


class Migrations:
    """What concerns migrations, beyond the actions that carry them out."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database, services: Services, engine: Engine) -> None:
        """Work on ``database``, and abort through ``engine``."""
        self._conf = conf
        self._database = database
        self._services = services
        self._engine = engine

    def progress(self, order: Order, event: str, progress: MigrationProgress | None) -> None:
        """Store what a source reports of a migration, and tell it again what was asked for meanwhile.

        It may have been restarted since it was told to abort the migration, or to force it to its end.
        """
        if event not in set(MigrationEvent):
            raise InvalidInput(reason=f"no such event of a migration: {event}")
        tell = self._database.write(self._store_progress, order, MigrationEvent(event), progress)
        if tell is not None:
            tell()

    def abort(self, uuid: str) -> str:
        """Cancel the action of a migration, queued or running; return the action's id. :raises NotCancellable:"""
        action_id = self._find(uuid).action_id
        self._engine.cancel(action_id)
        return action_id

    def force_complete(self, ctxt: RequestContext, uuid: str) -> str:
        """Have the source end a live migration that does not converge; return the action's id.

        :raises NotForceable: it is not copying memory now.
        :raises PeerTooOld: a compute cannot do it yet.
        """
        row = self._find(uuid)
        if row.migration_type is not MigrationType.LIVE:
            raise InvalidInput(reason=f"migration {uuid} is no live migration: it cannot be forced to complete")
        if row.status is not MigrationStatus.RUNNING:
            raise NotForceable(migration=uuid, status=row.status)
        self._services.compute.live_migration_force_complete(ctxt, row.source_host, row.action_id, row.instance_uuid)
        self._database.write(self._remember_force, row.action_id)
        return row.action_id

    @persistent
    def _find(self, uuid: str) -> models.Migration:
        with self._database.read() as session:
            return find_migration(session, uuid)

    def _remember_force(self, session: Session, action_id: str) -> None:
        self._engine.machine.load(session, session.get_one(models.Action, action_id)).remember(forced=True)

    def _force_again(self, task: Task) -> None:
        host = task.waits_for
        if host is not None:
            with working_for(task.ctxt), suppress(MinovaError, oslo_messaging.MessagingException):
                self._services.compute.live_migration_force_complete(
                    task.ctxt, host, task.action.id, task.instance.uuid
                )

    def _store_progress(
        self, session: Session, order: Order, event: MigrationEvent, progress: MigrationProgress | None
    ) -> Callable[[], None] | None:
        """Store progress unless it is stale; return what has to be told to the source, if anything has."""
        action = session.get(models.Action, order.action_id)
        if action is None:
            return None
        try:
            task = self._engine.machine.load(session, action)
        except ActionUnknown:
            # The next progress may reach a conductor that knows it.
            return None
        if action.status not in OPEN_ACTION or task.current is None or task.current.name != order.step:
            return functools.partial(self._engine.abort, task)
        if action.sequence == order.sequence:
            self._store(session, action, event, progress)
        if action.cancel_requested:
            return functools.partial(self._engine.abort, task)
        return functools.partial(self._force_again, task) if "forced" in action.data else None

    def _store(
        self, session: Session, action: models.Action, event: MigrationEvent, progress: MigrationProgress | None
    ) -> None:
        now = utcnow()
        its = (models.Action.id == action.id, models.Action.sequence == action.sequence)
        renewed = update(models.Action).where(*its, waits_for_none_that_is_fenced())
        renewed = renewed.values(heard_at=now, lease_expires_at=now + timedelta(seconds=self._conf.conductor.lease))
        session.execute(renewed.execution_options(synchronize_session=False))
        row = migration_of(session, action.id)
        if row is None:
            return
        moves.advance(session, row, event)
        # What was cast first may arrive last.
        if progress is not None and progress.elapsed >= row.progress.get("elapsed", 0.0):
            row.progress = msgspec.to_builtins(progress)
