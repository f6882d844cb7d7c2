"""Actions of another release of minova: told apart, left to the conductors that know them, ended if none does.

During an upgrade conductors of two releases work side by side, and each finds the actions of both. One that an older
conductor cannot go on with is none of its business: a newer one will take it over. What nobody takes for long, although
conductors are there, nobody knows.
"""

import contextlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from oslo_config import cfg
from sqlalchemy import ColumnElement, String, Text, cast, select, type_coerce, update
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import Session

from minova.conductor import doubts, faults, notices
from minova.conductor.tasks import TASKS
from minova.db import convert, models
from minova.db.queries import migration_of
from minova.db.session import Database
from minova.exception import ActionUnknown, DatabaseError
from minova.objects import Fault, utcnow
from minova.rpc.versions import serves
from minova.scheduler.scheduler import Scheduler
from minova.states import OPEN_ACTION, OPEN_MIGRATION, ActionStatus, MigrationStatus, Verb, VmState

LOG = logging.getLogger(__name__)

BATCH = 100
"""How many actions one sweep is for."""

_CLOSED_MIGRATION = frozenset(MigrationStatus) - OPEN_MIGRATION

_ODD = (DatabaseError, NoResultFound, ValueError, TypeError, AttributeError, LookupError)
"""What is raised by rows that hold what nobody expects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An open action, as far as it can be read whoever began it.

    :ivar unknown: why this release cannot go on with it; empty: it can.
    """

    id: str
    sequence: int
    lease_expires_at: datetime
    unknown: str


def why_unknown(verb: str, step: str, undo_to: str, data: Any) -> str:
    """Return why this release cannot go on with an action, or nothing if it can; ``data`` may be anything."""
    if verb not in set(Verb):
        return f"there is no operation {verb!r}"
    task = TASKS[Verb(verb)]
    version = data.get("version", "1.0") if isinstance(data, dict) else None
    if not _serves(task.version, version):
        return f"it is a {verb} of version {version}, not {task.version}"
    for name in filter(None, (step, undo_to)):
        if name not in {each.name for each in task.steps}:
            return f"a {verb} has no step {name!r}"
    return ""


def _serves(own: str, needed: Any) -> bool:
    try:
        return serves(own, needed)
    except _ODD:
        return False


def require_known(action: models.Action) -> None:
    """Check that this release can go on with an action. :raises ActionUnknown: it cannot."""
    reason = why_unknown(action.verb, action.step, action.undo_to, action.data)
    if reason:
        told = f"action {action.id} was begun by another release of minova, and is left to its conductors: {reason}"
        raise ActionUnknown(reason=told)


def open_actions(session: Session, condition: ColumnElement[bool], *, enough: int | None = None) -> list[Found]:
    """Return open actions, those first whose leases expire first.

    :param enough: how many will do; those of other releases do not count. None: all.
    """
    found: list[Found] = []
    while True:
        page = _page(session, condition, len(found))
        found += page
        known = sum(not each.unknown for each in found)
        if len(page) < BATCH or (enough is not None and known >= enough):
            return found


def _page(session: Session, condition: ColumnElement[bool], offset: int) -> list[Found]:
    row = models.Action
    # As a plain string: a verb of another release would be no Verb.
    columns = (
        row.id,
        row.sequence,
        row.lease_expires_at,
        type_coerce(row.verb, String),
        row.step,
        row.undo_to,
        # As text: what cannot be decoded would keep the others from being read.
        cast(row.data, Text),
    )
    query = select(*columns).where(row.status.in_(OPEN_ACTION), condition).order_by(row.lease_expires_at, row.id)
    query = query.limit(BATCH).offset(offset)
    return [
        Found(
            id=id_,
            sequence=sequence,
            lease_expires_at=expires,
            unknown=why_unknown(verb, step, undo_to, _decode(data)) or _why_unreadable(session, id_),
        )
        for id_, sequence, expires, verb, step, undo_to, data in session.execute(query).all()
    ]


def _decode(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except _ODD:
        return None


def _why_unreadable(session: Session, action_id: str) -> str:
    """Return why an action cannot be loaded, or nothing if it can."""
    try:
        action = session.get_one(models.Action, action_id)
        convert.instance(session.get_one(models.Instance, action.instance_uuid))
    except _ODD as error:
        return f"it cannot be read: {error}"
    return ""


def known(found: Iterable[Found]) -> list[tuple[str, int]]:
    """Return (id, sequence) of the actions that are none of another release."""
    return [(each.id, each.sequence) for each in found if not each.unknown]


class ForeignActions:
    """Looks after the actions that this release does not know, and that have no owner any more."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database, name: str) -> None:
        """Work for the conductor ``name``."""
        self._database = database
        self._scheduler = Scheduler(conf)
        self._patience = timedelta(seconds=conf.conductor.unresponsive_timeout)
        self._name = name
        self._told: set[tuple[str, int]] = set()

    def look_after(self, found: Iterable[Found], listening_since: datetime) -> None:
        """Leave actions to conductors that know them; one that none took over for long is ended.

        :param listening_since: from when on there certainly was a conductor, so that others may have been there too.
        """
        foreign = {(each.id, each.sequence): each for each in found if each.unknown}
        for each in foreign.values():
            if utcnow() - max(each.lease_expires_at, listening_since) > self._patience:
                self._give_up(each)
        for key in foreign.keys() - self._told:
            LOG.warning("Action %s is left to conductors of another release: %s", key[0], foreign[key].unknown)
        self._told = set(foreign)

    def _give_up(self, each: Found) -> None:
        """End an action; whatever is wrong with it does not keep others from being looked after."""
        try:
            self._database.write(self._end, each)
        except Exception:
            LOG.exception("Action %s could not be ended", each.id)

    def _end(self, session: Session, found: Found) -> None:
        """End an action without touching what could not be read; whoever comes back later finds it ended."""
        now, row = utcnow(), models.Action
        text = f"no conductor can go on with it ({found.unknown}): what its hosts have is seen from their next reports"
        still = update(row).where(row.id == found.id, row.sequence == found.sequence, row.status.in_(OPEN_ACTION))
        ended = {"status": ActionStatus.FAILED, "error": text, "finished_at": now, "waits_for": None}
        if not _change(session, still.values(sequence=found.sequence + 1, **ended)):
            return
        its = select(models.Instance.uuid, models.Instance.host).join(row, row.instance_uuid == models.Instance.uuid)
        uuid, host = session.execute(its.where(row.id == found.id)).one()
        freed = {"vm_state": VmState.ERROR, "task_state": None, "updated_at": now}
        _change(session, update(models.Instance).where(models.Instance.uuid == uuid).values(**freed))
        moves = update(models.Migration).where(models.Migration.action_id == found.id)
        still_open = models.Migration.status.not_in(_CLOSED_MIGRATION)
        if _change(session, moves.where(still_open).values(status=MigrationStatus.ERROR, updated_at=now)):
            ends = select(models.Migration.source_host, models.Migration.dest_host)
            left, chosen = session.execute(ends.where(models.Migration.action_id == found.id)).one()
            doubts.begin(session, found.id, (uuid, host), [left, chosen], self._name)
        self._scheduler.release_all(session, uuid, keep=host)
        faults.record(session, uuid, found.id, Fault(code=ActionUnknown.__name__, message=text, host=self._name))
        _tell(session, found.id)
        LOG.error("Action %s: %s", found.id, text)


def _tell(session: Session, action_id: str) -> None:
    """Tell of the end, unless the rows hold what only another release can read."""
    with contextlib.suppress(*_ODD):
        action = session.get_one(models.Action, action_id)
        instance = session.get_one(models.Instance, action.instance_uuid)
        migration = migration_of(session, action_id)
        if migration is not None and migration.status is MigrationStatus.ERROR:
            notices.migration(session, migration)
        notices.action(session, action, instance)


def _change(session: Session, statement: Any) -> int:
    return int(session.execute(statement.execution_options(synchronize_session=False)).rowcount)  # type: ignore[attr-defined]
