"""Moves that ended in doubt: nobody could say on which host the guest is, or whether it is still on its way.

Until its hosts were heard, nothing is begun that might make a second guest. They are heard in turn, since one that has
not got the guest may still get it from the other: first the one where the instance lives, so that the guest does not
leave it any more, then the other, to see whether it has come there. If it has not, it is where the instance lives, or
nowhere. Whoever says that something is still under way is heard again.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Row, null, or_, select, update
from sqlalchemy.orm import Session

from minova.conductor import faults
from minova.db.models import Instance, Migration, Service
from minova.db.queries import COMPUTE, find_service
from minova.db.readable import readable
from minova.exception import HostAlive
from minova.exception_moves import PlaceUnclear
from minova.objects import Fault, utcnow
from minova.states import PowerState, Verb


def begin(session: Session, action_id: str, instance: tuple[str, str | None], hosts: Sequence[str], told: str) -> None:
    """Write down that an action's migration has ended in doubt; nothing, if there are no hosts to be heard.

    :param instance: its UUID, and the host on which it is taken to live.
    :param told: the service that says so.
    """
    uuid, home = instance
    turns = sorted(hosts, key=lambda host: host != home)
    if not turns:
        return
    its = update(Migration).where(Migration.action_id == action_id).values(unclear_hosts=turns, unclear_since=utcnow())
    session.execute(its.execution_options(synchronize_session=False))
    message = f"nobody could tell where its guest is: these hosts have to be heard: {', '.join(turns)}"
    faults.record(session, uuid, action_id, Fault(code=PlaceUnclear.__name__, message=message, host=told))


def settle(session: Session, instance_uuid: str) -> None:
    """Write down that an operation has made certain where an instance's guest is."""
    its = update(Migration).where(Migration.instance_uuid == instance_uuid, Migration.unclear_since.is_not(None))
    settled = its.values(unclear_hosts=[], unclear_since=None)
    session.execute(settled.execution_options(synchronize_session=False))


def reopen(session: Session, host: str) -> None:
    """Write down that a host that was off has to be heard again: of guests that nobody has, it may have some.

    An operation that begins on one of them has read that nothing is in doubt, and changes no more than its instance: so
    that is changed here too, for one of the two to see the other.
    """
    lost = select(Migration.uuid, Instance.uuid).join(Instance, Instance.uuid == Migration.instance_uuid)
    settled = (Migration.unclear_hosts.is_not(null()), Migration.unclear_since.is_(None))
    its = or_(Migration.source_host == host, Migration.dest_host == host)
    found = session.execute(lost.where(its, *settled, Instance.power_state == PowerState.NOSTATE)).all()
    for move, instance in sorted(found, key=lambda row: row[1]):
        changed = update(Instance).where(Instance.uuid == instance).values(updated_at=utcnow())
        session.execute(changed.execution_options(synchronize_session=False))
        again = update(Migration).where(Migration.uuid == move, *settled)
        opened = again.values(unclear_hosts=[host], unclear_since=utcnow())
        session.execute(opened.execution_options(synchronize_session=False))


def unclear_hosts(session: Session, instance_uuid: str) -> list[str]:
    """Return the hosts that have to be heard before it is known where an instance's guest is, in that order."""
    its = (Migration.instance_uuid == instance_uuid, Migration.unclear_since.is_not(None))
    lists = session.scalars(select(Migration.unclear_hosts).where(*its).order_by(Migration.created_at))
    return list(dict.fromkeys(host for hosts in lists for host in hosts or ()))


def require_none(session: Session, verb: Verb, row: Instance, down_time: float) -> None:
    """Check that it is known where an instance's guest is: on a host that is off, and known to be, none counts.

    :raises PlaceUnclear: hosts have to be heard.
    :raises HostAlive: a host that is said to be off is not silent.
    """
    its = (Migration.instance_uuid == row.uuid, Migration.unclear_since.is_not(None))
    for action_id, hosts in session.execute(select(Migration.action_id, Migration.unclear_hosts).where(*its)):
        # Locked, for the operator's word has to hold until all can see what is begun because of it.
        services = [find_service(session, COMPUTE, host, lock=True) for host in sorted(hosts or ())]
        unclear = [service for service in services if not service.forced_down]
        if unclear:
            # Those that are up will be heard in a moment.
            named = [each.host for each in unclear if _heard_ago(each) > down_time] or [each.host for each in unclear]
            raise PlaceUnclear(instance=row.name, verb=verb, action=action_id, hosts=named)
        for service in services:
            require_silent(service, down_time)


def require_silent(service: Service, down_time: float) -> None:
    """Check that a host that is said to be off was not heard for ``down_time`` seconds. :raises HostAlive:"""
    heard_ago = _heard_ago(service)
    if heard_ago <= down_time:
        raise HostAlive(host=service.host, heard_ago=round(heard_ago, 1), down_time=down_time)


def waiting_for(session: Session, host: str, heard_before: datetime) -> Sequence[Row[Migration, Instance]]:
    """Return the moves in doubt, with their instances at rest, on which a host's report bears.

    :param heard_before: when the host was heard before that report; the doubt has to be older.
    """
    query = (
        select(Migration, Instance)
        .join(Instance, Instance.uuid == Migration.instance_uuid)
        .where(or_(Migration.source_host == host, Migration.dest_host == host), Migration.unclear_since < heard_before)
        .where(Instance.task_state.is_(None), readable(Migration), readable(Instance))
    )
    return session.execute(query.order_by(Migration.created_at)).all()


def turns_after(session: Session, move: Migration, host: str, down_time: float) -> list[str]:
    """Return the hosts that have to be heard once ``host`` was; one that is off needs not be."""
    assert move.unclear_hosts, "it is in doubt"
    first, *others = move.unclear_hosts
    service = find_service(session, COMPUTE, first)
    if service.forced_down:
        # Locked, for who takes it back has to find what is written because of it.
        session.refresh(service, with_for_update=True)
    off = service.forced_down and _heard_ago(service) > down_time
    return others if off or first == host else [first, *others]


def leave(session: Session, move: Migration, turns: list[str]) -> bool:
    """Write down the hosts that are left, unless another conductor did just now; return whether that is so."""
    its = update(Migration).where(Migration.uuid == move.uuid, Migration.unclear_since == move.unclear_since)
    change = its.values(unclear_hosts=turns, unclear_since=utcnow() if turns else None)
    if not session.execute(change.execution_options(synchronize_session=False)).rowcount:  # type: ignore[attr-defined]
        return False
    session.refresh(move)
    return True


def _heard_ago(service: Service) -> float:
    return (utcnow() - service.last_seen_at).total_seconds()
