"""Hosts, the services on them, and what a compute reports of itself."""

from dataclasses import dataclass
from typing import ClassVar, Self

from minova.objects.action import Order
from minova.objects.base import Moment, RPCVersion
from minova.states import HostState, PowerState


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A guest as its hypervisor sees it.

    :ivar migrating_to: the destination of a live migration that is under way at this moment.
    :ivar addresses: its IP addresses, as far as the hypervisor knows them.
    """

    VERSION: ClassVar[str] = "1.1"
    uuid: str
    """As the hypervisor has it: one odd name must not keep all of a host's report from being taken."""
    name: str
    power_state: PowerState
    migrating_to: str | None = None
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOrder:
    """An order that a compute holds.

    :ivar step: what it is to do, as :class:`~minova.objects.Order` names it.
    :ivar received_at: by the clock of the host.
    :ivar done: it has been carried out, and no conductor has taken its outcome yet.
    """

    VERSION: ClassVar[str] = "1.0"
    action_id: str
    step: str
    sequence: int
    received_at: Moment
    done: bool

    @classmethod
    def of(cls, order: Order, received_at: Moment, *, done: bool) -> Self:
        """Return what there is to say of an order."""
        return cls(
            action_id=order.action_id, step=order.step, sequence=order.sequence, received_at=received_at, done=done
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestReport:
    """What a compute knows of one guest.

    :ivar guest: None: its hypervisor has no such guest, unless there is ``trouble``.
    :ivar trouble: why the hypervisor did not tell, one line; empty: it did.
    :ivar orders: those that it holds for the guest, in the order in which it will do them.
    """

    VERSION: ClassVar[str] = "1.0"
    guest: Guest | None
    trouble: str = ""
    orders: tuple[HeldOrder, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCapacity:
    """What a hypervisor can give to guests: CPUs, MiB of memory, GiB of disk, after allocation ratios."""

    VERSION: ClassVar[str] = "1.0"
    vcpus: int
    memory_mb: int
    disk_gb: int
    hypervisor_type: str
    cpu_model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReport:
    """What a compute says of itself at its start and then periodically; it is the heartbeat too.

    :ivar made_at: by the clock of the host, which is compared with nothing but this host's other reports; those of one
        process are each later than the one before, even if the clock is not.
    :ivar started: the service has just started, or was not heard for so long that it let go of what it had not begun:
        of orders it knows no others than ``orders``.
    :ivar orders: the (action id, sequence) pairs of the orders that it holds, queued or in work.
    """

    VERSION: ClassVar[str] = "1.0"
    host: str
    rpc_version: RPCVersion
    started_at: Moment
    made_at: Moment
    started: bool
    capacity: HostCapacity
    guests: tuple[Guest, ...] = ()
    orders: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDirective:
    """What the conductor answers to a :class:`HostReport`.

    :ivar fenced: the operator declared this host down: refuse all work.
    :ivar destroy: UUIDs of guests that live elsewhere now, or were deleted: destroy them.
    :ivar abort: UUIDs of guests whose live migration nobody waits for any more: abort it.
    :ivar over: ids of actions of which it holds orders, though they have ended: let go of those that have not begun.
    :ivar decided_at: by the clock of conductors, as ``sent_at`` of orders: those sent before were taken into account.
    """

    VERSION: ClassVar[str] = "1.1"
    fenced: bool = False
    destroy: tuple[str, ...] = ()
    abort: tuple[str, ...] = ()
    over: tuple[str, ...] = ()
    decided_at: Moment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A compute host as the scheduler sees it; units as in :class:`HostCapacity`."""

    VERSION: ClassVar[str] = "1.0"
    host: str
    state: HostState
    enabled: bool
    draining: bool
    vcpus: int
    vcpus_used: int
    memory_mb: int
    memory_mb_used: int
    disk_gb: int
    disk_gb_used: int
    instances: int
    hypervisor_type: str
    cpu_model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A registered process of minova.

    :ivar rpc_version: the newest version of its RPC interface.
    :ivar forced_down: the operator has said that it is off.
    """

    VERSION: ClassVar[str] = "1.0"
    binary: str
    host: str
    state: HostState
    enabled: bool
    disabled_reason: str
    forced_down: bool
    draining: bool
    rpc_version: str
    started_at: Moment
    last_seen_at: Moment
