"""Retention: what is over, and older than ``[conductor] retention_days``, is purged from the database.

What goes:

- an action that has ended, with its trace and its migration, unless that migration still tells what a host has to do;
- a fault, once its action is gone; those of an instance in ERROR stay, for they say why it is;
- a deleted instance, once nothing points to it any more and no host can come back with a copy of it.

What has not ended, and what this release cannot judge, stays.

A host that returns after months must still destroy the copies that do not count any more, and what it is told is
decided by the rows (``reconcile``). So no purge changes what it is told:

- Of an instance that is not deleted, the migration that tells of a host (:func:`~minova.conductor.reconcile.tells`)
  stays, with its action, until a later one tells better: one for each host that the instance came to or left, at most.
- The row of a deleted instance has its copies destroyed, wherever they are. A host may have one if it was last heard
  while the instance lived, give or take a day: the row stays until all such hosts have been heard again. A host that
  is gone for good keeps the rows of what lived when it fell silent, and no others.

Each batch is a short transaction of its own with a pause after it, for SQLite has only one writer, and touches rows on
which nobody works any more. What has ended never changes, and what a later migration has outdated stays so: conductors
that purge at once choose the same rows, and find some of them gone.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from math import inf
from typing import Any

from oslo_config import cfg
from oslo_db.exception import DBReferenceError
from sqlalchemy import ColumnElement, Select, and_, delete, func, inspect, not_, or_, select
from sqlalchemy.orm import Session, aliased

from minova.conductor.reconcile import tells
from minova.db.models import Action, ActionEvent, Allocation, Base, Instance, InstanceFault, Migration, Service
from minova.db.queries import COMPUTE
from minova.db.session import Database, persistent
from minova.objects import utcnow
from minova.states import OPEN_ACTION, OPEN_MIGRATION, ActionStatus, MigrationStatus, MigrationType, VmState

LOG = logging.getLogger(__name__)

_PAUSE = 0.05
"""Seconds between two batches, in which others write: at SQLite's lock, who waits only looks again now and then."""

_LONGEST_RUN = 300.0
"""Seconds after which a run begins no other batch: one that took as long as it likes would pass for a hang."""

_BATCHES = 10
"""How many batches are looked for at a time."""

_DAY = timedelta(days=1)
"""More than any ``service_down_time``, in which a host that is silent may still be chosen, and any order's deadline."""

_ENDED_ACTION = frozenset(ActionStatus) - OPEN_ACTION
_ENDED_MIGRATION = frozenset(MigrationStatus) - OPEN_MIGRATION

_GO_WITH: dict[type[Base], tuple[Any, ...]] = {Action: (ActionEvent.action_id, Migration.action_id)}
"""What is deleted with a row: the columns that point to it."""


class Retention:
    """Purges, now and then, as one of several conductors."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database) -> None:
        """Purge ``database``."""
        self._conf = conf
        self._database = database
        self._stopping = threading.Event()

    def run(self) -> None:
        """Purge what is older than it has to be kept; what is left when the next run is due is left to that."""
        days: int = self._conf.conductor.retention_days
        if days:
            self.purge(days, patience=min(self._conf.conductor.purge_interval, _LONGEST_RUN))

    def purge(self, days: int, patience: float = inf) -> Counter[str]:
        """Purge what ended more than so many days ago; return how many rows of which tables went.

        What goes with an action is not counted.

        :param patience: seconds after which no other batch is begun.
        :raises DatabaseError: the database cannot be reached.
        """
        before, deadline = utcnow() - timedelta(days=days), time.monotonic() + patience
        purged: Counter[str] = Counter()
        # Children before parents: an instance goes when nothing points to it any more.
        for kind, find in ((Action, _old_actions), (InstanceFault, _old_faults), (Instance, _old_instances)):
            purged[kind.__tablename__] = self._purge(kind, find, before, deadline)
        if purged.total():
            told = ", ".join(f"{number} {name}" for name, number in purged.items())
            LOG.info("Purged what was over more than %d days ago: %s", days, told)
        return purged

    def stop(self) -> None:
        """Begin no other batch."""
        self._stopping.set()

    def _purge(
        self, kind: type[Base], find: Callable[[Session, datetime], Select[Any]], before: datetime, deadline: float
    ) -> int:
        size: int = self._conf.conductor.purge_batch_size
        purged = 0
        while keys := self._find(find, before, size * _BATCHES):
            gone = 0
            for first in range(0, len(keys), size):
                if time.monotonic() > deadline or self._stopping.wait(_PAUSE):
                    return purged + gone
                gone += self._delete(kind, keys[first : first + size])
            purged += gone
            if not gone:
                # Another conductor is at it, or what is left cannot go.
                break
        return purged

    @persistent
    def _find(self, find: Callable[[Session, datetime], Select[Any]], before: datetime, enough: int) -> Sequence[Any]:
        with self._database.read() as session:
            return session.scalars(find(session, before).limit(enough)).all()

    def _delete(self, kind: type[Base], keys: Sequence[Any]) -> int:
        try:
            return self._database.write(_delete, kind, keys)
        except DBReferenceError:
            # Its conductors will purge them.
            LOG.warning(
                "Old %s are left alone: a table of a newer release of minova refers to them", kind.__tablename__
            )
            return 0


def _delete(session: Session, kind: type[Base], keys: Sequence[Any]) -> int:
    """Delete rows, and what goes with them; return how many were still there."""
    [key] = inspect(kind).primary_key
    # Locked in one order, so that conductors that purge the same rows wait for each other, and not in a ring.
    there = session.scalars(select(key).where(key.in_(keys)).order_by(key).with_for_update()).all()
    for column in (*_GO_WITH.get(kind, ()), key):
        statement = delete(column.table).where(column.in_(there))
        session.execute(statement)
    return len(there)


def _old_actions(_session: Session, before: datetime) -> Select[Any]:
    needed = (
        select(Migration.uuid)
        .join(Instance, Instance.uuid == Migration.instance_uuid)
        .where(Migration.action_id == Action.id, not_(_is_outdated()))
    )
    # Wrapped, or SQLite takes the index of the status, and sorts all actions by their ends each time.
    has_ended = func.coalesce(Action.status, "").in_(_ENDED_ACTION)
    old = select(Action.id).where(Action.finished_at < before, has_ended)
    return old.where(~needed.exists()).order_by(Action.finished_at)


def _is_outdated() -> ColumnElement[bool]:
    """Return the condition that no host is told anything by a migration any more."""
    told_better = (
        or_(not_(tells(Migration, host)), _is_told_later(host)) for host in (Migration.source_host, Migration.dest_host)
    )
    clear = Migration.unclear_since.is_(None)
    return and_(_has_ended(Migration), clear, or_(Instance.vm_state == VmState.DELETED, and_(*told_better)))


def _is_told_later(host: Any) -> ColumnElement[bool]:
    """Return the condition that there is a later migration of the same instance that tells of a host."""
    later = aliased(Migration)
    of_the_same = and_(later.instance_uuid == Migration.instance_uuid, later.created_at > Migration.created_at)
    return select(later.uuid).where(of_the_same, _has_ended(later), tells(later, host)).exists()


def _has_ended(move: type[Migration]) -> ColumnElement[bool]:
    """Return the condition that a migration has ended, and is none that only a newer release can judge."""
    return and_(move.status.in_(_ENDED_MIGRATION), move.migration_type.in_(list(MigrationType)))


def _old_faults(_session: Session, before: datetime) -> Select[Any]:
    kept = select(Action.id).where(Action.id == InstanceFault.action_id).exists()
    old = select(InstanceFault.id).join(Instance, Instance.uuid == InstanceFault.instance_uuid)
    old = old.where(InstanceFault.created_at < before, ~kept, Instance.vm_state != VmState.ERROR)
    return old.order_by(InstanceFault.created_at)


def _old_instances(session: Session, before: datetime) -> Select[Any]:
    children = (Action, Migration, InstanceFault, Allocation)
    bare = [~select(child.instance_uuid).where(child.instance_uuid == Instance.uuid).exists() for child in children]
    last_heard = select(Service.last_seen_at).where(Service.binary == COMPUTE, Service.last_seen_at < before + _DAY)
    # The host may have been heard for the last time while the instance lived.
    copies = [
        and_(Instance.created_at < heard + _DAY, Instance.deleted_at > heard - _DAY)
        for heard in session.scalars(last_heard)
    ]
    old = select(Instance.uuid).where(Instance.deleted_at < before, Instance.vm_state == VmState.DELETED)
    nowhere = [not_(copy) for copy in copies]
    return old.where(Instance.task_state.is_(None), *bare, *nowhere).order_by(Instance.deleted_at)
