"""Connections to a libvirtd that hangs, goes away, and comes back."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

libvirt = pytest.importorskip("libvirt")

from minova.exception import OperationRefused  # noqa: E402
from minova.virt.libvirt import connection  # noqa: E402
from minova.virt.libvirt.connection import Connection  # noqa: E402

PATIENCE = 10.0


class Opened:
    """One connection."""

    def __init__(self) -> None:
        self.alive = True

    def isAlive(self) -> bool:  # as in libvirt
        return self.alive


class Libvirtd:
    """One that hangs when it is told to; ``opened`` is what was connected to it."""

    def __init__(self) -> None:
        self.opened: list[Opened] = []
        self.asked = 0
        self.goes_on = threading.Event()
        self.goes_on.set()

    def open(self, _uri: str) -> Opened:
        self.asked += 1
        assert self.goes_on.wait(PATIENCE)
        self.opened.append(Opened())
        return self.opened[-1]


@pytest.fixture
def libvirtd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Libvirtd]:
    daemon = Libvirtd()
    monkeypatch.setattr(libvirt, "open", daemon.open)
    yield daemon
    daemon.goes_on.set()
    for thread in threading.enumerate():
        if thread.name == "libvirt-open":
            thread.join(PATIENCE)


@pytest.fixture
def host(libvirtd: Libvirtd) -> Connection:
    return Connection("qemu:///system", "host1")


def test_each_thread_has_a_connection_and_leaves_it_to_the_next(host: Connection, libvirtd: Libvirtd) -> None:
    together = threading.Barrier(3)

    def work(opened: Any) -> Any:
        together.wait(PATIENCE)
        return opened

    for _ in range(2):
        with ThreadPoolExecutor(3) as pool:
            used = list(pool.map(lambda _: host.run("work", work), range(3)))
        assert {id(each) for each in used} == {id(each) for each in libvirtd.opened}
    assert libvirtd.asked == 3


def test_who_cannot_connect_in_time_is_refused_and_waits_for_no_more_than_one(
    host: Connection, libvirtd: Libvirtd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_ANSWER_SECONDS", 0.001)
    libvirtd.goes_on.clear()
    for _ in range(3):
        with pytest.raises(OperationRefused, match=r"\(it does not answer\): does libvirtd run\?"):
            host.run("work", lambda opened: opened)
    assert libvirtd.asked == 1
    libvirtd.goes_on.set()
    monkeypatch.setattr(connection, "_ANSWER_SECONDS", PATIENCE)
    assert host.run("work", lambda opened: opened) is libvirtd.opened[0]


def broken(opened: Opened) -> Callable[[], None]:
    opened.alive = False
    raise libvirt.libvirtError("connection closed due to keepalive timeout")


def test_what_broke_is_used_no_more_and_its_work_done_again(host: Connection, libvirtd: Libvirtd) -> None:
    first = host.run("work", lambda opened: opened)
    assert host.run("work", lambda opened: broken(opened) if opened is first else opened) is libvirtd.opened[1]
    with pytest.raises(OperationRefused, match="keepalive timeout"):
        host.run("work", broken)
    assert host.run("work", lambda opened: opened) is libvirtd.opened[-1]
    assert len(libvirtd.opened) == 4


def test_what_libvirt_refuses_costs_no_connection(host: Connection, libvirtd: Libvirtd) -> None:
    def refuse(_opened: Any) -> None:
        raise libvirt.libvirtError("no such domain")

    for _ in range(2):
        with pytest.raises(OperationRefused, match="no such domain"):
            host.run("work", refuse)
    assert libvirtd.asked == 1
