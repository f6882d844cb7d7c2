"""Leases: how an action whose owner is gone finds another."""

import logging
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

from oslo_config import cfg
from sqlalchemy import ColumnElement, or_, true, update
from sqlalchemy.orm import Session

from minova.conductor import foreign, trace
from minova.conductor.engine import Engine
from minova.conductor.listening import Listening
from minova.conductor.tasks import Task
from minova.context import working_for
from minova.db import convert, models
from minova.db.queries import COMPUTE, waits_for_none_that_is_fenced
from minova.db.session import Database, persistent
from minova.exception import HostUnusable, PeerSilent
from minova.objects import Fault, Hop, Result, utcnow
from minova.states import OPEN_ACTION, HostState

LOG = logging.getLogger(__name__)


class Leases:
    """Renews the leases of what is being worked on, and takes over actions whose lease has run out."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database, engine: Engine, listening: Listening) -> None:
        """Serve ``engine``; ``listening`` tells whose silence is one."""
        self._conf = conf
        self._database = database
        self._engine = engine
        self._listening = listening
        self._lock = threading.Lock()
        self._handed_over = False
        self._foreign = foreign.ForeignActions(conf, database, engine.name)

    def renew(self) -> None:
        """Renew the leases of the actions that this conductor's threads are working on.

        Not without the broker: whoever has it shall take them over. Who is later with a step is not listened to. And
        not of what a compute was asked too long ago, though its process still says that it is at it: that is given up
        as an order is.
        """
        if self._listening.is_deaf():
            return
        with self._lock:
            active = [] if self._handed_over else self._engine.active_actions()
            if active:
                self._database.write(self._renew, active)

    def renew_orders(self, orders: Sequence[tuple[str, int]]) -> None:
        """Renew the leases of the actions whose orders a compute says it holds: (action id, sequence) each."""
        self._listening.heard()
        if orders:
            self._database.write(self._renew_orders, orders)

    def sweep(self) -> None:
        """Take over actions whose lease has run out, and run their current step again.

        Without the broker it could do nothing for them but keep them from conductors that have it. Without a database
        that takes what computes tell, it would take them for silent.
        """
        if self._listening.is_cut_off():
            return
        found = self._find(models.Action.lease_expires_at < utcnow(), enough=foreign.BATCH)
        self._foreign.look_after(found, self._listening.since)
        for action_id, sequence in foreign.known(found)[: foreign.BATCH]:
            # Not locked for long: leases have to be renewed meanwhile.
            with self._lock:
                if not self._handed_over:
                    self._take_over(action_id, sequence)

    def host_returned(self, host: str, held: Sequence[tuple[str, int]]) -> None:
        """Have the next sweep send a compute that has returned what it was sent before, and does not hold any more.

        Not at once: the compute waits for the answer to its report, however many they are.
        """
        self._database.write(self._let_expire, host, held)

    def hand_over(self) -> None:
        """Let go of the actions whose steps are not done yet, so that another conductor does them at once.

        A step that is done here all the same is done twice at worst, for its sequence number tells who has it.
        """
        with self._lock:
            # The timers still go, and must not take back what is let go of here.
            self._handed_over = True
            left = self._engine.active_actions()
            if left:
                self._database.write(self._hand_over, left)

    @persistent
    def _find(self, condition: ColumnElement[bool], *, enough: int) -> list[foreign.Found]:
        with self._database.read() as session:
            return foreign.open_actions(session, condition, enough=enough)

    def _take_over(self, action_id: str, sequence: int) -> None:
        """Take over one action; whatever is wrong with it does not keep others from being taken over."""
        try:
            task = self._database.write(self._resume, action_id, sequence)
        except Exception:
            LOG.exception("Action %s could not be taken over", action_id)
            return
        if task is not None:
            with working_for(task.ctxt):
                LOG.info("Action %s: taken over at %s", action_id, task.action.step)
            self._engine.carry_on(task)

    def _resume(self, session: Session, action_id: str, sequence: int) -> Task | None:
        """Make an action ours, unless somebody was faster or its host has to be waited for."""
        action = session.get(models.Action, action_id)
        if action is None or action.status not in OPEN_ACTION or action.sequence != sequence:
            return None
        now = utcnow()
        if action.lease_expires_at >= now:
            # It was renewed just now.
            return None
        if self._listening.is_cut_off():
            # Only since the sweep began: the database was away meanwhile, and nobody could renew anything.
            return None
        if action.waits_for is not None:
            state = self._host_state(session, action.waits_for, now)
            if state is HostState.DOWN or self._is_overdue(action, now):
                return self._fail(session, action, state)
            if state is HostState.UNKNOWN:
                # Nobody is there to take an order: it would only pile up in the queue. The host's return is noticed.
                action.lease_expires_at = now + timedelta(seconds=self._conf.conductor.lease)
                return None
        return self._restart(session, action)

    def _restart(self, session: Session, action: models.Action) -> Task:
        previous = action.owner
        # Sent again, it must not come too late.
        action.heard_at = self._heard_at(action)
        self._engine.machine.touch(action)
        action.attempt += 1
        trace.add(session, action, Hop.TAKEOVER, self._engine.name, utcnow(), message=f"from {previous}")
        task = self._engine.machine.load(session, action)
        self._engine.machine.proceed(session, task)
        return task

    def _fail(self, session: Session, action: models.Action, state: HostState) -> Task:
        """Fail a step whose host is fenced, or was not heard for too long."""
        task, host = self._engine.machine.load(session, action), str(action.waits_for)
        patience = self._conf.conductor.unresponsive_timeout
        silent = PeerSilent(peer=f"compute on {host}", seconds=patience)
        error = HostUnusable(host=host, reason="it was forced down") if state is HostState.DOWN else silent
        # A host that is fenced is as silent as one that does not answer: tasks treat both alike.
        fault = Fault(code=PeerSilent.__name__, message=error.message, host=self._engine.name)
        step = task.current.name if task.current is not None else action.step
        trace.add(
            session,
            action,
            Hop.CAST,
            self._engine.name,
            action.heard_at,
            Result.FAILED,
            step=step,
            message=error.message,
        )
        self._engine.machine.fail(session, task, fault)
        return task

    def _host_state(self, session: Session, host: str, now: datetime) -> HostState:
        service = session.get(models.Service, (COMPUTE, host))
        if service is None:
            return HostState.UNKNOWN
        return convert.service_state(service, now, self._conf.service_down_time)

    def _is_overdue(self, action: models.Action, now: datetime) -> bool:
        return self._heard_at(action) < self._oldest(now)

    def _oldest(self, now: datetime) -> datetime:
        """Return when a compute has to have been heard last, for patience with it not to have run out."""
        return now - timedelta(seconds=self._conf.conductor.unresponsive_timeout)

    def _heard_at(self, action: models.Action) -> datetime:
        """Return from when on a compute has been silent: not while this conductor could not hear it."""
        return max(action.heard_at, self._listening.since)

    def _renew(self, session: Session, active: Sequence[str]) -> None:
        mine = models.Action.owner == self._engine.owner
        its = (models.Action.id.in_(active), mine, waits_for_none_that_is_fenced(), self._is_waited_for())
        query = update(models.Action).where(*its).values(lease_expires_at=self._expiry())
        session.execute(query.execution_options(synchronize_session=False))

    def _is_waited_for(self) -> ColumnElement[bool]:
        """Return the condition that there is patience left with whatever an action waits for."""
        oldest = self._oldest(utcnow())
        if self._listening.since >= oldest:
            return true()
        return or_(models.Action.waits_for.is_(None), models.Action.heard_at >= oldest)

    def _renew_orders(self, session: Session, orders: Sequence[tuple[str, int]]) -> None:
        for action_id, sequence in orders:
            query = update(models.Action).where(
                models.Action.id == action_id,
                models.Action.sequence == sequence,
                models.Action.status.in_(OPEN_ACTION),
                waits_for_none_that_is_fenced(),
            )
            renewed = query.values(lease_expires_at=self._expiry(), heard_at=utcnow())
            session.execute(renewed.execution_options(synchronize_session=False))

    def _let_expire(self, session: Session, host: str, held: Sequence[tuple[str, int]]) -> None:
        row, now = models.Action, utcnow()
        its = (row.waits_for == host, row.status.in_(OPEN_ACTION), row.lease_expires_at > now)
        over = update(row).where(*its).values(lease_expires_at=now)
        session.execute(over.execution_options(synchronize_session=False))
        self._renew_orders(session, held)

    def _hand_over(self, session: Session, left: Sequence[str]) -> None:
        mine = models.Action.owner == self._engine.owner
        query = update(models.Action).where(models.Action.id.in_(left), mine)
        session.execute(query.values(lease_expires_at=utcnow()).execution_options(synchronize_session=False))

    def _expiry(self) -> datetime:
        return utcnow() + timedelta(seconds=self._conf.conductor.lease)
