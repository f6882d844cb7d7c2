"""Filters: what a host must be to take an instance, as SQL conditions, so that the database narrows the hosts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, not_

from minova.db.models import ComputeNode, Service
from minova.objects import Instance


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition.

    :ivar name: as it appears in "no valid host".
    :ivar passes: the condition on a row of (ComputeNode, Service).
    :ivar reason: why one host that was asked for will not do.
    """

    name: str
    passes: ColumnElement[bool]
    reason: str


def filters_for(instance: Instance, heard_since: datetime, exclude: Sequence[str]) -> tuple[Filter, ...]:
    """Return the filters for an instance, in the order in which they are applied.

    :param heard_since: a host that has not reported since then is not counted on.
    :param exclude: hosts that may not be used: the one that it is on, and those that refused it.
    """
    up = and_(not_(Service.forced_down), Service.last_seen_at >= heard_since)
    vcpus = ComputeNode.vcpus - ComputeNode.vcpus_used >= instance.vcpus
    memory = ComputeNode.memory_mb - ComputeNode.memory_mb_used >= instance.memory_mb
    disk = ComputeNode.disk_gb - ComputeNode.disk_gb_used >= instance.disk_gb
    return (
        Filter("another host", ComputeNode.host.not_in(exclude), "the instance is there, or was refused there"),
        Filter("up", up, "it is down, or was not heard from"),
        Filter("enabled", Service.enabled.is_(True), "its service is disabled"),
        Filter("not draining", not_(Service.draining), "it is being drained"),
        Filter("enough vCPUs", vcpus, f"it has fewer than {instance.vcpus} vCPUs free"),
        Filter("enough memory", memory, f"it has less than {instance.memory_mb} MiB of memory free"),
        Filter("enough disk", disk, f"it has less than {instance.disk_gb} GiB of disk free"),
    )
