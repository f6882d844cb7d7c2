"""The cache of images: whole files or none, each fetched once, and kept for as long as it is used."""

import errno
import hashlib
import os
import shutil
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filelock import FileLock
from oslo_config import cfg

from minova import location
from minova.exception import DriverError, InsufficientResources, OperationRefused
from minova.objects import Image, ImageFile, utcnow
from minova.states import DiskFormat
from minova.virt.libvirt.images import ImageCache

CONTENT = b"not quite a disk" * 1000
DAY = 86400


def a_file(path: Path, content: bytes = CONTENT) -> ImageFile:
    path.write_bytes(content)
    return ImageFile(location=str(path), sha256=hashlib.sha256(content).hexdigest())


def overlay(path: Path, backing: Path) -> None:
    name = str(backing).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack(">4sIQI", b"QFI\xfb", 3, 512, len(name)).ljust(512, b"\0") + name)


class Site:
    """Hosts that share their disks and their images."""

    def __init__(self, conf: cfg.ConfigOpts, root: Path) -> None:
        self.conf, self.root = conf, root
        self.instances, self.folder = root / "instances", root / "instances" / "_base"
        self.cache = self.host("host1")

    def host(self, name: str) -> ImageCache:
        shares = self.instances / ".hosts"
        shares.mkdir(parents=True, exist_ok=True)
        (shares / name).touch()
        return ImageCache(self.conf, name, self.folder, self.instances)

    def cached(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir() if not path.name.startswith("."))

    def file(self, name: str = "image", content: bytes = CONTENT) -> ImageFile:
        return a_file(self.root / name, content)

    def fetch(self, name: str = "image", content: bytes = CONTENT, *, days_ago: float = 0) -> Path:
        path = self.cache.fetch(self.file(name, content))
        then = time.time() - days_ago * DAY
        os.utime(path, (then, then))
        return path


@pytest.fixture
def site(conf: cfg.ConfigOpts, tmp_path: Path) -> Site:
    return Site(conf, tmp_path)


def refusal(site: Site, file: ImageFile, kind: type[DriverError] = OperationRefused) -> str:
    with pytest.raises(kind) as refused:
        site.cache.fetch(file)
    assert site.cached() == []
    assert "\n" not in refused.value.message
    return refused.value.message


def test_file_is_copied_under_the_name_of_its_digest(site: Site) -> None:
    file = site.file()
    path = site.cache.fetch(file)
    assert path == site.folder / file.sha256
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_is_there_is_not_fetched_again(site: Site) -> None:
    file = site.file()
    path = site.cache.fetch(file)
    Path(file.location).unlink()
    assert site.cache.fetch(file) == path
    assert site.host("host2").fetch(file) == path


def test_other_content_is_refused(site: Site) -> None:
    file = site.file()
    Path(file.location).write_bytes(b"changed")
    found = hashlib.sha256(b"changed").hexdigest()
    assert refusal(site, file) == (
        f"fetching an image on host host1: {file.location}: its SHA-256 digest is {found}, not {file.sha256}: "
        "if it was changed on purpose, add it as a new image"
    )


def test_missing_file_is_refused(site: Site) -> None:
    file = ImageFile(location=str(site.root / "none"), sha256="0" * 64)
    told = f"fetching an image on host host1: {site.root}/none: No such file or directory"
    assert refusal(site, file) == told


@pytest.mark.parametrize("sha256", ["../../etc/passwd", "", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_no_digest_leads_out_of_the_folder(site: Site, sha256: str) -> None:
    site.folder.mkdir()
    assert "is no SHA-256 digest" in refusal(site, ImageFile(location=site.file().location, sha256=sha256))


def test_link_in_its_place_is_not_followed(site: Site) -> None:
    file, other = site.file(), site.root / "other"
    other.write_bytes(b"secret")
    site.folder.mkdir()
    (site.folder / file.sha256).symlink_to(other)
    assert site.cache.fetch(file).read_bytes() == CONTENT
    assert other.read_bytes() == b"secret"


def test_what_a_killed_process_has_left_does_no_harm(site: Site) -> None:
    file = site.file()
    site.folder.mkdir()
    (site.folder / f"{file.sha256}.part").write_bytes(b"x" * 10**6)
    assert site.cache.fetch(file).read_bytes() == CONTENT
    assert site.cached() == [file.sha256]


def test_server_that_comes_to_no_end_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    end = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield CONTENT[:1]
        end.wait()
        yield CONTENT[1:]

    @contextmanager
    def opened(_where: str, _timeout: float) -> Iterator[location.Source]:
        yield location.Source(size=None, chunks=chunks())

    site.conf.set_override("fetch_time_limit", 1, group="image_cache")
    file = site.file()
    with monkeypatch.context() as patch:
        patch.setattr(location, "opened", opened)
        assert "/image: not fetched within 1 s ([image_cache] fetch_time_limit)" in refusal(site, file)
    path = site.host("host2").fetch(file)
    [left] = [thread for thread in threading.enumerate() if thread.name == "image-fetch"]
    end.set()
    left.join()
    assert path.read_bytes() == CONTENT, "what came too late was written to it"


def free(monkeypatch: pytest.MonkeyPatch, *mib: int) -> None:
    left = list(mib)
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: SimpleNamespace(free=(left.pop(0) if left[1:] else left[0]) << 20)
    )


def test_without_room_another_host_is_tried(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 1000)
    file = site.file()
    assert refusal(site, file, InsufficientResources) == (
        f"host host1 refuses the guest: no room for {file.location} (0 MiB) in {site.folder}: 1000 MiB are free, "
        "and 1024 MiB have to stay so ([image_cache] reserved_disk_mb)"
    )


def test_room_that_ends_half_way(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 2000, 900)
    assert "900 MiB are free" in refusal(site, site.file(content=bytes(65 << 20)), InsufficientResources)


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.ENOSPC, InsufficientResources), (errno.EDQUOT, InsufficientResources), (errno.EIO, OperationRefused)],
)
def test_disk_that_fails(site: Site, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[DriverError]) -> None:
    def fsync(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fsync)
    assert os.strerror(code) in refusal(site, site.file(), kind)


def test_folder_that_cannot_be_made(site: Site) -> None:
    site.folder.write_text("a file is in the way")
    with pytest.raises(OperationRefused, match="cannot be kept in"):
        site.cache.fetch(site.file())


def an_image(site: Site, **more: Any) -> Image:
    raw = {
        "uuid": "1" * 8,
        "name": "cirros",
        "disk_format": DiskFormat.RAW,
        "disk": site.file(),
        "created_at": utcnow(),
    }
    return Image(**{**raw, **more})


def test_image_is_fetched_with_all_its_files(site: Site) -> None:
    kernel, initrd = site.file("kernel", b"k"), site.file("initrd", b"i")
    image, folder = an_image(site, kernel=kernel, initrd=initrd), site.instances / "vm"
    folder.mkdir()
    cached = site.cache.fetch_image(image, folder)
    assert (cached.disk.name, cached.disk_bytes) == (image.disk.sha256, len(CONTENT))
    assert cached.kernel
    assert cached.initrd
    assert (cached.kernel.read_bytes(), cached.initrd.read_bytes()) == (b"k", b"i")
    for path in (cached.disk, cached.kernel, cached.initrd):
        os.utime(path, (0, 0))
    assert site.cache.clean_up() == []


def test_image_that_is_something_else_is_refused_by_its_name(site: Site) -> None:
    overlay(site.root / "odd", Path("/etc/passwd"))
    disk = a_file(site.root / "odd", (site.root / "odd").read_bytes())
    (site.instances / "vm").mkdir()
    with pytest.raises(OperationRefused, match="image cirros must not be used as raw: its content is qcow2"):
        site.cache.fetch_image(an_image(site, disk=disk), site.instances / "vm")


def test_what_no_guest_uses_is_removed_after_its_time(site: Site) -> None:
    old, young = site.fetch("old", b"old", days_ago=1.1), site.fetch("young", b"young", days_ago=0.9)
    assert site.cache.clean_up() == [old]
    assert site.cached() == [young.name]


def test_what_a_guest_of_any_host_uses_is_kept(site: Site) -> None:
    path = site.fetch(days_ago=30)
    overlay(site.instances / "vm" / "disk", path)
    assert site.host("host2").clean_up() == []
    shutil.rmtree(site.instances / "vm")
    # It was used until a moment ago.
    assert site.cache.clean_up() == []
    os.utime(path, (0, 0))
    assert site.cache.clean_up() == [path]


def test_what_is_given_to_a_guest_meanwhile_is_kept(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path, remove = site.fetch(days_ago=30), ImageCache._remove

    def late(cache: ImageCache, path: Path, used: set[str]) -> bool:
        site.cache.fetch(site.file())
        return remove(cache, path, used)

    monkeypatch.setattr(ImageCache, "_remove", late)
    assert site.cache.clean_up() == []
    assert path.exists()


def test_what_is_being_fetched_is_left_alone(site: Site) -> None:
    path = site.fetch(days_ago=30)
    with FileLock(site.folder / ".locks" / path.name):
        assert site.cache.clean_up() == []
    assert site.cache.clean_up() == [path]


def test_what_a_killed_process_has_left_is_removed(site: Site) -> None:
    site.fetch()
    left = site.folder / f"{'0' * 64}.part"
    left.touch()
    assert site.cache.clean_up() == []
    os.utime(left, (0, 0))
    assert site.cache.clean_up() == [left]


def test_what_is_no_image_is_left_alone(site: Site) -> None:
    site.fetch()
    mine = site.folder / "README"
    mine.touch()
    os.utime(mine, (0, 0))
    assert site.cache.clean_up() == []


def test_guest_that_goes_meanwhile_is_in_nobody_s_way(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    used, unused = site.fetch("used", b"used", days_ago=30), site.fetch("unused", b"unused", days_ago=30)
    for guest in ("a", "b", "c"):
        overlay(site.instances / guest / "disk", used)
    original: Callable[..., Any] = Path.open

    def vanish(path: Path, *args: Any) -> Any:
        if path.parent.name == "a":
            shutil.rmtree(path.parent)
        return original(path, *args)

    monkeypatch.setattr(Path, "open", vanish)
    assert site.cache.clean_up() == [unused]


def test_nothing_is_removed_if_a_guest_cannot_be_looked_at(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.fetch(days_ago=30)
    overlay(site.instances / "vm" / "disk", Path("elsewhere"))
    original: Callable[..., Any] = Path.open

    def fail(path: Path, *args: Any) -> Any:
        if path.name == "disk":
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(path, *args)

    monkeypatch.setattr(Path, "open", fail)
    assert site.cache.clean_up() == []


def test_nothing_is_removed_if_who_shares_it_has_disks_elsewhere(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    path = site.fetch(days_ago=30)
    stranger = ImageCache(site.conf, "stranger", site.folder, site.root / "other")
    stranger.fetch(site.file("more", b"more"))
    assert site.cache.clean_up() == []
    assert "stranger shares them, but not the guests' disks" in caplog.text
    (site.folder / ".hosts" / "stranger").unlink()
    assert site.cache.clean_up() == [path]


def test_nothing_is_removed_where_that_is_not_wanted(site: Site, conf: cfg.ConfigOpts) -> None:
    site.fetch(days_ago=30)
    conf.set_override("remove_unused_base_images", False, "image_cache")
    assert site.cache.clean_up() == []


def test_without_a_folder_there_is_nothing_to_remove(site: Site) -> None:
    assert site.cache.clean_up() == []
