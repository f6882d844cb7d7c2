"""What real guests are made from: disks of both formats, a CD for cloud-init, and a cache that keeps what they use."""

import hashlib
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from minova.exception import OperationRefused
from minova.objects import Image, ImageFile, Instance
from minova.states import DiskFormat
from minova.virt.driver import ComputeDriver
from minova.virt.libvirt.driver import LibvirtDriver
from tests.contract.rig import OTHER, UUID
from tests.fixtures.virt.rig import CMDLINE, Console, LibvirtRig

USER_DATA = "#cloud-config\npassword: gehêim <&\"'>\n"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@home"


def published(path: Path) -> ImageFile:
    return ImageFile(location=str(path), sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def converted(rig: LibvirtRig, *arguments: str) -> ImageFile:
    """Return the test guest's disk, as qemu-img makes it anew."""
    path = rig.hosts.shared / "images" / "converted"
    subprocess.run(["qemu-img", "convert", "-q", *arguments, rig.image().disk.location, str(path)], check=True)
    return published(path)


def base_images(rig: LibvirtRig) -> dict[str, Path]:
    folder = Path(rig.conf("source").libvirt.image_cache_path)
    return {path.name: path for path in folder.iterdir() if not path.name.startswith(".")}


def let_it_be_long_ago(rig: LibvirtRig) -> None:
    """Let no image have been used for long."""
    for path in base_images(rig).values():
        os.utime(path, (0, 0))


def files_of(image: Image | None) -> set[str]:
    assert image is not None
    return {file.sha256 for file in (image.disk, image.kernel, image.initrd) if file is not None}


def test_a_guest_finds_its_user_data_and_keys(rig: LibvirtRig, source: ComputeDriver, instance: Instance) -> None:
    image = rig.image(f"{CMDLINE} seed")
    source.spawn(replace(instance, name="Wéb 1", image=image, user_data=USER_DATA, ssh_keys=(KEY,)))
    console = Console(source)
    console.wait_until_ready()
    told = [line.removeprefix("GUEST-SEED ") for line in console.read().splitlines() if "GUEST-SEED" in line]
    seen = "\n".join(told)
    for expected in (f'"instance-id": "{UUID}"', '"local-hostname": "web-1"', KEY, USER_DATA.strip()):
        assert expected in seen
    seed = Path(rig.conf("source").libvirt.instances_path) / UUID / "seed.iso"
    assert seed.stat().st_mode & 0o077 == 0


def test_a_guest_of_a_raw_image_counts_on_its_disk(rig: LibvirtRig, source: ComputeDriver, instance: Instance) -> None:
    raw = replace(rig.image(), disk_format=DiskFormat.RAW, disk=converted(rig, "-O", "raw"))
    source.spawn(replace(instance, image=raw))
    console = Console(source)
    console.wait_for("disk=5")
    assert base_images(rig)[raw.disk.sha256].read_bytes() == Path(raw.disk.location).read_bytes(), "it was written to"


def test_guests_that_are_made_at_once_share_one_image(
    rig: LibvirtRig, source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    other = replace(instance, uuid=OTHER, host="destination")
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(source.spawn, instance), pool.submit(destination.spawn, other)]
        for each in made:
            each.result()
    Console(source).wait_until_ready()
    Console(destination, OTHER).wait_until_ready()
    assert set(base_images(rig)) == files_of(instance.image)


@pytest.mark.parametrize("disk_format", list(DiskFormat))
def test_an_image_that_leads_to_files_of_the_host_makes_no_guest(
    rig: LibvirtRig, source: ComputeDriver, instance: Instance, disk_format: DiskFormat
) -> None:
    path = rig.hosts.shared / "images" / "evil"
    rig.image()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", str(path)], check=True)
    evil = replace(rig.image(), disk_format=disk_format, disk=published(path))
    with pytest.raises(OperationRefused, match=f"image tiny must not be used as {disk_format}: "):
        source.spawn(replace(instance, image=evil))
    source.destroy(UUID)
    assert source.get_guest(UUID) is None


def test_what_a_guest_cannot_be_made_from_is_told_while_it_is_as_it_was(
    rig: LibvirtRig, source: ComputeDriver, instance: Instance
) -> None:
    source.check_can_spawn(instance)
    assert set(base_images(rig)) == files_of(instance.image)
    assert source.list_guests() == ()
    assert not (Path(rig.conf("source").libvirt.instances_path) / UUID).exists()
    gone = replace(rig.image(), disk=ImageFile(location="/nowhere", sha256="0" * 64))
    for refused in ({"image": gone}, {"network": "br7"}, {"disk_gb": 0}):
        with pytest.raises(OperationRefused):
            source.check_can_spawn(replace(instance, **refused))


def clean_up(driver: ComputeDriver) -> None:
    assert isinstance(driver, LibvirtDriver)
    driver.manage_image_cache()


def test_what_a_guest_of_any_host_needs_is_kept_and_no_more(
    rig: LibvirtRig, source: ComputeDriver, destination: ComputeDriver, instance: Instance
) -> None:
    disk = converted(rig, "-O", "qcow2", "-o", "cluster_size=4k")
    other = replace(instance, uuid=OTHER, host="destination", image=replace(rig.image(), disk=disk))
    source.spawn(instance)
    destination.spawn(other, power_on=False)
    source.power_off(UUID)
    let_it_be_long_ago(rig)
    for driver in (source, destination):
        clean_up(driver)
    assert set(base_images(rig)) == files_of(instance.image) | {disk.sha256}
    source.power_on(UUID)
    Console(source).wait_until_ready()
    destination.destroy(OTHER)
    let_it_be_long_ago(rig)
    clean_up(destination)
    assert set(base_images(rig)) == files_of(instance.image)
