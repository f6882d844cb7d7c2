"""What becomes of a guest that has been copied to another host, and cannot be started there."""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import libvirt
import pytest

from minova.exception import GuestNotFound, HostUnusable
from minova.objects import Instance
from minova.virt.driver import ComputeDriver
from tests.contract.rig import OPTIONS, PAUSED, RUNNING, UUID, Progress, prepare, state
from tests.fixtures.virt.rig import Console, LibvirtRig

_NO_WRITER = 201
"""The byte of an image that QEMU locks so that nobody else writes to it."""


@contextmanager
def wanted_alone(image: Path) -> Iterator[None]:
    """Let nobody who opens an image write to it; who has it open may go on, unless he lets go of it."""
    handle = os.open(image, os.O_RDWR)
    try:
        lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, _NO_WRITER, 1, 0)
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, lock)
        yield
    finally:
        os.close(handle)


def test_a_guest_that_cannot_be_started_at_the_destination_stays_where_it_is(
    rig: LibvirtRig, source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    source.spawn(instance)
    console, there = Console(source), libvirt.open(rig.hosts.b.uri)
    console.wait_until_ready()
    data = prepare(source, destination, instance)
    with wanted_alone(source._storage.disk(UUID)), pytest.raises(HostUnusable):
        # Nor can it be let run on at once.
        source.live_migration(instance, "destination", OPTIONS, data, Progress())
    left = there.lookupByUUIDString(UUID)
    assert left.state() == [libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_FAILED]
    assert left.isPersistent()
    with pytest.raises(GuestNotFound):
        destination.post_live_migration_at_destination(instance)
    assert (destination.list_guests(), there.listAllDomains()) == ((), [])
    destination.rollback_live_migration_at_destination(UUID)
    destination.destroy(UUID)
    assert (source._storage.owner(UUID), state(source)) == ("source", PAUSED)
    ticks = console.read().count("tick=")
    source.unpause(UUID)
    assert state(source) is RUNNING
    console.wait_for("tick=", ticks + 1)
