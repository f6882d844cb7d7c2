"""A hypervisor, or a libvirtd, that hangs, and answers nothing any more."""

import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from minova.exception import OperationRefused
from minova.objects import Instance
from minova.virt.driver import ComputeDriver, GuestWatcher
from minova.virt.libvirt import connection
from tests.contract.rig import SHUTDOWN, UUID, migrate, prepare, state
from tests.fixtures.lab import wait_until
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


def send(rig: LibvirtRig, name: str) -> None:
    """Send a signal to the libvirtd of the source."""
    script = f"kill -{name} $(cat /run/libvirt/libvirtd.pid)"
    subprocess.run(rig.hosts.a.command("bash", "-c", script), check=True)


def test_a_libvirtd_that_hangs_counts_as_away(
    rig: LibvirtRig, source: ComputeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("_PROBE_SECONDS", 1), ("_PROBES", 2), ("_ANSWER_SECONDS", 1.0)):
        monkeypatch.setattr(connection, name, seconds)
    assert isinstance(source, GuestWatcher)
    unwatch = source.watch_guests(lambda: None)
    try:
        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(lambda _: source.list_guests(), range(4))) == [()] * 4
            send(rig, "STOP")
            try:
                for _ in range(2):
                    for error in pool.map(lambda _: refused(source), range(4)):
                        assert "does not answer" in error
                        assert "does libvirtd run?" in error
            finally:
                send(rig, "CONT")
        wait_until(lambda: answers(source), "libvirtd")
    finally:
        unwatch()


def refused(driver: ComputeDriver) -> str:
    with pytest.raises(OperationRefused) as caught:
        driver.list_guests()
    return caught.value.message


def answers(driver: ComputeDriver) -> bool:
    try:
        return driver.list_guests() == ()
    except OperationRefused:
        return False
