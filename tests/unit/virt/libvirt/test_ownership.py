"""Whose disk a guest is made with on another host than it was on, and which is left alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("libvirt")

from minova.exception import OperationRefused
from minova.virt.libvirt import builder
from tests.contract.rig import SHUTDOWN, UUID, make_instance, state
from tests.unit.virt.libvirt.rig import OFF, Host


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Host]:
    """Make hosts that share the storage."""

    def create_disk(disk: Path, *_: Any) -> None:
        if not disk.exists():
            disk.write_text("a fresh one")

    def make(name: str) -> Host:
        host = Host(tmp_path, name, "shared", monkeypatch)
        host.can_make_guests()
        return host

    monkeypatch.setattr(builder, "create_disk", create_disk)
    return make


@pytest.fixture
def a(make: Callable[[str], Host]) -> Host:
    """A host that has a guest with a disk."""
    a = make("a")
    a.storage.take(UUID)
    a.storage.disk(UUID).write_text("disk")
    return a


@pytest.fixture
def b(make: Callable[[str], Host], a: Host) -> Host:
    """A host that evacuates the guest, and is lost before that has ended."""
    b = make("b")
    b.driver.spawn(make_instance(host="a"), power_on=False)
    return b


@pytest.fixture
def c(make: Callable[[str], Host], b: Host) -> Host:
    """A host that is to have it after both are lost."""
    return make("c")


def test_a_guest_of_which_a_second_host_is_lost_is_evacuated_to_a_third(a: Host, c: Host) -> None:
    c.driver.spawn(make_instance(host="a"), power_on=False)
    assert (state(c.driver), c.storage.owner(UUID), c.storage.disk(UUID).read_text()) == (SHUTDOWN, "c", "disk")
    assert a.driver.list_guests() == ()


def test_an_evacuation_to_a_third_host_is_undone_to_where_the_guest_lives(a: Host, b: Host, c: Host) -> None:
    c.driver.spawn(make_instance(host="a"), power_on=False)
    c.driver.destroy(UUID, home="a")
    assert (state(a.driver), c.storage.owner(UUID), c.storage.disk(UUID).read_text()) == (SHUTDOWN, "a", "disk")
    # The second one returns, and has to destroy what it has.
    assert b.driver.list_guests() == ()
    b.driver.destroy(UUID)
    assert (a.storage.owner(UUID), a.storage.disk(UUID).read_text()) == ("a", "disk")


def test_a_guest_that_lives_on_the_second_host_goes_back_to_that(b: Host, c: Host) -> None:
    c.driver.spawn(make_instance(host="b"), power_on=False)
    c.driver.destroy(UUID, home="b")
    assert (c.storage.owner(UUID), c.storage.disk(UUID).read_text()) == ("b", "disk")


def test_a_disk_that_has_another_owner_is_left_to_that_one_and_it_is_told_what_to_do(b: Host, c: Host) -> None:
    b.storage.settle(UUID)
    with pytest.raises(OperationRefused, match="the guest had on a is b's now: if it does not run there, write a to /"):
        c.driver.spawn(make_instance(host="a"), power_on=False)
    assert (c.driver.list_guests(), c.storage.owner(UUID)) == ((), "b")
    (c.storage.folder(UUID) / "owner").write_text("a")
    c.driver.spawn(make_instance(host="a"), power_on=False)
    assert c.storage.disk(UUID).read_text() == "disk"


@pytest.mark.parametrize("noticed", [True, False])
def test_a_guest_that_had_gone_to_a_lost_host_is_rebuilt_with_a_fresh_disk(
    a: Host, make: Callable[[str], Host], noticed: bool
) -> None:
    make("b")
    a.storage.note_destination(UUID, "b", post_copy=False)
    if noticed:
        a.storage.hand_over(UUID, "b")
    lives_here = make_instance(host="a")
    a.driver.destroy(UUID, home="a")
    assert a.storage.disk(UUID).read_text() == "disk"
    a.driver.spawn(lives_here, power_on=False)
    assert (state(a.driver), a.storage.owner(UUID), a.storage.disk(UUID).read_text()) == (SHUTDOWN, "a", "a fresh one")
    a.libvirtd.domain = None
    a.driver.spawn(lives_here, power_on=False)
    assert a.storage.disk(UUID).read_text() == "a fresh one"


def test_a_guest_that_had_gone_elsewhere_is_deleted_there(a: Host, make: Callable[[str], Host]) -> None:
    b = make("b")
    a.storage.note_destination(UUID, "b", post_copy=False)
    b.libvirtd.has(OFF)
    a.driver.destroy(UUID, home="a")
    assert (a.driver.list_guests(), state(b.driver), a.storage.disk(UUID).exists()) == ((), SHUTDOWN, True)
    b.driver.destroy(UUID)
    assert not a.storage.folder(UUID).exists()
