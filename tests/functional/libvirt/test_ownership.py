"""Who has a guest, when its files are where several hosts can reach them."""

from dataclasses import replace
from pathlib import Path

import pytest

from minova.exception import GuestNotFound, OperationRefused
from minova.objects import Instance
from minova.virt.driver import ComputeDriver
from tests.contract.rig import RUNNING, SHUTDOWN, UUID, state
from tests.fixtures.virt.rig import Console, LibvirtRig


class Killed(BaseException):
    """The process ends here."""


def die(*_: object, **_more: object) -> None:
    raise Killed


@pytest.fixture
def disk(rig: LibvirtRig) -> Path:
    return Path(rig.conf("source").libvirt.instances_path) / UUID / "disk"


def test_a_guest_that_was_handed_over_is_not_here_though_the_source_died_at_that(
    rig: LibvirtRig,
    source: ComputeDriver,
    destination: ComputeDriver,
    instance: Instance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source.spawn(instance, power_on=False)
    monkeypatch.setattr(source._guests, "forget", die)
    with pytest.raises(Killed):
        source.migrate_disk_and_power_off(instance, "destination")
    after = rig.driver("source")
    assert (after.list_guests(), state(destination)) == ((), SHUTDOWN)
    with pytest.raises(GuestNotFound):
        after.power_on(UUID)
    after.destroy(UUID)
    destination.finish_migration(instance, power_on=True)
    assert (state(after), state(destination)) == (None, RUNNING)


def test_a_host_that_does_not_share_the_storage_is_refused_before_anything_is_done(
    rig: LibvirtRig, source: ComputeDriver, instance: Instance
) -> None:
    rig.set("destination", instances_path=str(rig.hosts.b.local / "instances"))
    rig.driver("destination")
    source.spawn(instance)
    with pytest.raises(OperationRefused, match="destination does not share"):
        source.migrate_disk_and_power_off(instance, "destination")
    assert state(source) is RUNNING


def evacuate(rig: LibvirtRig, instance: Instance) -> ComputeDriver:
    """Kill the host of a guest that runs, and start it elsewhere; return that host."""
    source, destination = rig.driver("source"), rig.driver("destination")
    source.spawn(instance)
    Console(source).wait_for("disk=6")
    rig.hosts.a.crash()
    destination.spawn(replace(instance, host="source"))
    return destination


def test_an_evacuated_guest_keeps_its_disk_and_its_old_host_cannot_harm_it(
    rig: LibvirtRig, instance: Instance, disk: Path
) -> None:
    destination = evacuate(rig, instance)
    there = Console(destination)
    there.wait_until_ready()
    # The guest writes to its disk at each fifth tick.
    assert there.disk_counters()[0] >= 5
    rig.hosts.up()
    source = rig.driver("source")
    assert source.list_guests() == ()
    source.destroy(UUID)
    assert (state(destination), disk.exists()) == (RUNNING, True)
    destination.destroy(UUID, home="destination")
    assert not disk.parent.exists()


def test_an_evacuation_that_is_undone_gives_the_disk_back(rig: LibvirtRig, instance: Instance, disk: Path) -> None:
    destination = evacuate(rig, instance)
    destination.destroy(UUID, home="source")
    assert destination.list_guests() == ()
    assert disk.exists()
    rig.hosts.up()
    source = rig.driver("source")
    assert state(source) is SHUTDOWN
    source.power_on(UUID)
    Console(source).wait_until_ready()


def test_once_something_was_done_with_an_evacuated_guest_its_disk_goes_with_it(
    rig: LibvirtRig, instance: Instance, disk: Path
) -> None:
    destination = evacuate(rig, instance)
    destination.reboot(UUID, hard=True)
    destination.destroy(UUID)
    assert not disk.parent.exists()


def test_a_spawn_is_finished_by_the_process_after(
    rig: LibvirtRig, source: ComputeDriver, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in ("define", "start"):
        with monkeypatch.context() as patch:
            patch.setattr(source._guests, step, die)
            with pytest.raises(Killed):
                source.spawn(instance)
    after = rig.driver("source")
    after.spawn(instance)
    Console(after).wait_until_ready()


def test_a_destroy_is_finished_by_the_process_after(
    rig: LibvirtRig, source: ComputeDriver, instance: Instance, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.spawn(instance)
    monkeypatch.setattr(source._storage, "remove", die)
    with pytest.raises(Killed):
        source.destroy(UUID)
    after = rig.driver("source")
    assert state(after) is SHUTDOWN
    after.destroy(UUID)
    assert after.list_guests() == ()
    assert not disk.parent.exists()


def test_a_guest_whose_files_cannot_be_read_is_where_its_domain_is(
    source: ComputeDriver, destination: ComputeDriver, instance: Instance, disk: Path
) -> None:
    source.spawn(instance)
    for name in ("owner", "migrating_to", "expected_from"):
        (disk.parent / name).unlink(missing_ok=True)
        (disk.parent / name).mkdir()
    assert (state(source), [guest.uuid for guest in source.list_guests()]) == (RUNNING, [UUID])
    assert destination.list_guests() == ()
    source._guests.cut_off(UUID)
    assert [guest.power_state for guest in source.list_guests()] == [SHUTDOWN]
    assert destination.list_guests() == ()
    with pytest.raises(OperationRefused, match="owner: Is a directory"):
        source.destroy(UUID)
    assert disk.exists()
