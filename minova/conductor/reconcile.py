"""What hosts report, against what the database says: finish, destroy, correct. Silence proves nothing."""

import ipaddress
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from oslo_config import cfg
from sqlalchemy import ColumnElement, and_, not_, null, or_, select, update
from sqlalchemy.orm import Session

from minova.conductor import doubts, faults, notices
from minova.conductor.leases import Leases
from minova.db import convert
from minova.db.models import Action, ComputeNode, Instance, Migration, Service
from minova.db.queries import COMPUTE, instances_on
from minova.db.readable import read_known, readable
from minova.db.session import Database
from minova.notifications.payloads import ServiceChange
from minova.objects import Fault, Guest, HostDirective, HostReport, utcnow
from minova.scheduler.scheduler import Scheduler
from minova.states import (
    OPEN_ACTION,
    OPEN_MIGRATION,
    VM_STATE_OF_POWER,
    ActionStatus,
    MigrationStatus,
    MigrationType,
    PowerState,
    VmState,
)

LOG = logging.getLogger(__name__)

_MOST_ADDRESSES = 32


class Reconciler:
    """Takes the reports of computes."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database, scheduler: Scheduler, leases: Leases) -> None:
        """Work on ``database``; orders that a returned compute has lost are sent again by ``leases``."""
        self._conf = conf
        self._database = database
        self._scheduler = scheduler
        self._leases = leases

    def take(self, report: HostReport) -> HostDirective:
        """Store a report and correct what it shows to be wrong; return what the host has to do."""
        # On its own: whatever goes wrong with a guest, the host has been heard.
        heard_before = self._database.write(_store, report)
        self._leases.renew_orders(report.orders)
        decided_at = utcnow()
        directive = self._database.write(self._judge, report, heard_before)
        if report.started and not directive.fenced:
            self._leases.host_returned(report.host, report.orders)
        return replace(directive, decided_at=decided_at)

    def _judge(self, session: Session, report: HostReport, heard_before: datetime | None) -> HostDirective:
        # Locked, for what follows from it: another conductor may have a report of this host, or an operator fence it.
        service = session.get_one(Service, (COMPUTE, report.host), with_for_update=True)
        fenced, overtaken = service.forced_down, service.report_made_at != report.made_at
        # No evidence: a first report, one that was taken before or has been overtaken, and what a fenced host says.
        since = None if fenced or overtaken else heard_before
        guests = {guest.uuid: guest for guest in report.guests}
        abort: tuple[str, ...] = ()
        if since is not None:
            abort = tuple(_correct_all(session, report.host, guests, since))
            self._clear_up(session, report, guests, since)
        # In any case: the answer may be the one with which the host begins.
        destroy = tuple(self._strangers(session, report.host, guests, since is not None))
        return HostDirective(fenced=fenced, destroy=destroy, abort=abort, over=_over(session, report))

    def _strangers(self, session: Session, host: str, guests: Mapping[str, Guest], believed: bool) -> Iterator[str]:
        """Look at the guests whose instances do not live on the host, and yield those that it has to destroy.

        :param believed: whether the report is evidence of where they are.
        """
        there = Instance.uuid.in_(list(guests))
        unknown = set(guests) - set(session.scalars(select(Instance.uuid).where(there)))
        if unknown:
            LOG.warning("Host %s has guests that are no instances, and are left alone: %s", host, ", ".join(unknown))
        elsewhere = read_known(session, select(Instance).where(there, Instance.host.is_distinct_from(host)), Instance)
        for row in elsewhere.scalars().all():
            if moved_strangely(session, row):
                LOG.warning("Instance %s is moved by a newer release of minova, and left to that", row.uuid)
            elif left_behind(session, row, host):
                yield row.uuid
            elif row.task_state is not None:
                continue
            elif believed and is_lost(row):
                self._adopt(session, row, guests[row.uuid], host)
            else:
                LOG.warning("Host %s has a guest of instance %s, which lives on %s", host, row.uuid, row.host)

    def _clear_up(
        self, session: Session, report: HostReport, guests: Mapping[str, Guest], heard_before: datetime
    ) -> None:
        """Take what a host says of guests whose move has ended in doubt, unless it is still at it.

        What a newer release has moved since is left to that.
        """
        host, held = report.host, {action_id for action_id, _sequence in report.orders}
        for move, row in doubts.waiting_for(session, host, heard_before):
            guest = guests.get(row.uuid)
            still = move.action_id in held or (guest is not None and guest.migrating_to is not None)
            if still or moved_strangely(session, row):
                continue
            if guest is None or row.host == host or not left_behind(session, row, host):
                self._hear(session, move, row, guest, host)

    def _hear(self, session: Session, move: Migration, row: Instance, guest: Guest | None, host: str) -> None:
        """Note that a host has said whether it has a guest; if that was all that was open, say where it is."""
        before = move.unclear_hosts or []
        if host not in before and host != row.host:
            # Whether it has the guest was never the question, whoever is off.
            return
        turns = doubts.turns_after(session, move, host, self._conf.service_down_time)
        if guest is not None and row.host == host:
            _find_at_home(session, row, guest, host)
            if guest.power_state is PowerState.RUNNING and move.migration_type is not MigrationType.EVACUATION:
                # What has been handed over does not run here.
                turns = []
        elif guest is not None and not turns and not self._adopt(session, row, guest, host):
            return
        elif guest is None and row.host == host and not is_lost(row):
            # Until that is written, what others have would count as left behind.
            return
        elif guest is None and not turns and row.host != host and row.vm_state is VmState.ERROR and not is_lost(row):
            # Its own host has not shown it, being off: if that has it after all, this is news.
            _swap(session, row, f"host {host} has it not, and host {row.host} is off", PowerState.NOSTATE)
        if turns != before and doubts.leave(session, move, turns):
            LOG.info("Instance %s: %s was heard; still to be heard: %s", row.uuid, host, ", ".join(turns) or "none")

    def _adopt(self, session: Session, row: Instance, guest: Guest, host: str) -> bool:
        """Write down that a guest that its own host has not is here, with its room; return whether that was done."""
        left = row.host
        if not _swap(session, row, f"its guest was found on host {host}", guest.power_state, host=host):
            return False
        LOG.warning("Instance %s: its guest is on %s, not on %s", row.uuid, host, left)
        self._scheduler.transfer(session, convert.instance(row), host)
        return True


def _store(session: Session, report: HostReport) -> datetime | None:
    """Store what a report says of the host itself; return when that was heard before, None if it is no evidence.

    A report is made after the answer to the one before it came. So whatever changed before that one was stored has had
    its effect in this one, whatever the clocks of the two machines say. One that was overtaken, because the host lost
    patience with a slow conductor, is out of date: the host may be gone since.
    """
    # Locked, for what follows from it: another conductor may have a report of this host, or an operator fence it.
    service = session.get(Service, (COMPUTE, report.host), with_for_update=True)
    if service is not None and _is_overtaken(service, report):
        LOG.warning("A report of host %s was overtaken by another or came twice, and counts for nothing", report.host)
        return None
    heard_before = service.last_seen_at if service is not None else None
    _register(session, service, report)
    _store_capacity(session, report)
    return heard_before


def _register(session: Session, known: Service | None, report: HostReport) -> None:
    """Write down that the host is alive."""
    service = known or Service(binary=COMPUTE, host=report.host, started_at=report.started_at)
    started_before = service.started_at
    service.rpc_version, service.last_seen_at = report.rpc_version, utcnow()
    service.started_at, service.report_made_at = report.started_at, report.made_at
    session.add(service)
    session.flush()
    if known is None:
        notices.service(session, service, ServiceChange.REGISTERED)
    elif report.started and started_before != report.started_at:
        notices.service(session, service, ServiceChange.STARTED)


def _is_overtaken(service: Service, report: HostReport) -> bool:
    """Return whether a host has reported since it made this report, or has made this one before."""
    if service.started_at != report.started_at:
        # A process that is no more. One that was off may be back with a clock that runs behind: it says that it starts.
        return report.started_at < service.started_at and not report.started
    return service.report_made_at is not None and report.made_at <= service.report_made_at


def _over(session: Session, report: HostReport) -> tuple[str, ...]:
    """Return the actions of which a host holds orders though they have ended, as an operator can have them do."""
    held = {action_id for action_id, _sequence in report.orders}
    if not held:
        return ()
    # One that only a newer release knows may be open.
    still = Action.status.not_in(frozenset(ActionStatus) - OPEN_ACTION)
    return tuple(sorted(held - set(session.scalars(select(Action.id).where(Action.id.in_(held), still)))))


def _store_capacity(session: Session, report: HostReport) -> None:
    node = session.get(ComputeNode, report.host)
    if node is None:
        node = ComputeNode(host=report.host)
        session.add(node)
    capacity = report.capacity
    node.vcpus, node.memory_mb, node.disk_gb = capacity.vcpus, capacity.memory_mb, capacity.disk_gb
    node.hypervisor_type, node.cpu_model = capacity.hypervisor_type, capacity.cpu_model


def _correct_all(session: Session, host: str, guests: Mapping[str, Guest], heard_before: datetime) -> Iterator[str]:
    """Correct the instances of a host, and yield those whose guests migrate though no action wants that any more."""
    for row in instances_on(session, host):
        if row.task_state is None and row.updated_at < heard_before:
            guest = guests.get(row.uuid)
            _correct(session, row, guest, host)
            _store_addresses(session, row, guest.addresses if guest is not None else ())
            if guest is not None and guest.migrating_to is not None:
                yield row.uuid


def _correct(session: Session, row: Instance, guest: Guest | None, host: str) -> None:
    """Make an instance at rest say what its host says of the guest."""
    if guest is None:
        told = row.vm_state is VmState.ERROR and is_lost(row)
        if not told and _swap(session, row, f"host {host} has it not", PowerState.NOSTATE):
            LOG.warning("Instance %s: host %s has no such guest", row.uuid, host)
            fault = Fault(code="GuestNotFound", message=f"host {host} reports no such guest", host=host)
            faults.record(session, row.uuid, None, fault)
    elif guest.power_state is not row.power_state:
        LOG.info("Instance %s: %s on %s, was %s", row.uuid, guest.power_state, host, row.power_state)
        _swap(session, row, f"its guest is {guest.power_state} on host {host}", guest.power_state)


def _store_addresses(session: Session, row: Instance, seen: Sequence[str]) -> None:
    """Write down which addresses a guest has, which decides nothing: it is no change that others would have to see."""
    addresses = [address for address in seen if _is_address(address)][:_MOST_ADDRESSES]
    if addresses != (row.addresses or []):
        change = update(Instance).where(Instance.uuid == row.uuid).values(addresses=addresses or None)
        session.execute(change.execution_options(synchronize_session=False))


def _is_address(text: str) -> bool:
    """Return whether it is one: guests may say what they like, and operators see it on their terminals."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    # A scope can be anything.
    return "%" not in text


def _find_at_home(session: Session, row: Instance, guest: Guest, host: str) -> None:
    """Count again on a guest that is where its instance lives, after that was in doubt."""
    if row.vm_state is VmState.ERROR and VM_STATE_OF_POWER[guest.power_state] is not VmState.ERROR:
        _swap(session, row, f"its guest was found on host {host}", guest.power_state)


def _swap(session: Session, row: Instance, reason: str, power_state: PowerState, **more: str) -> bool:
    """Change the state (and more) of an instance that is still at rest and as it was read; return whether it was."""
    old, vm_state = row.vm_state, VM_STATE_OF_POWER[power_state]
    unchanged = (Instance.uuid == row.uuid, Instance.task_state.is_(None), Instance.updated_at == row.updated_at)
    swap = update(Instance).where(*unchanged).values(vm_state=vm_state, power_state=power_state, **more)
    swap = swap.values(updated_at=utcnow()).execution_options(synchronize_session=False)
    if not session.execute(swap).rowcount:  # type: ignore[attr-defined]
        return False
    session.refresh(row)
    notices.instance_updated(session, row, old, reason)
    return True


def moved_strangely(session: Session, row: Instance) -> bool:
    """Return whether only a newer release can say where an instance has been."""
    strange = select(Migration.uuid).where(Migration.instance_uuid == row.uuid, not_(readable(Migration)))
    return session.execute(strange).first() is not None


def left_behind(session: Session, row: Instance, host: str) -> bool:
    """Return whether a host's copy of a guest is certainly not the one that counts.

    So it is if the instance was deleted, or never got beyond a boot that failed, or has been moved away for good, or
    if the copy was made by an evacuation that was undone. What a move has left of which nobody could tell how it ended
    is another matter: it may be the only one, until it is known that the guest is elsewhere.
    """
    if row.vm_state is VmState.DELETED or row.host is None:
        return row.task_state is None
    latest = _last_move(session, row.uuid, host)
    if latest is None or latest.status in OPEN_MIGRATION:
        return False
    if latest.unclear_hosts == [] and not is_lost(row):
        return True
    if latest.source_host == host:
        return latest.status is MigrationStatus.COMPLETED
    return latest.migration_type is MigrationType.EVACUATION and latest.status is not MigrationStatus.COMPLETED


def _last_move(session: Session, instance_uuid: str, host: str) -> Migration | None:
    """Return the latest migration that brought an instance to a host or away from it, or may have done so."""
    moves = select(Migration).where(Migration.instance_uuid == instance_uuid, tells(Migration, host))
    return session.scalars(moves.order_by(Migration.created_at.desc()).limit(1)).first()


def tells(move: type[Migration], host: Any) -> ColumnElement[bool]:
    """Return the condition that a migration brought an instance to a host or away from it, or may have done so.

    The latest one that does decides what becomes of a guest there, whenever the host comes back: it is kept for that.

    :param host: its name, or a column that has it.
    """
    undone = and_(move.status.in_((MigrationStatus.FAILED, MigrationStatus.CANCELLED)), move.unclear_hosts.is_(null()))
    came = or_(move.migration_type == MigrationType.EVACUATION, not_(undone))
    return or_(move.source_host == host, and_(move.dest_host == host, came))


def is_lost(row: Instance) -> bool:
    """Return whether the host on which an instance should be has said that it does not have it.

    What an operator says of its state since then makes it no more certain that there is a guest.
    """
    return row.power_state is PowerState.NOSTATE
