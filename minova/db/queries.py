"""Rows found by what users and peers call them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, or_, select
from sqlalchemy.orm import Session

from minova.db.models import Action, ComputeNode, Image, Instance, Migration, Service
from minova.db.readable import as_written, read_known
from minova.exception import (
    ActionNotFound,
    AmbiguousName,
    HostNotFound,
    InstanceNotFound,
    MigrationNotFound,
    ServiceNotFound,
)
from minova.exception_images import ImageNotFound
from minova.states import OPEN_ACTION, VmState

COMPUTE = "minova-compute"
CONDUCTOR = "minova-conductor"


def find_instance(session: Session, reference: str, *, deleted: bool = False) -> Instance:
    """Return an instance by UUID or name.

    :param deleted: whether a deleted one may be found, by its UUID.
    :raises InstanceNotFound: there is none.
    :raises AmbiguousName: several that are not deleted bear the name.
    """
    row = session.get(Instance, reference)
    if row is not None and (deleted or row.vm_state is not VmState.DELETED):
        return row
    found: Instance = _only(reference, session.scalars(select(Instance).where(_bears(reference))).all())
    return found


def instance_as_written(session: Session, reference: str) -> Row[Any]:
    """Return the columns of an instance by UUID (a deleted one too) or name, whatever release has written them.

    :raises InstanceNotFound: there is none.
    :raises AmbiguousName: several that are not deleted bear the name.
    """
    query = select(*as_written(Instance))
    row = session.execute(query.where(Instance.uuid == reference)).first()
    found: Row[Any] = row or _only(reference, session.execute(query.where(_bears(reference))).all())
    return found


def waits_for_none_that_is_fenced() -> ColumnElement[bool]:
    """Return the condition that an action waits for no host that is forced down: such a host keeps nobody waiting."""
    fenced = select(Service.host).where(Service.binary == COMPUTE, Service.forced_down)
    return or_(Action.waits_for.is_(None), Action.waits_for.not_in(fenced))


def _bears(name: str) -> ColumnElement[bool]:
    return and_(Instance.name == name, Instance.vm_state != VmState.DELETED)


def _only(reference: str, rows: Sequence[Any]) -> Any:
    if not rows:
        raise InstanceNotFound(name=reference)
    if len(rows) > 1:
        raise AmbiguousName(name=reference, candidates=sorted(row.uuid for row in rows))
    return rows[0]


def find_image(session: Session, reference: str) -> Image:
    """Return an image by UUID or name. :raises ImageNotFound:"""
    row = session.get(Image, reference) or session.scalars(select(Image).where(Image.name == reference)).first()
    if row is None:
        raise ImageNotFound(name=reference)
    return row


def find_action(session: Session, action_id: str) -> Action:
    """Return an action. :raises ActionNotFound:"""
    row = session.get(Action, action_id)
    if row is None:
        raise ActionNotFound(name=action_id)
    return row


def open_action(session: Session, instance_uuid: str) -> Action | None:
    """Return the action that runs on an instance, if one does."""
    query = select(Action).where(Action.instance_uuid == instance_uuid, Action.status.in_(OPEN_ACTION))
    return session.scalars(query).first()


def find_migration(session: Session, uuid: str) -> Migration:
    """Return a migration. :raises MigrationNotFound:"""
    row = session.get(Migration, uuid)
    if row is None:
        raise MigrationNotFound(name=uuid)
    return row


def migration_of(session: Session, action_id: str) -> Migration | None:
    """Return the migration that an action carries out, if it does."""
    return session.scalars(select(Migration).where(Migration.action_id == action_id)).first()


def find_node(session: Session, host: str) -> ComputeNode:
    """Return a compute host. :raises HostNotFound:"""
    row = session.get(ComputeNode, host)
    if row is None:
        raise HostNotFound(name=host)
    return row


def find_service(session: Session, binary: str, host: str, *, lock: bool = False) -> Service:
    """Return a registered service.

    :param lock: keep it as it is until the transaction ends, for what is decided by it and written elsewhere.
    :raises ServiceNotFound: there is none.
    """
    row = session.get(Service, (binary, host), with_for_update=True if lock else None)
    if row is None:
        raise ServiceNotFound(name=f"{binary} on {host}")
    return row


def live_versions(session: Session, binary: str, since: datetime) -> list[tuple[str, str]]:
    """Return (host, RPC version) of the services of a kind that were heard ``since`` then, whatever the revision."""
    query = select(Service.host, Service.rpc_version).where(
        Service.binary == binary, Service.last_seen_at >= since, Service.forced_down.is_(False)
    )
    return [(row.host, row.rpc_version) for row in session.execute(query.order_by(Service.host))]


def silent_services(session: Session, since: datetime) -> list[tuple[str, str, str]]:
    """Return (binary, host, RPC version) of the services that should be up and were not heard ``since`` then."""
    query = select(Service.binary, Service.host, Service.rpc_version).where(
        Service.last_seen_at < since, Service.forced_down.is_(False)
    )
    return [
        (row.binary, row.host, row.rpc_version) for row in session.execute(query.order_by(Service.binary, Service.host))
    ]


def instances_on(session: Session, host: str) -> Sequence[Instance]:
    """Return the instances that live on a host, but for those that only a newer release can read."""
    query = select(Instance).where(Instance.host == host).order_by(Instance.name)
    return read_known(session, query, Instance).scalars().all()
