"""Explains an instance: reads what is known of it, and asks the hosts that may have its guest."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
import oslo_messaging
from oslo_config import cfg
from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from minova.conductor.doubts import unclear_hosts
from minova.conductor.explanation import Case, complete, given_up_at
from minova.conductor.listening import Listening
from minova.conductor.machine import Machine
from minova.conductor.reconcile import left_behind, moved_strangely
from minova.conductor.tasks import Services, Task
from minova.conductor.tasks.live_migrate import LiveMigrationTask
from minova.conductor.tasks.step import Kind
from minova.conductor.wording import say
from minova.context import RequestContext, working_for
from minova.db import convert, models
from minova.db.queries import COMPUTE, CONDUCTOR, instance_as_written
from minova.db.readable import as_written
from minova.db.session import Database, persistent
from minova.exception import ActionUnknown, DatabaseError, MinovaError
from minova.objects import (
    ExplainedAction,
    Explanation,
    Fault,
    GuestReport,
    Hop,
    HostWord,
    MigrationProgress,
    utcnow,
)
from minova.states import OPEN_ACTION, ActionStatus, HostState, MigrationStatus

_ROUNDS = 2
"""How often the hosts are asked, if an action goes on meanwhile: what they said was of another step."""

_MIGRATIONS = 5
"""How many migrations are looked at, newest first."""

_CLEAN = (MigrationStatus.COMPLETED, MigrationStatus.FAILED, MigrationStatus.CANCELLED)

Answers = Mapping[str, GuestReport | str]
"""Host to what it said, or why it did not."""


class Inquiry:
    """Finds out how things stand with an instance. It changes nothing."""

    def __init__(
        self, conf: cfg.ConfigOpts, database: Database, services: Services, machine: Machine, listening: Listening
    ) -> None:
        """Read from ``database``, and ask by the client of ``services``; ``machine`` knows the tasks."""
        self._conf = conf
        self._database = database
        self._compute = services.compute
        self._machine = machine
        self._listening = listening

    def explain(self, ctxt: RequestContext, reference: str) -> Explanation:
        """Explain an instance by UUID (a deleted one too) or name. :raises InstanceNotFound: :raises AmbiguousName:"""
        case = self._read(reference, {})
        for _ in range(_ROUNDS):
            asked, hosts = case.known, [word.host for word in case.known.hosts if word.state is HostState.UP]
            # What is read after they have answered is not older than what they said.
            case = self._read(asked.uuid, self._ask(ctxt, asked.uuid, hosts))
            if _stage(case.known) == _stage(asked):
                break
        return complete(case)

    def _ask(self, ctxt: RequestContext, uuid: str, hosts: Sequence[str]) -> Answers:
        """Ask hosts, all at once: however many do not answer, it takes no longer than if one does not."""
        if not hosts:
            return {}
        with ThreadPoolExecutor(len(hosts), thread_name_prefix="inquiry") as pool:
            return dict(zip(hosts, pool.map(lambda host: self._ask_host(ctxt, host, uuid), hosts), strict=True))

    def _ask_host(self, ctxt: RequestContext, host: str, uuid: str) -> GuestReport | str:
        with working_for(ctxt):
            try:
                return self._compute.get_guest(ctxt, host, uuid)
            except MinovaError as error:
                return error.message
            except oslo_messaging.MessagingException as error:
                return str(error)

    @persistent
    def _read(self, reference: str, answers: Answers) -> Case:
        with self._database.read() as session:
            row = instance_as_written(session, reference)
            action = _action(session, row.uuid)
            task, unknown = self._task(session, action)
            words = tuple(self._word(session, host, answers) for host in _hosts(session, row, action))
            fields = {name: getattr(row, name) for name in ("uuid", "name", "host", "vm_state", "task_state")}
            known = Explanation(**fields, power_state=row.power_state, explained_at=utcnow(), action=None, hosts=words)
            case = Case(
                conf=self._conf,
                known=known,
                task=task,
                unknown=unknown,
                stale=_stale(session, row.uuid, [word.host for word in words]),
                unclear=tuple(unclear_hosts(session, row.uuid)),
                fault=_newest_fault(session, row.uuid),
                progress=_progress(session, task),
            )
            return replace(case, known=replace(known, action=self._explained(session, case, action)))

    def _explained(self, session: Session, case: Case, row: Row[Any] | None) -> ExplainedAction | None:
        if row is None:
            return None
        task = case.task
        running = task.current if task is not None and task.action.status in OPEN_ACTION else None
        copied = ("id", "verb", "status", "attempt", "owner", "waits_for", "lease_expires_at")
        ends = ("cancel_requested", "error", "submitted_at", "finished_at")
        since, attempted_at = _times(session, row)
        heard_at = max(row.heard_at, self._listening.since)
        return ExplainedAction(
            **{name: getattr(row, name) for name in (*copied, *ends)},
            step=running.name if running is not None else row.step,
            undoes=row.step if row.status == ActionStatus.UNDOING else "",
            since=since,
            attempted_at=attempted_at,
            owner_seen_at=_seen_at(session, row.owner),
            any_conductor=running is not None and running.kind is Kind.ORDER,
            heard_at=heard_at,
            given_up_at=given_up_at(case, row.waits_for, heard_at, row.lease_expires_at),
        )

    def _task(self, session: Session, action: Row[Any] | None) -> tuple[Task | None, str]:
        """Return the task of an action that runs, or why this release does not know it."""
        if action is None or action.finished_at is not None:
            return None, ""
        try:
            return self._machine.load(session, session.get_one(models.Action, action.id)), ""
        except (ActionUnknown, DatabaseError) as error:
            return None, error.message

    def _word(self, session: Session, host: str, answers: Answers) -> HostWord:
        now, service, answer = utcnow(), session.get(models.Service, (COMPUTE, host)), answers.get(host, "")
        state = convert.service_state(service, now, self._conf.service_down_time) if service is not None else None
        word = HostWord(
            host=host,
            state=state,
            last_seen_at=service.last_seen_at if service is not None else None,
            said="",
            report=answer if isinstance(answer, GuestReport) else None,
        )
        return replace(word, said=say(word, now, answer if isinstance(answer, str) else ""))


def _stage(known: Explanation) -> tuple[object, ...]:
    """Return what changes when an action goes on."""
    action = known.action
    return (known.host, action and (action.id, action.status, action.step, action.attempt))


def _action(session: Session, instance_uuid: str) -> Row[Any] | None:
    """Return the action that runs on an instance, or the last one that ran, whatever release began it."""
    row = models.Action
    query = select(*as_written(row)).where(row.instance_uuid == instance_uuid)
    return session.execute(query.order_by(row.finished_at.is_(None).desc(), row.submitted_at.desc()).limit(1)).first()


def _hosts(session: Session, instance: Row[Any], action: Row[Any] | None) -> list[str]:
    """Return the hosts that may have a guest, each once: where it lives first, and then where it may have been left."""
    named = [instance.host, *_hosts_of_action(action), *_hosts_of_migrations(session, instance.uuid)]
    return list(dict.fromkeys(host for host in named if host))


def _hosts_of_action(action: Row[Any] | None) -> Iterator[str | None]:
    if action is not None:
        yield action.waits_for
        yield from (action.data.get(which) for which in ("source", "destination"))
        yield from action.data.get("fenced", ())


def _hosts_of_migrations(session: Session, instance_uuid: str) -> Iterator[str]:
    row = models.Migration
    query = select(*as_written(row)).where(row.instance_uuid == instance_uuid).order_by(row.created_at.desc())
    for index, migration in enumerate(session.execute(query.limit(_MIGRATIONS))):
        # The last one counts however it ended: an evacuation leaves a copy.
        if index == 0 or migration.status not in _CLEAN:
            yield from (migration.source_host, migration.dest_host)


def _stale(session: Session, instance_uuid: str, hosts: Sequence[str]) -> frozenset[str]:
    """Return the hosts whose copies of a guest are told to be destroyed."""
    try:
        row = session.get_one(models.Instance, instance_uuid)
    except DatabaseError:
        return frozenset()
    if moved_strangely(session, row):
        return frozenset()
    return frozenset(host for host in hosts if host != row.host and left_behind(session, row, host))


def _newest_fault(session: Session, instance_uuid: str) -> Fault | None:
    row = models.InstanceFault
    found = session.scalars(select(row).where(row.instance_uuid == instance_uuid).order_by(row.id.desc()).limit(1))
    newest = found.first()
    return convert.fault(newest) if newest is not None else None


def _progress(session: Session, task: Task | None) -> MigrationProgress | None:
    """Return how far a live migration was last; None: there is none, or its source is not at it."""
    if task is None or task.current is not LiveMigrationTask.migrate:
        return None
    row = models.Migration
    found = session.scalar(select(row.progress).where(row.action_id == task.action.id))
    return msgspec.convert(found, MigrationProgress) if found else None


def _times(session: Session, action: Row[Any]) -> tuple[datetime, datetime]:
    """Return when an action's step was begun, and when its attempt was: what was last done before."""
    row = models.ActionEvent
    ended = select(row.finished_at).where(row.action_id == action.id).order_by(row.id.desc()).limit(1)
    attempted_at = session.scalars(ended).first()
    since = session.scalars(ended.where(row.hop != Hop.TAKEOVER)).first()
    return since or action.submitted_at, attempted_at or action.submitted_at


def _seen_at(session: Session, owner: str) -> datetime | None:
    """Return when the conductor service was last heard that an owner is a process of."""
    service = session.get(models.Service, (CONDUCTOR, owner.rpartition("/")[0]))
    return service.last_seen_at if service is not None else None
