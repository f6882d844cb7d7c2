"""Whose a guest is when its live migration has failed at its very end, or only one host knows that it has not.

What libvirt shows then was seen in ``tests/functional/libvirt/test_failed_arrivals.py``.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

libvirt = pytest.importorskip("libvirt")

from minova.exception import GuestNotFound, HostUnusable, OperationRefused  # noqa: E402
from tests.contract.rig import PAUSED, RUNNING, SHUTDOWN, UUID, make_instance, state  # noqa: E402
from tests.unit.virt.libvirt.rig import COMING, Host  # noqa: E402

BOOTED = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED)
MIGRATED = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED)
RESUMED = (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATION_CANCELED)
FAILED = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_FAILED)
WENT_OFF = [
    (libvirt.VIR_DOMAIN_SHUTOFF, reason)
    for reason in (
        libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN,
        libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED,
        libvirt.VIR_DOMAIN_SHUTOFF_CRASHED,
        libvirt.VIR_DOMAIN_SHUTOFF_UNKNOWN,
    )
]
"""How a guest is that has come and gone off; but for the first, one whose migration has failed may be so, too."""


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Host]:
    return lambda name, storage="shared": Host(tmp_path, name, storage, monkeypatch)


@pytest.fixture
def a(make: Callable[..., Host]) -> Host:
    """A host from which a guest is just being moved to b."""
    a = make("a")
    a.storage.take(UUID)
    a.storage.disk(UUID).write_text("disk")
    a.libvirtd.has(BOOTED)
    a.storage.note_destination(UUID, "b", post_copy=False)
    return a


@pytest.fixture
def b(make: Callable[..., Host], a: Host) -> Host:
    """The other host, which shares the disk."""
    return make("b")


@pytest.fixture
def apart(make: Callable[..., Host], a: Host) -> Host:
    """The other host, to which the disk is copied."""
    b = make("b", "apart")
    b.storage.expect(UUID, "a")
    b.storage.disk(UUID).write_text("what has been copied")
    return b


def test_a_guest_that_libvirt_failed_to_start_runs_on_where_it_was(a: Host, b: Host) -> None:
    a.libvirtd.has(RESUMED)
    b.libvirtd.has(FAILED)
    assert (b.driver.list_guests(), b.libvirtd.domain) == ((), None)
    a.storage.forget_destination(UUID)
    with pytest.raises(GuestNotFound):
        b.driver.post_live_migration_at_destination(make_instance(host="a"))
    b.driver.rollback_live_migration_at_destination(UUID)
    b.driver.destroy(UUID)
    assert (state(a.driver), a.storage.owner(UUID), a.storage.disk(UUID).read_text()) == (RUNNING, "a", "disk")


def test_what_was_copied_for_a_guest_that_libvirt_failed_to_start_is_removed(a: Host, apart: Host) -> None:
    a.libvirtd.has(RESUMED)
    apart.libvirtd.has(FAILED)
    assert state(apart.driver) is None
    apart.driver.rollback_live_migration_at_destination(UUID)
    assert (apart.libvirtd.domain, apart.storage.folder(UUID).exists()) == (None, False)
    assert (state(a.driver), a.storage.disk(UUID).read_text()) == (RUNNING, "disk")


def test_a_guest_that_lives_here_and_could_not_be_started_stays(a: Host, apart: Host) -> None:
    for host in (a, apart):
        host.storage.take(UUID)
        host.storage.forget_destination(UUID)
        host.libvirtd.has(FAILED)
        assert (state(host.driver), host.libvirtd.domain is not None) == (SHUTDOWN, True)


@pytest.mark.parametrize("seen", [MIGRATED, *WENT_OFF])
def test_a_guest_that_both_hosts_have_is_removed_from_one_with_the_disk_left_to_the_other(
    a: Host, b: Host, seen: tuple[int, int]
) -> None:
    """The source never heard that it had come, or it had not, and libvirt there was killed."""
    a.libvirtd.has(RESUMED)
    b.libvirtd.has(seen)
    assert len(b.driver.list_guests()) == 1
    b.driver.rollback_live_migration_at_destination(UUID)
    assert state(b.driver) is not None
    b.driver.destroy(UUID)
    assert (b.driver.list_guests(), b.libvirtd.domain) == ((), None)
    assert (a.storage.owner(UUID), state(a.driver), a.storage.disk(UUID).read_text()) == ("a", RUNNING, "disk")


@pytest.mark.parametrize("seen", [MIGRATED, *WENT_OFF])
def test_a_guest_that_both_hosts_have_is_owned_by_the_one_that_is_told_to_work_on_it(
    a: Host, b: Host, seen: tuple[int, int]
) -> None:
    a.libvirtd.has(RESUMED)
    b.libvirtd.has(seen)
    assert len(b.driver.list_guests()) == 1
    a.driver.unpause(UUID)
    assert a.storage.owner(UUID) == "a"
    b.driver.destroy(UUID)
    assert (a.storage.owner(UUID), state(a.driver), a.storage.disk(UUID).read_text()) == ("a", RUNNING, "disk")
    a.libvirtd.has(WENT_OFF[0])
    assert state(a.driver) is SHUTDOWN


def test_a_guest_that_has_come_is_not_forgotten_if_that_cannot_be_written_down(
    b: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OperationRefused(host="b", operation="spawn", reason="no space left")

    b.libvirtd.has(WENT_OFF[0])
    with monkeypatch.context() as full:
        full.setattr(b.storage, "take", refuse)
        assert len(b.driver.list_guests()) == 1
    assert (len(b.driver.list_guests()), b.storage.owner(UUID)) == (1, "b")


@pytest.mark.parametrize("seen", [MIGRATED, *WENT_OFF])
def test_a_guest_that_has_come_is_kept_for_good_once_its_migration_is_finished(
    a: Host, b: Host, seen: tuple[int, int]
) -> None:
    a.libvirtd.domain = None
    b.libvirtd.has(seen)
    assert (len(b.driver.list_guests()), a.driver.list_guests()) == (1, ())
    b.driver.post_live_migration_at_destination(make_instance(host="b"))
    b.driver.destroy(UUID)
    assert not a.storage.folder(UUID).exists()


@pytest.mark.parametrize("seen", [MIGRATED, *WENT_OFF])
def test_a_guest_that_has_come_with_its_disk_is_kept(a: Host, apart: Host, seen: tuple[int, int]) -> None:
    a.libvirtd.domain = None
    apart.libvirtd.has(seen)
    assert state(apart.driver) is not None
    apart.driver.rollback_live_migration_at_destination(UUID)
    assert (apart.storage.owner(UUID), apart.storage.disk(UUID).read_text()) == ("b", "what has been copied")


@pytest.mark.parametrize("monitor", [libvirt.VIR_DOMAIN_CONTROL_OK, libvirt.VIR_DOMAIN_CONTROL_OCCUPIED])
def test_a_guest_that_is_defined_and_does_not_run_yet_is_still_arriving(
    a: Host, b: Host, apart: Host, monitor: int
) -> None:
    for host in (b, apart):
        host.libvirtd.has(COMING).monitor = monitor
        assert host.driver.list_guests() == ()
        with pytest.raises(HostUnusable, match="still arriving"):
            host.driver.rollback_live_migration_at_destination(UUID)
    assert (a.storage.owner(UUID), apart.storage.owner(UUID)) == ("a", None)


def test_a_guest_that_was_paused_before_it_came_has_come(a: Host, b: Host) -> None:
    b.libvirtd.has((libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER))
    assert (state(b.driver), a.storage.owner(UUID)) == (PAUSED, "b")
