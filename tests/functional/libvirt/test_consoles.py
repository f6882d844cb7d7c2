"""Consoles that are written to: what gets through to guests, and who has them open meanwhile."""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt
import pytest

from minova.exception import DriverError, OperationRefused
from minova.objects import INPUT_LENGTH, Guest, Instance
from minova.virt.driver import ComputeDriver
from minova.virt.libvirt.console_input import OpenConsoles
from tests.contract.rig import OTHER, RUNNING, UUID
from tests.fixtures.lab import wait_until
from tests.fixtures.virt.rig import Console, LibvirtRig

IDLE_SECONDS = 1.5

RUNNING_GUEST = Guest(uuid=UUID, name="web", power_state=RUNNING)


def sockets() -> int:
    """Return how many connections this process has open."""
    # Those of drivers of tests before this go first.
    gc.collect()
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += str(descriptor.readlink()).startswith("socket:")
    return found


@pytest.fixture
def source(source: ComputeDriver) -> Iterator[ComputeDriver]:
    """A driver that holds consoles open for a short while, and nothing once it is closed."""
    source._open_consoles = OpenConsoles(source._connection, IDLE_SECONDS)
    threads = set(threading.enumerate())
    yield source
    source.close()
    assert set(threading.enumerate()) == threads


@pytest.fixture
def console(source: ComputeDriver, instance: Instance) -> Console:
    source.spawn(instance)
    console = Console(source)
    console.wait_until_ready()
    return console


def ask(driver: ComputeDriver, console: Console, word: str) -> None:
    """Say something to the guest, which answers."""
    driver.console_input(UUID, f"ping {word}\n")
    console.wait_for(f"pong {word}")


def is_open(driver: ComputeDriver) -> bool:
    return bool(driver._open_consoles._lines)


def test_a_guest_hears_what_is_written(source: ComputeDriver, console: Console) -> None:
    ask(source, console, "ünï")
    for letter in "ping letters\n":
        source.console_input(UUID, letter)
    console.wait_for("pong letters")


@pytest.fixture
def elsewhere(rig: LibvirtRig) -> Callable[[], Any]:
    """Open the guest's console by other means, as ``virsh console`` does."""
    connection = libvirt.open(rig.hosts.a.uri)

    def attach() -> Any:
        stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
        connection.lookupByUUIDString(UUID).openConsole(None, stream, 0)
        return stream

    return attach


def test_a_console_is_let_go_of_when_it_is_idle(
    source: ComputeDriver, console: Console, elsewhere: Callable[[], Any]
) -> None:
    counted = []
    for word in ("one", "two", "three"):
        ask(source, console, word)
        wait_until(lambda: not is_open(source), "the end of idleness")
        counted.append(sockets())
    wait_until(lambda: sockets() <= counted[0], "the end of the connections")
    elsewhere().abort()


def test_a_console_is_let_go_of_when_its_driver_is_closed(
    source: ComputeDriver, console: Console, elsewhere: Callable[[], Any]
) -> None:
    ask(source, console, "one")
    source.close()
    source.close()
    elsewhere().abort()
    ask(source, console, "two")


def test_who_has_the_console_open_by_other_means_is_left_alone(
    source: ComputeDriver, console: Console, elsewhere: Callable[[], Any]
) -> None:
    stream = elsewhere()
    with pytest.raises(OperationRefused, match="somebody may have the console open by other means"):
        source.console_input(UUID, "")
    stream.send(b"ping other\n")
    console.wait_for("pong other")
    stream.abort()
    ask(source, console, "mine")
    with pytest.raises(libvirt.libvirtError):
        elsewhere()
    wait_until(lambda: not is_open(source), "the end of idleness")
    elsewhere().abort()


def test_a_restart_of_libvirtd_does_not_matter(rig: LibvirtRig, source: ComputeDriver, console: Console) -> None:
    ask(source, console, "before")
    rig.hosts.a.restart_libvirtd()
    ask(source, console, "after")


@pytest.mark.parametrize("change", ["power_off", "pause"])
def test_a_guest_that_does_not_run_is_not_written_to(source: ComputeDriver, console: Console, change: str) -> None:
    ask(source, console, "before")
    getattr(source, change)(UUID)
    state = {"power_off": "shutdown", "pause": "paused"}[change]
    with pytest.raises(OperationRefused, match=f"console_input on host source: the guest is {state}"):
        source.console_input(UUID, "x")
    wait_until(lambda: not is_open(source), "the end of the console")
    source.power_on(UUID)
    console.wait_until_ready(boots=2 if change == "power_off" else 1)
    ask(source, console, "after")


def test_a_guest_that_does_not_read_holds_up_nobody(
    source: ComputeDriver, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(source, console, "before")
    # As in earnest, this is longer than it takes to notice that.
    source._open_consoles._idle_seconds = 5.0
    # As a guest that hangs: the driver does not know of it.
    source._guests.on_domain("test", UUID, lambda domain: domain.suspend())
    monkeypatch.setattr(type(source._guests), "require", lambda *_: RUNNING_GUEST)
    with suppress(DriverError):
        for _ in range(128):
            source.console_input(UUID, "#" * (INPUT_LENGTH - 1) + "\n")
    wait_until(lambda: not is_open(source), "the end of the console")
    source._guests.on_domain("test", UUID, lambda domain: domain.resume())

    def heard() -> bool:
        with suppress(DriverError):
            source.console_input(UUID, "\nping after\n")
            return True
        return False

    wait_until(heard, "the console")
    console.wait_for("pong after")


def test_a_guest_of_others_is_not_written_to(source: ComputeDriver, console: Console) -> None:
    with pytest.raises(DriverError):
        source.console_input(OTHER, "x")
    assert not is_open(source)
