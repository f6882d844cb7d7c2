"""Whether a host has room for one more guest."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from minova.exception import InsufficientResources
from minova.objects import HostCapacity, Instance
from minova.virt.libvirt.domain_xml import Marked
from minova.virt.libvirt.guests import Guests
from minova.virt.libvirt.host import HostFacts

_SIZES = (("vcpus", "vCPUs"), ("memory_mb", "MiB of memory"), ("disk_gb", "GiB of disk"))


class Room:
    """What guests have been given, and are about to be."""

    def __init__(self, host: str, facts: HostFacts, guests: Guests) -> None:
        self._host = host
        self._facts = facts
        self._guests = guests
        self._lock = threading.Lock()
        self._coming: dict[str, Instance] = {}

    @contextmanager
    def taken(self, instance: Instance) -> Iterator[None]:
        """Keep room for a guest until it is there. :raises InsufficientResources:"""
        with self._lock:
            self._require(instance, self._facts.capacity())
            self._coming[instance.uuid] = instance
        try:
            yield
        finally:
            with self._lock:
                del self._coming[instance.uuid]

    def _require(self, instance: Instance, capacity: HostCapacity) -> None:
        others: dict[str, Instance | Marked] = {**self._coming, **self._guests.sizes()}
        others.pop(instance.uuid, None)
        for field, what in _SIZES:
            wanted: int = getattr(instance, field)
            free: int = getattr(capacity, field) - sum(getattr(other, field) for other in others.values())
            if wanted > free:
                reason = f"it wants {wanted} {what}, {max(free, 0)} are free"
                raise InsufficientResources(host=self._host, reason=reason)
