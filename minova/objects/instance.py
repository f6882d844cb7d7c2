"""Instances, what a request to boot one says, and what went wrong with one."""

import traceback
from dataclasses import dataclass, field
from typing import ClassVar, Self

from minova.exception import MinovaError
from minova.objects.base import UUID, Moment
from minova.objects.image import Image
from minova.states import PowerState, TaskState, VmState


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRequest:
    """What a new instance should be.

    :ivar vcpus: number of virtual CPUs.
    :ivar memory_mb: memory in MiB.
    :ivar disk_gb: root disk in GiB.
    :ivar host: the host to boot on; None: the scheduler chooses.
    :ivar image: name or UUID of what its root disk is made from; None: the disk is empty.
    :ivar network: the libvirt network or bridge of its network card; "none": it has none; None: as its host is
        configured.
    :ivar user_data: what cloud-init does in the guest; it may hold secrets.
    :ivar ssh_keys: public keys that cloud-init lets log in, a line each.
    """

    VERSION: ClassVar[str] = "1.1"
    name: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    host: str | None = None
    image: str | None = None
    network: str | None = None
    user_data: str = field(default="", repr=False)
    ssh_keys: tuple[str, ...] = ()


HIDDEN = "***"
"""What conductors say to those who ask, instead of user data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A virtual machine as the database knows it; what is not explained here is as in :class:`BootRequest`.

    :ivar host: the host that has the guest; None: none has it.
    :ivar task_state: what is being done to it; None: it is at rest.
    :ivar image: as it was when the instance was booted.
    :ivar user_data: as it is for hosts, and :data:`HIDDEN` for others if there is any.
    :ivar addresses: the IP addresses that its host has last seen it have.
    """

    VERSION: ClassVar[str] = "1.1"
    uuid: UUID
    name: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    host: str | None
    vm_state: VmState
    task_state: TaskState | None
    power_state: PowerState
    created_at: Moment
    updated_at: Moment
    image: Image | None = None
    network: str | None = None
    user_data: str = field(default="", repr=False)
    ssh_keys: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()

    @property
    def mac_address(self) -> str:
        """That of its network card, wherever it is."""
        return mac_address(self.uuid)


def mac_address(uuid: str) -> str:
    """Return the MAC address of an instance: locally administered, and made of its UUID's first 40 bits."""
    digits = uuid.replace("-", "")
    return ":".join(["02", *(digits[start : start + 2] for start in range(0, 10, 2))])


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why something failed.

    :ivar code: the class name of the error.
    :ivar message: one line.
    :ivar details: the traceback of an error that nobody expected, else empty.
    :ivar host: the service that met it, as ``binary:host`` or a host name.
    """

    VERSION: ClassVar[str] = "1.0"
    code: str
    message: str
    details: str = ""
    host: str = ""
    created_at: Moment | None = None
    action_id: str | None = None

    @classmethod
    def of(cls, error: Exception, where: str) -> Self:
        """Return an error that was met at ``where`` as a fault; one that nobody expected comes with its traceback."""
        if isinstance(error, MinovaError):
            return cls(code=type(error).__name__, message=error.message, host=where)
        # Databases cannot store NUL, and a hypervisor may have put it in.
        message = f"unexpected error: {error}".replace("\0", "")
        details = "".join(traceback.format_exception(error)).replace("\0", "")
        return cls(code=type(error).__name__, message=message, details=details, host=where)
