"""What becomes of guests between their arrival and the end of the migration, and of what lay about before."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from minova.exception import DriverError, GuestNotFound, HostUnusable, MigrationAborted, OperationRefused
from minova.objects import Instance, MigrationOptions, MigrationProgress
from minova.virt.driver import ComputeDriver
from minova.virt.libvirt import preparation
from tests.contract.rig import DATA, RUNNING, SHUTDOWN, UUID, Interrupted, Progress, prepare, state
from tests.fixtures.lab import wait_until
from tests.fixtures.virt.rig import LibvirtRig

BLOCK = MigrationOptions(block_migration=True)


@pytest.fixture
def apart(rig: LibvirtRig) -> ComputeDriver:
    """The destination, with storage of its own."""
    rig.set("destination", instances_path=str(rig.hosts.b.local / "instances"))
    return rig.driver("destination")


@pytest.fixture
def folder(rig: LibvirtRig) -> Path:
    """Where the guest's files are at such a destination."""
    return rig.hosts.b.local / "instances" / UUID


def arrive(rig: LibvirtRig, driver: ComputeDriver) -> None:
    """Let libvirt of the destination have the domain, as after the move; nobody has told the driver."""
    libvirt.open(rig.hosts.b.uri).defineXML(driver._storage.definition(UUID))


@pytest.mark.parametrize("finished", [True, False])
def test_a_guest_that_goes_off_before_its_migration_is_finished_has_arrived(
    rig: LibvirtRig, apart: ComputeDriver, instance: Instance, folder: Path, finished: bool
) -> None:
    apart.pre_live_migration(instance, BLOCK, DATA)
    assert state(apart) is None
    arrive(rig, apart)
    assert state(apart) is SHUTDOWN
    apart.rollback_live_migration_at_destination(UUID)
    assert (folder / "disk").exists()
    if finished:
        apart.post_live_migration_at_destination(instance)
    assert (state(apart), (folder / "owner").read_text()) == (SHUTDOWN, "destination\n")
    apart.destroy(UUID, home="destination")
    assert not folder.exists()


def test_a_guest_that_is_still_arriving_is_neither_made_nor_taken_away(
    rig: LibvirtRig, source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    options = rig.never_converge()
    source.spawn(instance)
    data, told = prepare(source, destination, instance, options), []

    def roll_back(progress: MigrationProgress) -> None:
        if progress.total_bytes and not told:
            with pytest.raises(HostUnusable, match="still arriving") as caught:
                destination.rollback_live_migration_at_destination(UUID)
            told.append(caught.value.message)
            with pytest.raises(OperationRefused, match="its live migration to here has not ended"):
                destination.spawn(instance)
            source.live_migration_abort(UUID)

    with pytest.raises(MigrationAborted):
        source.live_migration(instance, "destination", options, data, roll_back)
    assert told
    destination.rollback_live_migration_at_destination(UUID)
    assert (state(source), destination.list_guests()) == (RUNNING, ())


def test_a_disk_that_lies_about_is_not_what_a_disk_is_copied_to(
    rig: LibvirtRig, apart: ComputeDriver, instance: Instance, folder: Path
) -> None:
    apart.spawn(replace(instance, host="destination"), power_on=False)
    with pytest.raises(OperationRefused, match="has a guest of this instance already"):
        apart.pre_live_migration(instance, BLOCK, DATA)
    apart._guests.forget(UUID)
    (folder / "disk").write_text("an old one")
    apart.pre_live_migration(instance, BLOCK, DATA)
    assert (folder / "disk").read_bytes().startswith(b"QFI")
    arrive(rig, apart)
    (folder / "disk").write_text("what has been copied")
    with pytest.raises(OperationRefused, match="has a guest of this instance already"):
        apart.pre_live_migration(instance, BLOCK, DATA)
    apart.rollback_live_migration_at_destination(UUID)
    assert (folder / "disk").read_text() == "what has been copied"


def test_a_disk_that_both_hosts_have_is_not_copied_onto_itself(
    source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    source.spawn(instance, power_on=False)
    with pytest.raises(OperationRefused, match="source has the same storage"):
        destination.pre_live_migration(instance, BLOCK, DATA)
    source.power_on(UUID)
    assert state(source) is RUNNING


def test_a_folder_alone_is_no_guest_that_has_arrived(apart: ComputeDriver, instance: Instance, folder: Path) -> None:
    apart.spawn(replace(instance, host="destination"), power_on=False)
    apart._guests.forget(UUID)
    assert state(apart) is SHUTDOWN
    with pytest.raises(GuestNotFound):
        apart.post_live_migration_at_destination(instance)
    apart.rollback_live_migration_at_destination(UUID)
    assert (folder / "disk").exists()
    apart.pre_live_migration(instance, BLOCK, DATA)
    apart.rollback_live_migration_at_destination(UUID)
    assert not folder.exists()


def test_an_evacuation_without_the_disk_is_refused_and_leaves_nothing(
    source: ComputeDriver, apart: ComputeDriver, instance: Instance, folder: Path
) -> None:
    source.spawn(instance, power_on=False)
    with pytest.raises(OperationRefused, match=r"the disk that the guest had on source is not in .*: mount what both"):
        apart.spawn(instance)
    assert (apart.list_guests(), folder.exists()) == ((), False)
    for host in (None, "destination"):
        apart.spawn(replace(instance, host=host), power_on=False)
        assert state(apart) is SHUTDOWN


def test_an_evacuation_makes_no_other_disk_of_one_that_is_not_to_be_seen(
    source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    source.spawn(instance, power_on=False)
    source._storage.disk(UUID).unlink()
    with pytest.raises(OperationRefused, match=f"is not in {source._storage.folder(UUID)}: mount what both"):
        destination.spawn(replace(instance, host="source"))
    assert (source._storage.owner(UUID), destination.list_guests()) == ("source", ())


@pytest.mark.parametrize("known", [(), ("source",), ("destination",)])
def test_hosts_that_do_not_know_that_they_share_a_disk_do_not_harm_it(
    source: ComputeDriver, destination: ComputeDriver, instance: Instance, known: tuple[str, ...]
) -> None:
    """The folder was mounted after their computes had started."""
    source.spawn(instance)
    disk, hosts = source._storage.disk(UUID), source._storage.root / ".hosts"
    for host in {"source", "destination"} - {*known}:
        (hosts / host).unlink()
    for options in (BLOCK, MigrationOptions()):
        for ask in (prepare, lambda _source, there, *how: there.pre_live_migration(*how, DATA)):
            with suppress(DriverError):
                ask(source, destination, instance, options)
            destination.rollback_live_migration_at_destination(UUID)
            assert (state(source), disk.exists(), source._storage.owner(UUID)) == (RUNNING, True, "source")


def test_a_disk_that_came_unnoticed_is_not_made_anew_when_its_host_dies(
    rig: LibvirtRig, destination: ComputeDriver, instance: Instance
) -> None:
    elsewhere = replace(instance, host="apart")
    destination.pre_live_migration(elsewhere, BLOCK, DATA)
    disk = destination._storage.disk(UUID)
    disk.write_text("what has been copied")
    third = rig.driver("source")
    third.rollback_live_migration_at_destination(UUID)
    with suppress(DriverError):
        third.spawn(replace(instance, host="destination"))
    assert disk.read_text() == "what has been copied"
    third.destroy(UUID, home="destination")
    assert (disk.read_text(), third._storage.owner(UUID)) == ("what has been copied", "destination")


def test_a_definition_of_a_guest_that_is_elsewhere_goes_with_its_console(
    rig: LibvirtRig, source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    source.spawn(instance, power_on=False)
    log = source._storage.console(UUID)
    log.write_text("secret")
    destination.spawn(replace(instance, host="source"), power_on=False)
    assert (state(source), log.exists(), state(destination)) == (None, False, SHUTDOWN)
    assert not libvirt.open(rig.hosts.a.uri).listAllDomains()


def test_what_awaits_a_guest_that_never_comes_is_removed(
    apart: ComputeDriver, instance: Instance, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart.pre_live_migration(instance, BLOCK, DATA)
    apart.manage_image_cache()
    assert folder.exists()
    monkeypatch.setattr(preparation, "_NEVER_COMES_SECONDS", -1.0)
    apart.manage_image_cache()
    assert not folder.exists()


def test_what_a_guest_wrote_does_not_stay_though_nobody_saw_it_leave(
    source: ComputeDriver, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.spawn(instance, power_on=False)
    log = source._storage.console(UUID)
    log.write_text("secret")
    source._storage.hand_over(UUID, "apart")
    source._guests.forget(UUID)
    source.manage_image_cache()
    assert log.exists()
    monkeypatch.setattr(preparation, "_NEVER_COMES_SECONDS", -1.0)
    source._storage.hand_over(UUID, "source")
    source.manage_image_cache()
    assert log.exists()
    source._storage.hand_over(UUID, "apart")
    source.manage_image_cache()
    assert not log.exists()


def test_a_host_that_does_not_see_the_disk_makes_no_other(
    rig: LibvirtRig, source: ComputeDriver, apart: ComputeDriver, instance: Instance, folder: Path
) -> None:
    source.spawn(instance, power_on=False)
    with pytest.raises(OperationRefused, match=f"the guest has on source is not in {folder}: is it mounted"):
        apart.pre_live_migration(instance, MigrationOptions(), DATA)
    assert not folder.exists()
    rig.set("destination", instances_path=rig.conf("source").libvirt.instances_path)
    destination, disk = rig.driver("destination"), source._storage.disk(UUID)
    destination.pre_live_migration(instance, MigrationOptions(), DATA)
    disk.unlink()
    with pytest.raises(OperationRefused, match="is it mounted"):
        destination.pre_live_migration(instance, MigrationOptions(), DATA)
    assert not disk.exists()


def test_a_guest_that_libvirt_has_moved_alone_is_safe_from_where_it_was(
    rig: LibvirtRig, source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    options = MigrationOptions(bandwidth_mib=40)
    source.spawn(instance)
    data = prepare(source, destination, instance, options)
    with pytest.raises(Interrupted):
        source.live_migration(instance, "destination", options, data, Progress(interrupt=True))
    wait_until(lambda: not libvirt.open(rig.hosts.a.uri).listAllDomains(), "the end of the migration")
    after, disk = rig.driver("source"), source._storage.disk(UUID)
    assert after.list_guests() == ()
    assert state(after) is None
    with pytest.raises(GuestNotFound):
        after.power_on(UUID)
    after.destroy(UUID)
    assert (disk.exists(), state(destination)) == (True, RUNNING)
    destination.destroy(UUID)
    assert not disk.exists()


@pytest.mark.parametrize("off", [False, True])
def test_a_host_that_sees_a_guest_which_has_come_takes_its_files(
    rig: LibvirtRig, source: ComputeDriver, destination: ComputeDriver, instance: Instance, off: bool
) -> None:
    source.spawn(instance)
    source._storage.note_destination(UUID, "destination", post_copy=False)
    definition = source._storage.definition(UUID)
    assert state(source) is RUNNING
    source._guests.forget(UUID)
    arrived = libvirt.open(rig.hosts.b.uri).defineXML(definition)
    if not off:
        arrived.create()
    assert state(destination) is (SHUTDOWN if off else RUNNING)
    assert (source._storage.owner(UUID), source.list_guests()) == ("destination", ())
