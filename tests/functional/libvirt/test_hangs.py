"""A hypervisor that hangs, and answers nothing any more."""

import os
import signal
import threading
import time
from contextlib import suppress

import pytest

from minova.objects import Instance
from minova.virt.driver import ComputeDriver
from tests.contract.rig import SHUTDOWN, UUID, migrate, prepare, state
from tests.fixtures.virt.rig import Console, LibvirtRig

LIBVIRT_GIVES_UP = 30
"""Seconds after which libvirt answers who waits for a hypervisor that another has asked before."""


@pytest.mark.parametrize("host", ["source", "destination"], ids=["booted-here", "moved-here"])
def test_a_guest_whose_hypervisor_hangs_is_listed_and_stopped_in_time(
    rig: LibvirtRig, source: ComputeDriver, destination: ComputeDriver, instance: Instance, host: str
) -> None:
    rig.set(host, shutdown_timeout=5)
    source.spawn(instance)
    Console(source).wait_until_ready()
    if host == "destination":
        migrate(source, instance=instance, data=prepare(source, destination, instance))
        destination.post_live_migration_at_destination(instance)
    driver = {"source": source, "destination": destination}[host]
    process = rig.hypervisor(host)
    os.kill(process, signal.SIGSTOP)
    try:
        stopping = threading.Thread(target=driver.power_off, args=(UUID,), daemon=True)
        stopping.start()
        while stopping.is_alive():
            began = time.monotonic()
            assert [guest.uuid for guest in driver.list_guests()] == [UUID]
            assert time.monotonic() - began < LIBVIRT_GIVES_UP
        assert state(driver) is SHUTDOWN
    finally:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)
