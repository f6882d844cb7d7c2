"""What conductors answer to those who ask how things are."""

from datetime import datetime
from typing import TypeVarTuple

from oslo_config import cfg
from sqlalchemy import Select, func, inspect, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from minova import objects
from minova.db import convert, models
from minova.db.queries import (
    COMPUTE,
    CONDUCTOR,
    find_action,
    find_instance,
    find_node,
    find_service,
)
from minova.db.readable import read_known
from minova.db.session import Database, persistent
from minova.exception import ActionNotFound, MigrationNotFound
from minova.objects import utcnow
from minova.rpc.versions import parse
from minova.states import HostState, VmState

_Ts = TypeVarTuple("_Ts")

_BINARIES = {"compute": COMPUTE, "conductor": CONDUCTOR}


_ACTIONS = (
    select(models.Action, models.Instance.name, models.Migration.uuid)
    .join(models.Instance, models.Instance.uuid == models.Action.instance_uuid)
    .outerjoin(models.Migration, models.Migration.action_id == models.Action.id)
)

_MIGRATIONS = (
    select(models.Migration, models.Instance.name, models.Action.args)
    .join(models.Instance, models.Instance.uuid == models.Migration.instance_uuid)
    .join(models.Action, models.Action.id == models.Migration.action_id)
)


class Queries:
    """Reads; nothing here writes, so all of it can be run again.

    A list lacks what only a newer release can read; who asks for that by its name gets a DatabaseError.
    """

    def __init__(self, conf: cfg.ConfigOpts, database: Database) -> None:
        """Read from ``database``."""
        self._conf = conf
        self._database = database

    @persistent
    def instance(self, reference: str) -> objects.Instance:
        """Return an instance by UUID (a deleted one too) or name. :raises InstanceNotFound: :raises AmbiguousName:"""
        with self._database.read() as session:
            return convert.shown_instance(find_instance(session, reference, deleted=True))

    @persistent
    def instances(self, host: str | None, deleted: bool) -> list[objects.Instance]:
        """Return instances in the order of their names: all, or those on a host. :raises HostNotFound:"""
        query = select(models.Instance).order_by(models.Instance.name, models.Instance.created_at)
        if host is not None:
            query = query.where(models.Instance.host == host)
        if not deleted:
            query = query.where(models.Instance.vm_state != VmState.DELETED)
        with self._database.read() as session:
            if host is not None:
                find_node(session, host)
            return [convert.shown_instance(row) for row in read_known(session, query, models.Instance).scalars()]

    @persistent
    def faults(self, reference: str) -> list[objects.Fault]:
        """Return an instance's faults, newest first. :raises InstanceNotFound: :raises AmbiguousName:"""
        with self._database.read() as session:
            uuid = find_instance(session, reference, deleted=True).uuid
            query = select(models.InstanceFault).where(models.InstanceFault.instance_uuid == uuid)
            return [convert.fault(row) for row in session.scalars(query.order_by(models.InstanceFault.id.desc()))]

    @persistent
    def action(self, action_id: str) -> objects.Action:
        """Return an action. :raises ActionNotFound:"""
        with self._database.read() as session:
            row = session.execute(_ACTIONS.where(models.Action.id == action_id)).first()
            if row is None:
                raise ActionNotFound(name=action_id)
            return convert.action(*row)

    @persistent
    def actions(self, reference: str | None, limit: int) -> list[objects.Action]:
        """Return actions, newest first: all, or an instance's. :raises InstanceNotFound: :raises AmbiguousName:"""
        with self._database.read() as session:
            query = _newest(session, _ACTIONS, models.Action.submitted_at, reference, limit)
            return [convert.action(*row) for row in read_known(session, query, models.Action)]

    @persistent
    def action_events(self, action_id: str) -> list[objects.ActionEvent]:
        """Return an action's trace in the order of time. :raises ActionNotFound:"""
        with self._database.read() as session:
            find_action(session, action_id)
            query = select(models.ActionEvent).where(models.ActionEvent.action_id == action_id)
            query = query.order_by(models.ActionEvent.started_at, models.ActionEvent.id)
            return [convert.action_event(row) for row in read_known(session, query, models.ActionEvent).scalars()]

    @persistent
    def migration(self, uuid: str) -> objects.Migration:
        """Return a migration. :raises MigrationNotFound:"""
        with self._database.read() as session:
            row = session.execute(_MIGRATIONS.where(models.Migration.uuid == uuid)).first()
            if row is None:
                raise MigrationNotFound(name=uuid)
            return convert.migration(*row)

    @persistent
    def migrations(self, reference: str | None, limit: int) -> list[objects.Migration]:
        """Return migrations, newest first: all, or an instance's. :raises InstanceNotFound: :raises AmbiguousName:"""
        with self._database.read() as session:
            query = _newest(session, _MIGRATIONS, models.Migration.created_at, reference, limit)
            return [convert.migration(*row) for row in read_known(session, query, models.Migration)]

    @persistent
    def host(self, name: str) -> objects.Host:
        """Return a compute host. :raises HostNotFound:"""
        with self._database.read() as session:
            node = find_node(session, name)
            counted = select(func.count()).where(models.Instance.host == name)
            return self._host(session, node, session.scalar(counted) or 0)

    @persistent
    def hosts(self) -> list[objects.Host]:
        """Return all compute hosts in the order of their names."""
        counted = select(models.Instance.host, func.count()).group_by(models.Instance.host)
        with self._database.read() as session:
            counts = {host: int(count) for host, count in session.execute(counted)}
            nodes = session.scalars(select(models.ComputeNode).order_by(models.ComputeNode.host))
            return [self._host(session, node, counts.get(node.host, 0)) for node in nodes]

    @persistent
    def service(self, binary: str, host: str) -> objects.Service:
        """Return a service. :raises ServiceNotFound:"""
        with self._database.read() as session:
            return convert.service(find_service(session, binary, host), utcnow(), self._conf.service_down_time)

    @persistent
    def services(self) -> list[objects.Service]:
        """Return all services, by binary and host."""
        query = select(models.Service).order_by(models.Service.binary, models.Service.host)
        now, down_time = utcnow(), self._conf.service_down_time
        with self._database.read() as session:
            return [convert.service(row, now, down_time) for row in session.scalars(query)]

    def lowest_version(self, topic: str) -> tuple[str, str] | None:
        """Return the lowest RPC version of any live service of a topic, and its host; None: none is live."""
        live = [
            (parse(service.rpc_version), service.rpc_version, service.host)
            for service in self.services()
            if service.binary == _BINARIES.get(topic) and service.state is HostState.UP
        ]
        return min(live)[1:] if live else None

    def _host(self, session: Session, node: models.ComputeNode, instances: int) -> objects.Host:
        service = find_service(session, COMPUTE, node.host)
        return convert.host(node, service, instances, utcnow(), self._conf.service_down_time)


def _newest(
    session: Session, query: "Select[*_Ts]", since: InstrumentedAttribute[datetime], reference: str | None, limit: int
) -> "Select[*_Ts]":
    """Narrow a query to the newest rows: all, or an instance's. They are chosen first, so that no others are looked at.

    :param since: what is greatest for the newest.
    """
    kind = since.class_
    [key] = inspect(kind).primary_key
    newest = select(key).order_by(since.desc()).limit(limit)
    if reference is not None:
        newest = newest.where(kind.instance_uuid == find_instance(session, reference, deleted=True).uuid)
    chosen = newest.subquery()
    return query.join(chosen, chosen.c[key.name] == key).order_by(since.desc())
