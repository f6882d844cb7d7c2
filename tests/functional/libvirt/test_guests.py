"""Guests that really boot: what they notice of what is done to them."""

from dataclasses import replace
from pathlib import Path

import pytest

from minova.exception import DriverError, OperationRefused
from minova.objects import Guest, Instance
from minova.virt.driver import ComputeDriver
from tests.contract.rig import OTHER, PAUSED, RUNNING, SHUTDOWN, UUID, state
from tests.fixtures.lab import wait_until
from tests.fixtures.virt.rig import CMDLINE, READY, Console, LibvirtRig

POWER_BUTTON = "GUEST-POWERBUTTON"

HOSTILE = "</name><devices>&amp; \"'$(touch x)`\u202e\u00e9\ud7ff ../../etc"


@pytest.fixture
def rig(rig: LibvirtRig) -> LibvirtRig:
    """Hosts that are patient with guests."""
    for host in ("source", "destination"):
        rig.set(host, shutdown_timeout=60, wait_soft_reboot_seconds=60)
    return rig


@pytest.fixture
def console(source: ComputeDriver, instance: Instance) -> Console:
    """The console of a guest that listens."""
    source.spawn(instance)
    console = Console(source)
    console.wait_until_ready()
    return console


def test_a_guest_that_is_stopped_shuts_itself_down(source: ComputeDriver, console: Console) -> None:
    source.power_off(UUID)
    assert POWER_BUTTON in console.read()
    assert state(source) is SHUTDOWN


def test_a_guest_keeps_its_disk(source: ComputeDriver, console: Console) -> None:
    console.wait_for("disk=5")
    source.power_off(UUID)
    last = console.disk_counters()[-1]
    source.power_on(UUID)
    console.wait_until_ready(boots=2)
    assert console.disk_counters()[-1] >= last


def test_a_guest_that_does_not_listen_is_stopped_in_time(
    rig: LibvirtRig, source: ComputeDriver, instance: Instance
) -> None:
    rig.set("source", shutdown_timeout=1)
    source.spawn(replace(instance, image=rig.image(f"{CMDLINE} deaf")))
    Console(source).wait_until_ready()
    source.power_off(UUID)
    assert state(source) is SHUTDOWN


def test_a_soft_reboot_shuts_the_guest_down_first(source: ComputeDriver, console: Console) -> None:
    source.reboot(UUID, hard=False)
    console.wait_until_ready(boots=2)
    assert console.text.count(POWER_BUTTON) == 1


def test_a_hard_reboot_does_not_ask(source: ComputeDriver, console: Console) -> None:
    source.reboot(UUID, hard=True)
    console.wait_until_ready(boots=2)
    assert POWER_BUTTON not in console.text


def test_a_soft_reboot_is_finished_by_the_process_after(
    rig: LibvirtRig, source: ComputeDriver, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(_uuid: str) -> None:
        raise Killed

    monkeypatch.setattr(source._guests, "start", die)
    with pytest.raises(Killed):
        source.reboot(UUID, hard=False)
    assert state(source) is SHUTDOWN
    after = rig.driver("source")
    after.reboot(UUID, hard=False)
    assert state(after) is RUNNING
    after.power_off(UUID)
    with pytest.raises(OperationRefused, match="shutdown"):
        after.reboot(UUID, hard=False)


def test_a_paused_guest_stands_still(source: ComputeDriver, console: Console) -> None:
    source.pause(UUID)
    before = console.read()
    assert console.read() == before
    source.unpause(UUID)
    console.wait_for("tick=", before.count("tick=") + 2)
    assert console.text.count(READY) == 1


def test_a_guest_that_shuts_itself_down_is_told_at_once(source: ComputeDriver, console: Console) -> None:
    seen = []
    stop = source.watch_guests(lambda: seen.append(state(source)))
    try:
        wait_until(lambda: seen == [RUNNING], "the watch")
        press_power_button(source)
        wait_until(lambda: seen[-1] is SHUTDOWN, "the end of the guest")
    finally:
        stop()


def test_the_watch_survives_a_restart_of_libvirtd(rig: LibvirtRig, source: ComputeDriver, console: Console) -> None:
    seen = []
    stop = source.watch_guests(lambda: seen.append(state(source)))
    try:
        wait_until(lambda: seen, "the watch")
        rig.hosts.a.restart_libvirtd()
        told = len(seen)
        source.pause(UUID)
        wait_until(lambda: PAUSED in seen[told:] or seen[-1] is PAUSED, "the pause")
    finally:
        stop()


def press_power_button(driver: ComputeDriver) -> None:
    """Have the guest shut itself down, as if its own user had asked for that."""
    driver._guests.on_domain("test", UUID, lambda domain: domain.shutdown())


def test_cold_migration_takes_the_disk_along(
    source: ComputeDriver, destination: ComputeDriver, instance: Instance, console: Console
) -> None:
    console.wait_for("disk=5")
    last = console.disk_counters()[-1]
    source.migrate_disk_and_power_off(instance, "destination")
    destination.finish_migration(instance, power_on=True)
    there = Console(destination)
    there.wait_until_ready()
    assert there.disk_counters()[0] >= last > 0


def test_a_guest_that_was_handed_over_can_be_started_before_its_migration_is_finished(
    source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    source.spawn(instance, power_on=False)
    source.migrate_disk_and_power_off(instance, "destination")
    assert destination.list_guests() == (Guest(uuid=UUID, name="web", power_state=SHUTDOWN),)
    destination.power_on(UUID)
    assert state(destination) is RUNNING


def test_a_guest_that_comes_back_begins_its_console_anew(
    source: ComputeDriver, destination: ComputeDriver, instance: Instance, console: Console
) -> None:
    source.migrate_disk_and_power_off(instance, "destination")
    destination.finish_migration(instance, power_on=False)
    destination.migrate_disk_and_power_off(instance, "source")
    source.finish_migration(instance, power_on=False)
    assert source.console_output(UUID, 0).text == ""


def test_names_are_text(source: ComputeDriver, instance: Instance, rig: LibvirtRig) -> None:
    hostile = replace(instance, name=HOSTILE, image=rig.image(f"{CMDLINE} x='</cmdline>&lt;' \",-snapshot"))
    source.spawn(hostile)
    assert source.list_guests() == (Guest(uuid=UUID, name=HOSTILE, power_state=RUNNING),)
    source.power_off(UUID)
    source.destroy(UUID)
    assert source.list_guests() == ()


@pytest.mark.parametrize("uuid", ["../../etc", "", ".", "/etc/passwd", f"{UUID}/..", f"{OTHER[:-1]}A"])
def test_what_is_no_uuid_is_refused(source: ComputeDriver, instance: Instance, uuid: str) -> None:
    with pytest.raises(DriverError):
        source.spawn(replace(instance, uuid=uuid))
    with pytest.raises(DriverError):
        source.destroy(uuid)
    assert source.list_guests() == ()


def test_a_network_that_is_not_there_is_refused_and_leaves_nothing(
    rig: LibvirtRig, source: ComputeDriver, instance: Instance
) -> None:
    with pytest.raises(OperationRefused, match="neither an active libvirt network nor a bridge br7"):
        source.spawn(replace(instance, network="br7"))
    assert source.get_guest(UUID) is None
    assert not (instances(rig) / UUID).exists()


def instances(rig: LibvirtRig) -> Path:
    """Return the folder of the guests' files."""
    return Path(rig.conf("source").libvirt.instances_path)


def test_a_disk_that_is_too_small_for_its_image_is_refused(source: ComputeDriver, instance: Instance) -> None:
    with pytest.raises(OperationRefused, match="needs a disk of 1 GiB, and it has one of 0"):
        source.spawn(replace(instance, disk_gb=0))


def test_destroy_leaves_nothing(rig: LibvirtRig, source: ComputeDriver, instance: Instance) -> None:
    source.spawn(instance)
    source.spawn(replace(instance, uuid=OTHER), power_on=False)
    source.destroy(UUID)
    assert not (instances(rig) / UUID).exists()
    assert not list(Path(rig.conf("source").libvirt.console_path).glob(f"{UUID}*"))
    assert (instances(rig) / OTHER / "disk").exists()


def test_a_guest_boots_from_its_disk_and_has_a_cd_if_there_is_something_to_read(
    rig: LibvirtRig, source: ComputeDriver, instance: Instance
) -> None:
    source.spawn(replace(instance, image=rig.bootable(), user_data="#cloud-config\n{}\n"))
    Console(source).wait_until_ready()
    assert (instances(rig) / UUID / "seed.iso").stat().st_mode & 0o077 == 0
    for disk in ("vda", "hda"):
        assert source._guests.on_domain("test", UUID, lambda domain, disk=disk: domain.blockInfo(disk))
