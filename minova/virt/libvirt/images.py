"""The cache of images: each is fetched once for all hosts that share the folder, and kept while a guest needs it.

A file bears the name of its SHA-256 digest, was checked while it was fetched, and appears whole or not at all. Whoever
fetches or removes it holds its lock.
"""

import errno
import hashlib
import logging
import os
import re
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout
from oslo_config import cfg

from minova import location
from minova.exception import DriverError, InsufficientResources, InvalidInput, OperationRefused
from minova.objects import Image, ImageFile
from minova.virt.libvirt.disk_format import backing_file, check_disk

LOG = logging.getLogger(__name__)

_DIGEST = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = ".part"
_HOSTS, _LOCKS = ".hosts", ".locks"
_NOTE = "images"
"""In a guest's folder: the digests of the files that it is made from."""

_LOOK_EVERY = 64 * 2**20
"""Bytes that are written between two looks at how much room is left."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedImage:
    """An image that is ready for use.

    :ivar disk: to be read as ``disk_format`` of its :class:`~minova.objects.Image`, and never to be written.
    :ivar disk_bytes: the size of the disk that a guest sees.
    """

    disk: Path
    disk_bytes: int
    kernel: Path | None
    initrd: Path | None


class ImageCache:
    """The images in one folder, which hosts may share."""

    def __init__(self, conf: cfg.ConfigOpts, host: str, folder: Path, instances: Path) -> None:
        """Use ``folder`` for ``host``; nothing is touched before the first image is fetched.

        :param instances: where the guests' folders are, and in ``.hosts`` a file for each host that shares them.
        """
        self._options = conf.image_cache
        self._host = host
        self._folder = folder
        self._instances = instances

    def fetch_image(self, image: Image, folder: Path) -> CachedImage:
        """Return an image, fetched and checked; it is kept for as long as the guest's ``folder`` is there.

        :raises InsufficientResources: there is no room for it.
        :raises OperationRefused: it cannot be had, or is not what it should be.
        """
        with self._troubles(image.disk):
            _note(image, folder)
        return self.fetch_files(image)

    def fetch_files(self, image: Image) -> CachedImage:
        """Do as :meth:`fetch_image` does, for no guest yet: an image that none uses is kept for a while only.

        :raises InsufficientResources: there is no room for it.
        :raises OperationRefused: it cannot be had, or is not what it should be.
        """
        disk = self.fetch(image.disk)
        return CachedImage(
            disk=disk,
            disk_bytes=check_disk(disk, image.disk_format, self._host, image.name),
            kernel=self.fetch(image.kernel) if image.kernel else None,
            initrd=self.fetch(image.initrd) if image.initrd else None,
        )

    def fetch(self, file: ImageFile) -> Path:
        """Return where a file of an image is in the cache; fetch it if it is not there, or wait for who does.

        :raises InsufficientResources: there is no room for it.
        :raises OperationRefused: it cannot be had, or is not what it should be.
        """
        with self._troubles(file):
            path = self._path(file.sha256)
            with self._lock(file.sha256):
                if _is_there(path):
                    # It counts as used from now on.
                    os.utime(path)
                else:
                    self._download(file, path)
        return path

    def clean_up(self) -> list[Path]:
        """Remove what no guest of any host uses, and has not for as long as configured; return what was removed."""
        if not self._options.remove_unused_base_images or not self._folder.is_dir():
            return []
        try:
            strangers = _names(self._folder / _HOSTS) - _names(self._instances / _HOSTS)
            if strangers:
                told, where = ", ".join(sorted(strangers)), self._folder / _HOSTS
                why = "%s shares them, but not the guests' disks (if it does not any more, remove its file from %s)"
                LOG.warning(f"Images are not cleaned up: {why}", told, where)
                return []
            used = self._used()
            return [path for path in sorted(self._folder.iterdir()) if self._remove(path, used)]
        except OSError as error:
            # Who cannot look at all guests does not know what they use.
            LOG.warning("Images are not cleaned up: %s", error)
            return []

    def _path(self, sha256: str) -> Path:
        if not _DIGEST.fullmatch(sha256):
            raise InvalidInput(reason=f"{sha256!r} is no SHA-256 digest")
        return self._folder / sha256

    def _lock(self, sha256: str, timeout: float = -1) -> FileLock:
        """Return the lock of an image, of a thread's own; without a timeout it may last as long as a download."""
        for name in (_LOCKS, _HOSTS):
            (self._folder / name).mkdir(mode=0o755, parents=True, exist_ok=True)
        (self._folder / _HOSTS / self._host).touch()
        # Such a file is never removed: another may be waiting for it.
        return FileLock(self._folder / _LOCKS / sha256, timeout=timeout)

    def _download(self, file: ImageFile, path: Path) -> None:
        unfinished = path.with_suffix(_UNFINISHED)
        # Who is killed here leaves it, and the next overwrites it.
        try:
            with unfinished.open("wb") as output:
                digest = self._fetch_in_time(file, output)
                output.flush()
                os.fsync(output.fileno())
            if digest != file.sha256:
                reason = f"{location.shown(file.location)}: its SHA-256 digest is {digest}, not {file.sha256}"
                raise InvalidInput(reason=f"{reason}: if it was changed on purpose, add it as a new image")
            # Hypervisors do not run as we do.
            unfinished.chmod(0o644)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        LOG.info("Image file %s fetched from %s", file.sha256, location.shown(file.location))

    def _fetch_in_time(self, file: ImageFile, output: BinaryIO) -> str:
        """Write a file of an image, and return its digest; others wait meanwhile, so it must not take for ever."""
        digest: Future[str] = Future()

        def fetch() -> None:
            try:
                digest.set_result(self._fetch(file, output))
            except BaseException as error:
                digest.set_exception(error)

        # A server that sends a byte now and then is never silent. Left alone, it writes to what is closed, and ends.
        thread = threading.Thread(target=fetch, name="image-fetch", daemon=True)
        thread.start()
        thread.join(self._options.fetch_time_limit)
        if thread.is_alive():
            reason = f"not fetched within {self._options.fetch_time_limit} s ([image_cache] fetch_time_limit)"
            raise InvalidInput(reason=f"{location.shown(file.location)}: {reason}")
        return digest.result()

    def _fetch(self, file: ImageFile, output: BinaryIO) -> str:
        digest, written = hashlib.sha256(), 0
        with location.opened(file.location, self._options.fetch_timeout) as source:
            self._require_room(file, source.size or 0)
            for chunk in source.chunks:
                digest.update(chunk)
                output.write(chunk)
                if written // _LOOK_EVERY != (written := written + len(chunk)) // _LOOK_EVERY:
                    self._require_room(file, 0)
        return digest.hexdigest()

    def _require_room(self, file: ImageFile, size: int) -> None:
        free, reserved = shutil.disk_usage(self._folder).free, self._options.reserved_disk_mb * 2**20
        if free - size < reserved:
            reason = (
                f"no room for {location.shown(file.location)} ({_mib(size)}) in {self._folder}: {_mib(free)} are free, "
                f"and {_mib(reserved)} have to stay so ([image_cache] reserved_disk_mb)"
            )
            raise InsufficientResources(host=self._host, reason=reason)

    @contextmanager
    def _troubles(self, file: ImageFile) -> Iterator[None]:
        """Turn what goes wrong inside into errors of a driver."""
        try:
            yield
        except InvalidInput as error:
            raise self._refusal(error.message) from None
        except OSError as error:
            reason = f"{location.shown(file.location)} cannot be kept in {self._folder}: {error.strerror}"
            if error.errno in _FULL:
                raise InsufficientResources(host=self._host, reason=reason) from None
            raise self._refusal(reason) from None

    def _refusal(self, reason: str) -> DriverError:
        return OperationRefused(host=self._host, operation="fetching an image", reason=reason)

    def _used(self) -> set[str]:
        """Return the digests of what guests are made from, those of other hosts too. :raises OSError:"""
        used: set[str] = set()
        folders = (path for path in self._instances.iterdir() if path.is_dir() and path.name[0] not in "._")
        for folder in folders:
            # One that goes meanwhile is of no guest any more; what comes meanwhile is not old.
            with suppress(FileNotFoundError):
                for path in folder.iterdir():
                    used |= _used_by(path)
        return used

    def _remove(self, path: Path, used: set[str]) -> bool:
        """Remove a file that is old and not used; return whether it was."""
        if not _DIGEST.fullmatch(path.stem) or path.suffix not in ("", _UNFINISHED):
            return False
        try:
            with self._lock(path.stem, timeout=0):
                # Looked at only now: a guest that is being made may have been given it meanwhile.
                if path.name in used:
                    os.utime(path)
                elif self._age(path) > self._options.remove_unused_original_minimum_age_seconds:
                    path.unlink()
                    LOG.info("Image file %s removed: no guest uses it", path.name)
                    return True
        except (Timeout, FileNotFoundError):
            # It is being fetched, or another host was faster.
            pass
        return False

    def _age(self, path: Path) -> float:
        """Return the seconds since a file was last used, by the clock of the file system that hosts share."""
        clock = self._folder / _HOSTS / self._host
        clock.touch()
        return clock.stat().st_mtime - path.stat().st_mtime


def _note(image: Image, folder: Path) -> None:
    """Note in a guest's folder what it is made from, before that is fetched: as long as it is there, it is kept."""
    files = (file for file in (image.disk, image.kernel, image.initrd) if file is not None)
    unfinished = folder / f"{_NOTE}{_UNFINISHED}"
    unfinished.write_text("".join(f"{file.sha256}\n" for file in files))
    unfinished.replace(folder / _NOTE)


def _used_by(path: Path) -> set[str]:
    """Return the digests of what is used by a file of a guest's."""
    with suppress(FileNotFoundError):
        if path.name == _NOTE:
            return set(path.read_text().split())
        if path.is_file() and (backing := backing_file(path)) is not None:
            return {Path(backing).name}
    return set()


def _is_there(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"
