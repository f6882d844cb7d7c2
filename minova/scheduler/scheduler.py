"""Choose a host and claim room on it, within the transaction of the caller."""

from collections.abc import Sequence
from datetime import timedelta

from oslo_config import cfg
from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.orm import Session

from minova.db.models import Allocation, ComputeNode, Service
from minova.db.queries import COMPUTE, find_node
from minova.db.session import LostRace
from minova.exception import HostUnusable, NoValidHost
from minova.objects import Instance, utcnow
from minova.scheduler.filters import Filter, filters_for
from minova.scheduler.weights import rank


class Scheduler:
    """A library, not a service: every conductor schedules, and the database keeps them from overselling a host."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        """Schedule as ``[scheduler]`` says."""
        self._conf = conf

    def claim(self, session: Session, instance: Instance, wanted: str | None, refused: Sequence[str]) -> str:
        """Take room for an instance on the best host, or on the one that is wanted; return its name.

        :param refused: hosts that would not take it.
        :raises HostNotFound: the wanted host does not exist.
        :raises HostUnusable: the wanted host will not do.
        :raises NoValidHost: no host will do.
        :raises LostRace: others claimed all candidates first; the transaction is to be run again.
        """
        since = utcnow() - timedelta(seconds=self._conf.service_down_time)
        exclude = [*refused, *([instance.host] if instance.host else [])]
        filters = filters_for(instance, since, exclude)
        if wanted is not None:
            self._check_wanted(session, wanted, filters)
        for node in rank(self._conf, self._candidates(session, filters, wanted)):
            if _take(session, node, instance):
                return node.host
        self._explain(session, filters, instance, wanted)
        raise LostRace

    def release(self, session: Session, instance_uuid: str, host: str) -> None:
        """Give back an instance's room on a host; nothing happens if it has none there."""
        allocation = session.get(Allocation, (instance_uuid, host))
        if allocation is not None:
            gone = delete(Allocation).where(Allocation.instance_uuid == instance_uuid, Allocation.host == host)
            if session.execute(gone).rowcount:  # type: ignore[attr-defined]
                _change_used(session, host, allocation, -1)
            session.expunge(allocation)

    def release_all(self, session: Session, instance_uuid: str, *, keep: str | None = None) -> None:
        """Give back an instance's room on all hosts but ``keep``."""
        query = select(Allocation.host).where(Allocation.instance_uuid == instance_uuid)
        for host in session.scalars(query).all():
            if host != keep:
                self.release(session, instance_uuid, host)

    def transfer(self, session: Session, instance: Instance, host: str) -> None:
        """Give an instance its room on the host where its guest turned up, be there enough or not, and no other."""
        self.release_all(session, instance.uuid, keep=host)
        if not _take(session, find_node(session, host), instance):
            raise LostRace

    def _candidates(self, session: Session, filters: Sequence[Filter], wanted: str | None) -> Sequence[ComputeNode]:
        query = (
            select(ComputeNode)
            .join(Service, _service_of_node())
            .where(*(each.passes for each in filters))
            .order_by((ComputeNode.memory_mb - ComputeNode.memory_mb_used).desc(), ComputeNode.host)
            .limit(self._conf.scheduler.max_candidates)
            .execution_options(populate_existing=True)
        )
        if wanted is not None:
            query = query.where(ComputeNode.host == wanted)
        return session.scalars(query).all()

    def _check_wanted(self, session: Session, wanted: str, filters: Sequence[Filter]) -> None:
        find_node(session, wanted)
        for each in filters:
            passes = and_(ComputeNode.host == wanted, each.passes)
            if not _count(session, passes):
                raise HostUnusable(host=wanted, reason=each.reason)

    def _explain(self, session: Session, filters: Sequence[Filter], instance: Instance, wanted: str | None) -> None:
        """Raise NoValidHost with what each filter refused; return if hosts do pass now."""
        left = _count(session, and_(True))
        refusals: dict[str, int] = {}
        passes: list[ColumnElement[bool]] = []
        for each in filters:
            passes.append(each.passes)
            now_left = _count(session, and_(*passes))
            if now_left < left:
                refusals[each.name] = left - now_left
            left = now_left
        if left == 0:
            size = f"{instance.vcpus} vCPUs, {instance.memory_mb} MiB, {instance.disk_gb} GiB"
            raise NoValidHost(request=f"instance {instance.name} ({size})", refusals=refusals)


def _service_of_node() -> ColumnElement[bool]:
    return and_(Service.host == ComputeNode.host, Service.binary == COMPUTE)


def _count(session: Session, condition: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(ComputeNode).join(Service, _service_of_node()).where(condition)
    return session.scalar(query) or 0


def _take(session: Session, node: ComputeNode, instance: Instance) -> bool:
    """Claim room by compare-and-swap on the node's generation; return whether nobody was faster."""
    if session.get(Allocation, (instance.uuid, node.host)) is not None:
        return True
    claim = (
        update(ComputeNode)
        .where(ComputeNode.host == node.host, ComputeNode.generation == node.generation)
        .values(
            generation=ComputeNode.generation + 1,
            vcpus_used=ComputeNode.vcpus_used + instance.vcpus,
            memory_mb_used=ComputeNode.memory_mb_used + instance.memory_mb,
            disk_gb_used=ComputeNode.disk_gb_used + instance.disk_gb,
        )
        .execution_options(synchronize_session=False)
    )
    if not session.execute(claim).rowcount:  # type: ignore[attr-defined]
        return False
    session.add(
        Allocation(
            instance_uuid=instance.uuid,
            host=node.host,
            vcpus=instance.vcpus,
            memory_mb=instance.memory_mb,
            disk_gb=instance.disk_gb,
        )
    )
    return True


def _change_used(session: Session, host: str, room: Allocation, sign: int) -> None:
    session.execute(
        update(ComputeNode)
        .where(ComputeNode.host == host)
        .values(
            generation=ComputeNode.generation + 1,
            vcpus_used=ComputeNode.vcpus_used + sign * room.vcpus,
            memory_mb_used=ComputeNode.memory_mb_used + sign * room.memory_mb,
            disk_gb_used=ComputeNode.disk_gb_used + sign * room.disk_gb,
        )
        .execution_options(synchronize_session=False)
    )
