"""What operators say of hosts, services and instances: enable, fence, drain, reset."""

import logging
from datetime import timedelta

from sqlalchemy import and_, null, or_, select, update
from sqlalchemy.orm import Session, aliased

from minova.conductor import doubts, faults, notices
from minova.conductor.engine import Engine
from minova.conductor.tasks import Services
from minova.context import RequestContext
from minova.db import models
from minova.db.queries import (
    COMPUTE,
    CONDUCTOR,
    find_instance,
    find_node,
    find_service,
    instances_on,
    migration_of,
    open_action,
)
from minova.db.session import Database, LostRace
from minova.exception import HostEvacuating, InstanceBusy, InvalidInput, MinovaError
from minova.notifications.payloads import ServiceChange
from minova.objects import Fault, utcnow
from minova.states import (
    OPEN_ACTION,
    OPERATIONS,
    ActionStatus,
    PowerState,
    Verb,
    VmState,
)

LOG = logging.getLogger(__name__)

_MOVES = (Verb.LIVE_MIGRATE, Verb.MIGRATE, Verb.EVACUATE)


class Administration:
    """Changes that are no operations on guests."""

    def __init__(self, database: Database, services: Services, engine: Engine) -> None:
        """Work on ``database``; what has to be moved is moved by ``engine``."""
        self._database = database
        self._services = services
        self._engine = engine

    def set_enabled(self, host: str, enabled: bool, reason: str) -> None:
        """Let a host be scheduled to, or not. :raises ServiceNotFound:"""
        self._database.write(self._set_enabled, host, enabled, reason)

    def set_forced_down(self, host: str, forced_down: bool) -> str:
        """Write down that the operator vouches for a host being off, or take that back.

        A conductor is off with its host; that is forgotten once it is heard again, for its actions have been taken over
        all the same.

        :returns: the binary of what was changed: the compute if the host has one.
        :raises ServiceNotFound: there is no compute, and no conductor that is silent.
        :raises HostEvacuating: it cannot be taken back while guests that it may have are being made anew elsewhere.
        """
        return self._database.write(self._set_forced_down, host, forced_down)

    def drain(self, ctxt: RequestContext, host: str) -> list[str]:
        """Let a host take no more instances and move those that it has; return the ids of the actions.

        An instance that cannot be moved now stays, and gets a fault that says why. One that is on its way already is
        moved by the action that is there.

        :raises HostNotFound:
        """
        guests = self._database.write(self._set_draining, host, True)
        return [action for uuid, state in guests for action in self._move_away(ctxt, host, uuid, state)]

    def undrain(self, host: str) -> None:
        """Let a host take instances again. :raises HostNotFound:"""
        self._database.write(self._set_draining, host, False)

    def reset_state(self, reference: str, state: VmState) -> str:
        """Set an instance's state by hand and end what runs on it; return its UUID.

        Its host is told with its next report, and does what it has begun by then.

        :raises InvalidInput: a state that needs a guest, and the instance has none.
        :raises InstanceBusy: it is on its way to another host, and nobody could say where its guest is.
        """
        return self._database.write(self._reset_state, reference, state)

    def _set_enabled(self, session: Session, host: str, enabled: bool, reason: str) -> None:
        _exclude_claims(session, host)
        change = ServiceChange.ENABLED if enabled else ServiceChange.DISABLED
        _set(session, COMPUTE, host, change, enabled=enabled, disabled_reason="" if enabled else reason)

    def _set_forced_down(self, session: Session, host: str, forced_down: bool) -> str:
        _exclude_claims(session, host)
        # An evacuation that begins now has this locked until it can be seen.
        compute = session.get(models.Service, (COMPUTE, host), with_for_update=True)
        if not forced_down:
            # First, for an operation that begins now has the instance locked until it can be seen.
            doubts.reopen(session, host)
            _require_none_made_anew(session, host)
        change = ServiceChange.FORCED_DOWN if forced_down else ServiceChange.FORCED_DOWN_UNSET
        off = [COMPUTE]
        if self._is_silent_conductor(session, host):
            off = [CONDUCTOR] if compute is None else [COMPUTE, CONDUCTOR]
        for binary in off:
            _set(session, binary, host, change, forced_down=forced_down)
        return off[0]

    def _is_silent_conductor(self, session: Session, host: str) -> bool:
        conductor = session.get(models.Service, (CONDUCTOR, host))
        patience = timedelta(seconds=self._services.conf.service_down_time)
        return conductor is not None and conductor.last_seen_at < utcnow() - patience

    def _set_draining(self, session: Session, host: str, draining: bool) -> list[tuple[str, VmState]]:
        _exclude_claims(session, host)
        find_node(session, host)
        change = ServiceChange.DRAINED if draining else ServiceChange.UNDRAINED
        _set(session, COMPUTE, host, change, draining=draining)
        return [(row.uuid, row.vm_state) for row in instances_on(session, host)]

    def _move_away(self, ctxt: RequestContext, host: str, uuid: str, state: VmState) -> list[str]:
        alive = state in OPERATIONS[Verb.LIVE_MIGRATE].allowed
        try:
            if alive:
                args: dict[str, object] = {"destination": None, "options": {}}
                return [self._engine.submit(ctxt, Verb.LIVE_MIGRATE, uuid, args)]
            return [self._engine.submit(ctxt, Verb.MIGRATE, uuid, {"destination": None})]
        except MinovaError as error:
            return self._database.write(self._take_refusal, host, uuid, error.message)

    def _take_refusal(self, session: Session, host: str, uuid: str, why: str) -> list[str]:
        """Record that an instance stays, unless it has left or is on its way, as if a request to drain came twice.

        Returns the id of the action that moves it, if one does.
        """
        action, instance = models.Action, models.Instance
        moving = select(action.id).where(action.instance_uuid == uuid, action.verb.in_(_MOVES))
        found = list(session.scalars(moving.where(action.status.in_(OPEN_ACTION))))
        if not found and session.scalar(select(instance.host).where(instance.uuid == uuid)) == host:
            self._record_stays(session, uuid, why)
        return found

    def _record_stays(self, session: Session, uuid: str, why: str) -> None:
        LOG.warning("Instance %s stays on a host that is drained", uuid)
        message = f"it stays on a host that is drained: {why}"
        faults.record(session, uuid, None, Fault(code="NotDrained", message=message, host=self._engine.name))

    def _reset_state(self, session: Session, reference: str, state: VmState) -> str:
        row = find_instance(session, reference)
        # No action may begin or end between this look and the next one.
        session.refresh(row, with_for_update=True)
        if row.host is None and state is not VmState.ERROR:
            raise InvalidInput(reason=f"instance {row.name} has no guest on any host: it cannot be {state}")
        action = open_action(session, row.uuid)
        if action is not None:
            self._end(session, row, action, state)
        else:
            old = row.vm_state
            if not _swap_state(session, row, state):
                raise LostRace
            notices.instance_updated(session, row, old, "an operator reset it")
        self._services.scheduler.release_all(session, row.uuid, keep=row.host)
        return row.uuid

    def _end(self, session: Session, row: models.Instance, action: models.Action, state: VmState) -> None:
        if migration_of(session, action.id) is not None:
            raise InstanceBusy(instance=row.name, task_state=str(row.task_state), action=action.id)
        action.error = "the operator reset the instance's state"
        self._engine.machine.close(session, self._engine.machine.load(session, action), ActionStatus.FAILED, state)
        # Now, so that a conductor that is at the same action makes this transaction run again.
        session.flush()


def _set(session: Session, binary: str, host: str, change: ServiceChange, **values: object) -> None:
    """Write down what an operator says of a service, and tell of it unless it was so already."""
    service = find_service(session, binary, host)
    before = {name: getattr(service, name) for name in values}
    for name, value in values.items():
        setattr(service, name, value)
    if before != values:
        notices.service(session, service, change)


def _exclude_claims(session: Session, host: str) -> None:
    """Make every claim that has read what is about to change decide again; to be done before anything is read."""
    node = update(models.ComputeNode).where(models.ComputeNode.host == host)
    change = node.values(generation=models.ComputeNode.generation + 1)
    session.execute(change.execution_options(synchronize_session=False))


def _require_none_made_anew(session: Session, host: str) -> None:
    """Check that no guest is made anew because a host is off: one of its own elsewhere, or one that may be there.

    :raises HostEvacuating: one is.
    """
    action, own, doubt, instance = models.Action, models.Migration, aliased(models.Migration), models.Instance
    # A host that was off needed not be heard, and may have what no other has.
    open_or_lost = or_(doubt.unclear_since.is_not(None), instance.power_state == PowerState.NOSTATE)
    of_the_same = and_(doubt.instance_uuid == instance.uuid, doubt.unclear_hosts.is_not(null()), open_or_lost)
    query = select(action.id).join(instance, instance.uuid == action.instance_uuid)
    query = query.outerjoin(own, own.action_id == action.id).outerjoin(doubt, of_the_same)
    making = query.where(
        action.verb.in_((Verb.EVACUATE, Verb.REBUILD)),
        # One that only a newer release knows may be open.
        action.status.not_in(frozenset(ActionStatus) - OPEN_ACTION),
        or_(own.source_host == host, doubt.source_host == host, doubt.dest_host == host),
    )
    found = session.scalars(making).first()
    if found is not None:
        raise HostEvacuating(host=host, action=found)


def _swap_state(session: Session, row: models.Instance, state: VmState) -> bool:
    """Set the state of an instance on which nothing runs; return whether it was still so."""
    swap = update(models.Instance).where(
        models.Instance.uuid == row.uuid,
        models.Instance.task_state.is_(None),
        models.Instance.updated_at == row.updated_at,
    )
    change = swap.values(vm_state=state, updated_at=utcnow()).execution_options(synchronize_session="evaluate")
    return bool(session.execute(change).rowcount)  # type: ignore[attr-defined]
