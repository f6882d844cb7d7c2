"""What all tasks have in common. A task is read from top to bottom: its steps run in the order they are written."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar

from oslo_config import cfg
from sqlalchemy.orm import Session

from minova.compute.rpcapi import ComputeAPI
from minova.conductor import moves, notices
from minova.conductor.tasks.step import At, Step
from minova.context import RequestContext
from minova.db import convert, models
from minova.db.queries import COMPUTE, migration_of
from minova.exception import HostUnusable, InsufficientResources, InvalidInput, NoGuest, PeerSilent
from minova.objects import Fault, Instance, Order, utcnow
from minova.scheduler.scheduler import Scheduler
from minova.states import ActionStatus, HostState, MigrationEvent, MigrationStatus, MigrationType, Verb


@dataclass(frozen=True, slots=True)
class Services:
    """What tasks work with."""

    conf: cfg.ConfigOpts
    compute: ComputeAPI
    scheduler: Scheduler


def guest_host(task: "Task") -> str | None:
    """Say that a step is for the host that has the guest."""
    return task.instance.host


def destination(task: "Task") -> str | None:
    """Say that a step is for the host that was chosen."""
    return task.action.data.get("destination")


def source(task: "Task") -> str | None:
    """Say that a step is for the host that the guest leaves."""
    return task.action.data.get("source")


def able_to_check(at: At) -> At:
    """Say that a step is for a host, unless hosts are too old to tell beforehand whether they can have a guest."""
    return lambda task: at(task) if task.compute.can_check_spawn() else None


def leaves_open(fault: Fault) -> bool:
    """Return whether a step that failed may have been done all the same: its host fell silent, or had an accident.

    A host that says itself that it could not do the step has not done it.
    """
    return fault.code in (PeerSilent.__name__, HostUnusable.__name__) or bool(fault.details)


class Task:
    """One operation. Subclasses name their verb and add steps.

    Steps, undos and what computes do for them are idempotent: any may run again after a crash. What a step has to
    remember for later ones goes into ``self.action.data``; what a compute reported of a step is ``self.result(step)``.
    """

    verb: ClassVar[Verb]
    version: ClassVar[str] = "1.0"
    """What a conductor has to know to go on with it; an action bears it. Steps, ``args`` and ``data`` that are added
    raise it, so that no conductor of before leaves them out; what takes a step away raises the major version."""
    steps: ClassVar[tuple[Step, ...]]

    def __init__(self, services: Services, action: models.Action, instance: Instance) -> None:
        """Work on ``action``, with ``instance`` as it was when the step began."""
        self.services = services
        self.action = action
        self.instance = instance

    def __init_subclass__(cls) -> None:
        own = [value for value in vars(cls).values() if isinstance(value, Step) and not value.is_undo]
        inherited = getattr(cls, "steps", ())
        cls.steps = (*inherited, *own)

    # What the engine asks of a task.

    @property
    def step(self) -> Step:
        """The step that is in work, or being undone."""
        return self.named(self.action.step)

    @property
    def current(self) -> Step | None:
        """What is to be run now: the step, or on the way back its undo; None: it has no undo."""
        return self.step.undone_by if self.action.status is ActionStatus.UNDOING else self.step

    @property
    def waits_for(self) -> str | None:
        """The host that is to do what is to be run now; None: no host has to."""
        step = self.current
        return step.at(self) if step is not None and step.at is not None else None

    def named(self, name: str) -> Step:
        """Return a step by its name."""
        return next(step for step in self.steps if step.name == name)

    def neighbour(self, step: Step, offset: int) -> Step | None:
        """Return the step that comes ``offset`` after (or, negative, before) ``step``, if there is one."""
        index = self.steps.index(step) + offset
        return self.steps[index] if 0 <= index < len(self.steps) else None

    def check(self, session: Session) -> None:
        """Refuse what makes no sense, before anything is written; by default: the guest's host has to be up.

        :raises MinovaError: why not.
        """
        if self.instance.host is None:
            raise NoGuest(instance=self.instance.name)
        self.require_up(session, self.instance.host)

    def after_failure(self, step: Step, fault: Fault) -> Step | None:
        """Return the step to go on from after ``step`` has failed; None: undo everything.

        An earlier step (or the same): undo down to it and try again. A later one: what was to be done is done.
        """
        return None

    @property
    def unclear_hosts(self) -> list[str]:
        """The hosts on which the guest may be, in the end or still on its way, after the action has failed.

        None, if it is where the instance lives, and nowhere else.
        """
        return []

    def abort(self, step: Step) -> None:
        """Ask whoever works on ``step`` to stop: the action was cancelled or given up; by default it just ends."""

    # What steps use.

    @property
    def compute(self) -> ComputeAPI:
        """The client of the computes."""
        return self.services.compute

    @property
    def ctxt(self) -> RequestContext:
        """The context of the request that the action came from; the thread keeps the one that it has."""
        return RequestContext(user=self.action.user, request_id=self.action.request_id, overwrite=False)

    @property
    def order(self) -> Order:
        """What identifies the step in work to a compute.

        Its deadline is when a conductor will give the step up, so that no compute begins it after that: sending it
        again does not extend it.
        """
        step = self.current
        assert step is not None
        patience = timedelta(seconds=self.services.conf.conductor.unresponsive_timeout)
        return Order(
            action_id=self.action.id,
            instance_uuid=self.instance.uuid,
            step=step.name,
            sequence=self.action.sequence,
            attempt=self.action.attempt,
            sent_at=utcnow(),
            deadline=self.action.heard_at + patience,
        )

    def result(self, step: Step) -> dict[str, Any]:
        """Return what a compute reported when ``step`` was done."""
        found: dict[str, Any] = self.action.data.get("results", {}).get(step.name, {})
        return found

    def was_done(self, step: Step) -> bool:
        """Return whether a compute has reported that it did ``step``."""
        return step.name in self.action.data.get("results", {})

    @property
    def in_doubt(self) -> bool:
        """Whether a step has failed of which nobody could tell if it was done all the same."""
        return "doubt" in self.action.data

    @property
    def home_if_left(self) -> list[str]:
        """Of a move, where its guest is, if something is left that could not be done; else nothing."""
        home = destination(self) if self.action.data.get("past_pivot") else source(self)
        return [home] if home and self.action.data.get("left") else []

    def remember(self, **values: Any) -> None:
        """Keep JSON values for later steps."""
        self.action.data = {**self.action.data, **values}

    def row(self, session: Session) -> models.Instance:
        """Return the instance's row."""
        row = session.get(models.Instance, self.instance.uuid)
        assert row is not None, "instances outlive their actions"
        return row

    def require_up(self, session: Session, host: str) -> None:
        """Check that the service of a host can be counted on.

        :raises HostUnusable: it cannot.
        """
        service = session.get(models.Service, (COMPUTE, host))
        down_time = self.services.conf.service_down_time
        if service is None:
            raise HostUnusable(host=host, reason="no compute service is registered there")
        if convert.service_state(service, utcnow(), down_time) is not HostState.UP:
            reason = "it is forced down" if service.forced_down else f"it was not heard from for {down_time} s"
            raise HostUnusable(host=host, reason=reason)

    def claim_destination(self, session: Session) -> str:
        """Choose a host that has not refused (the one that was asked for, if one was) and take room on it.

        :raises NoValidHost: none has room.
        :raises HostUnusable: the one that was asked for will not do.
        """
        wanted = self.action.args.get("destination")
        if wanted is not None and wanted == self.instance.host:
            raise InvalidInput(reason=f"instance {self.instance.name} is on host {wanted} already: choose another")
        chosen = self.services.scheduler.claim(session, self.instance, wanted, self.refused_by)
        self.remember(source=self.instance.host, destination=chosen)
        return chosen

    def may_try_next_host(self, fault: Fault) -> bool:
        """Return whether another host may be tried after ``fault``, and remember the one that refused.

        Only if the host refused for want of room, the operator did not ask for this very one, and not too many did.
        """
        chosen = destination(self)
        if fault.code != InsufficientResources.__name__ or chosen is None or self.action.args.get("destination"):
            return False
        self.remember(refused_by=[*self.refused_by, chosen])
        allowed: int = self.services.conf.scheduler.max_attempts
        return len(self.refused_by) < allowed

    @property
    def refused_by(self) -> list[str]:
        """The hosts that refused the guest so far."""
        hosts: list[str] = self.action.data.get("refused_by", [])
        return hosts

    def release_destination_room(self, session: Session) -> None:
        """Give back the room that was taken; nothing happens without any."""
        chosen = destination(self)
        if chosen is not None:
            self.services.scheduler.release(session, self.instance.uuid, chosen)

    def release_source_room(self, session: Session) -> None:
        """Give back the room that the guest had where it came from."""
        left = source(self)
        assert left, "a migration has a source"
        self.services.scheduler.release(session, self.instance.uuid, left)

    def record_migration(self, session: Session, kind: MigrationType) -> None:
        """Write down that the instance is about to change its host."""
        now = utcnow()
        left, chosen = source(self), destination(self)
        assert left and chosen, "a migration has a source and a destination"
        row = migration_of(session, self.action.id)
        if row is None:
            row = models.Migration(uuid=self.action.id, action_id=self.action.id, created_at=now, progress={})
            session.add(row)
        row.instance_uuid, row.migration_type = self.instance.uuid, kind
        row.source_host, row.dest_host = left, chosen
        row.status, row.updated_at = MigrationStatus.ACCEPTED, now
        notices.migration(session, row)

    def advance_migration(self, session: Session, event: MigrationEvent) -> None:
        """Write down what happens to the migration; nothing, if it is beyond that already."""
        row = migration_of(session, self.action.id)
        assert row is not None, "it was recorded"
        moves.advance(session, row, event)

    def complete_progress(self, session: Session, last: dict[str, Any]) -> None:
        """Write down that nothing remains to be copied; ``last`` is the progress that the source saw last."""
        row = migration_of(session, self.action.id)
        assert row is not None, "it was recorded"
        progress = {**row.progress, **last}
        row.progress = {**progress, "done_bytes": progress.get("total_bytes", 0), "remaining_bytes": 0}

    def move_to_destination(self, session: Session) -> None:
        """Write down that the guest is at the destination now."""
        self.row(session).host = destination(self)
