"""Where the files of guests are, and which host owns them.

Each guest has a folder of its own below ``[libvirt] instances_path``, and in it a file that names the host that has the
guest. Where hosts share the path, that file is how a guest that is shut down passes from one to the other: it is only
ever replaced as a whole, so it names one host at any moment. A folder to which a guest is still to come with its disk
has none: a file names the host that expects it, and only that one removes what it has made ready.
"""

import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from oslo_config import cfg

from minova.exception import ConfigurationError, OperationRefused

LOG = logging.getLogger(__name__)

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_OWNER, _FORMER_OWNER, _EXPECTED_FROM, _DEFINITION = "owner", "former_owner", "expected_from", "domain.xml"
_REBOOTING, _MIGRATING = "rebooting", "migrating_to"
_POST_COPY, _NOTED = "post-copy", 3
_TEMPORARY = ".tmp"


class Storage:
    """The folders of guests, as one host sees them."""

    def __init__(self, conf: cfg.ConfigOpts, host: str) -> None:
        """Make the host known to those that share the storage.

        :raises ConfigurationError: a folder cannot be used.
        """
        self._host = host
        self.root = Path(conf.libvirt.instances_path)
        self._consoles = Path(conf.libvirt.console_path)
        paths = ("instances_path", "console_path", "image_cache_path")
        for option in paths:
            if not Path(conf.libvirt[option]).is_absolute():
                reason = f"[libvirt] {option} = {conf.libvirt[option]} is not an absolute path"
                raise ConfigurationError(reason=reason)
        try:
            for folder in (self.root, self._consoles, self._hosts, Path(conf.libvirt.image_cache_path)):
                _make(folder)
            self._place = _sign(self._hosts / host)
        except OSError as error:
            reason = f"[libvirt] {', '.join(paths)}: cannot use {error.filename}: {error.strerror}"
            raise ConfigurationError(reason=reason) from error

    def shares_with(self, host: str) -> bool:
        """Return whether another host has its guests' files in the same place."""
        return host != self._host and Path(host).name == host and (self._hosts / host).is_file()

    def folder(self, uuid: str) -> Path:
        """Return a guest's folder, there or not. :raises OperationRefused: that is no UUID."""
        if not _UUID.fullmatch(uuid):
            raise self._refusal(f"{uuid!r} is no UUID")
        return self.root / uuid

    def disk(self, uuid: str) -> Path:
        """Return a guest's root disk, there or not."""
        return self.folder(uuid) / "disk"

    def seed(self, uuid: str) -> Path:
        """Return the CD with what cloud-init is to do, there or not."""
        return self.folder(uuid) / "seed.iso"

    def console(self, uuid: str) -> Path:
        """Return what a guest has written to its console on this host, there or not."""
        return self._consoles / f"{self.folder(uuid).name}.log"

    def owner(self, uuid: str) -> str | None:
        """Return the host that has the guest, as far as its folder tells, or else the other one that expects it."""
        owner, (_source, expecting) = self._read(uuid, _OWNER), self._mark(uuid)
        if owner is not None:
            return owner
        return expecting if expecting != self._host else None

    def former_owner(self, uuid: str) -> str | None:
        """Return the host that had the guest before its owner took it, as long as that is not settled."""
        return self._read(uuid, _FORMER_OWNER)

    def owned(self) -> list[str]:
        """Return the UUIDs of the guests that this host has by their folders, as far as these can be read."""
        return [uuid for uuid in self._uuids() if self._is_ours(uuid)]

    def hand_over(self, uuid: str, host: str) -> None:
        """Have a host own the guest from now on."""
        self._write(uuid, _OWNER, f"{host}\n")
        self._unlink(uuid, _FORMER_OWNER)
        self.forget_destination(uuid)
        self._unlink(uuid, _EXPECTED_FROM)

    def successor(self, uuid: str) -> str | None:
        """Return the host to which the owner live-migrates the guest, or did when its process was killed."""
        noted = (self._read(uuid, _MIGRATING) or "").splitlines()
        return noted[0] if len(noted) == _NOTED and noted[-1] == self.owner(uuid) else None

    def take(self, uuid: str, home: str | None = None) -> None:
        """Have this host own the guest, and its folder be there. It is another's again if it is not settled.

        :param home: the host that is known to have the instance: it is that one's again, if the owner had taken it from
            there and was lost before that was settled.
        """
        self._make_folder(uuid)
        owner = self.owner(uuid)
        if owner == self._host:
            return
        if owner is None:
            self.hand_over(uuid, self._host)
            return
        if self.destination(uuid) is not None:
            # It was on its way when it was here before.
            self.forget_destination(uuid)
        former = home if home is not None and home == self.former_owner(uuid) else owner
        self._write(uuid, _FORMER_OWNER, f"{former}\n")
        self._write(uuid, _OWNER, f"{self._host}\n")
        self._unlink(uuid, _EXPECTED_FROM)

    def expect(self, uuid: str, host: str) -> None:
        """Make an empty folder for a guest that is to come from a host that does not share it, whatever lay there.

        Nobody owns it until the guest has come.

        :raises OperationRefused: another host owns it.
        """
        self._make_folder(uuid)
        # One that only expects the guest is not asked: nobody else comes to remove what it has left.
        if (owner := self._read(uuid, _OWNER)) not in (None, self._host):
            raise self._refusal(f"{self.folder(uuid)} is {owner}'s")
        self._write(uuid, _EXPECTED_FROM, f"{host}\n{self._host}\n")
        with self._one_line_errors():
            # The owner first: until then what lies there looks like a guest of this host.
            for file in sorted(self.folder(uuid).iterdir(), key=lambda file: file.name != _OWNER):
                if file.name != _EXPECTED_FROM:
                    file.unlink(missing_ok=True)

    def expected_from(self, uuid: str) -> str | None:
        """Return the host from which a guest is to come here with its disk; None: it has come, or is not to."""
        source, expecting = self._mark(uuid)
        return source if expecting == self._host and self.owner(uuid) in (None, self._host) else None

    def expected(self, seconds: float) -> Iterator[str]:
        """Yield the UUIDs of the guests that were to come here with their disks so long ago, and have not."""
        for uuid in self._uuids():
            with suppress(FileNotFoundError, NotADirectoryError):
                made_at = (self.folder(uuid) / _EXPECTED_FROM).stat().st_mtime
                if time.time() - made_at > seconds and self.expected_from(uuid) is not None:
                    yield uuid

    def settle(self, uuid: str) -> None:
        """Keep for good what was taken from another host, or by it: there is no guest there any more."""
        if self.owner(uuid) in (None, self._host):
            self._unlink(uuid, _FORMER_OWNER)
        else:
            self.hand_over(uuid, self._host)

    def keep_definition(self, uuid: str, xml: str) -> None:
        """Keep what libvirt was told of a guest, for a host that it moves to."""
        self._write(uuid, _DEFINITION, xml)

    def definition(self, uuid: str) -> str | None:
        """Return what libvirt was told of a guest, if anything was."""
        return self._read(uuid, _DEFINITION)

    def note_reboot(self, uuid: str) -> None:
        """Note that a guest which shuts itself down is to be started again."""
        self._write(uuid, _REBOOTING, "")

    def reboots(self, uuid: str) -> bool:
        """Return whether a guest that has shut itself down is to be started again."""
        return self._read(uuid, _REBOOTING) is not None

    def forget_reboot(self, uuid: str) -> None:
        """Undo :meth:`note_reboot`."""
        self._unlink(uuid, _REBOOTING)

    def note_destination(self, uuid: str, host: str, *, post_copy: bool) -> None:
        """Note where a guest is about to be live-migrated to, whether it may be by post-copy, and by whom."""
        self._write(uuid, _MIGRATING, f"{host}\n{_POST_COPY if post_copy else ''}\n{self._host}\n")

    def destination(self, uuid: str) -> str | None:
        """Return where this host live-migrates a guest to, or did when this process, or the host, was killed."""
        noted = (self._read(uuid, _MIGRATING) or "").splitlines()
        return noted[0] if noted[_NOTED - 1 :] == [self._host] else None

    def permits_post_copy(self, uuid: str) -> bool:
        """Return whether the live migration of a guest may be by post-copy."""
        return _POST_COPY in (self._read(uuid, _MIGRATING) or "").splitlines()[1:2]

    def forget_destination(self, uuid: str) -> None:
        """Undo :meth:`note_destination`."""
        self._unlink(uuid, _MIGRATING)

    def begin_console(self, uuid: str) -> None:
        """Forget what a guest that comes to this host has written when it was here before."""
        self.remove_console(uuid)
        self.prepare_console(uuid)

    def remove_console(self, uuid: str) -> None:
        """Remove what a guest has written on this host, with what virtlogd has kept of it under further names."""
        log = self.console(uuid)
        with self._one_line_errors():
            for file in (log, *log.parent.glob(f"{log.name}.*")):
                file.unlink(missing_ok=True)

    def silent_consoles(self, seconds: float) -> Iterator[str]:
        """Yield the UUIDs of the guests that have written nothing on this host for so long, if ever anything."""
        for log in self._consoles.glob("*.log"):
            with suppress(FileNotFoundError):
                if _UUID.fullmatch(log.stem) and time.time() - log.stat().st_mtime > seconds:
                    yield log.stem

    def prepare_console(self, uuid: str) -> None:
        """Make sure that what libvirtd, which is root's, writes down of a console can be read here."""
        with self._one_line_errors():
            self.console(uuid).touch(mode=0o600)

    def remove(self, uuid: str, *, for_good: bool) -> None:
        """Remove a guest's files, unless another host owns them; what is not settled goes back to where it was.

        :param for_good: it is settled.
        """
        self.remove_console(uuid)
        with self._one_line_errors():
            folder, former = self.folder(uuid), self.former_owner(uuid)
            if folder.is_symlink() or not folder.is_dir() or self.owner(uuid) not in (None, self._host):
                return
            if former is not None and not for_good:
                self.hand_over(uuid, former)
                return
            _remove_folder(folder)

    def discard(self, uuid: str) -> None:
        """Remove what was made for a guest that does not come, and nothing that any host owns."""
        self.remove_console(uuid)
        with self._one_line_errors():
            nobodys = self.owner(uuid) is None and not self.folder(uuid).is_symlink()
            if nobodys and self.expected_from(uuid) is not None:
                _remove_folder(self.folder(uuid))

    def require_place(self) -> None:
        """Check that the guests' files are where they were when this compute started.

        :raises OperationRefused: something was mounted there since, or is not any more.
        """
        with self._one_line_errors():
            place = _text(self._hosts / self._host)
        if place != self._place:
            reason = f"{self.root} is not what it was when this compute started: mount what belongs there, or restart"
            raise self._refusal(f"{reason} minova-compute if that is done")

    def _uuids(self) -> list[str]:
        with self._one_line_errors():
            return sorted(entry.name for entry in os.scandir(self.root) if _UUID.fullmatch(entry.name))

    def _is_ours(self, uuid: str) -> bool:
        try:
            return self.owner(uuid) == self._host
        except OperationRefused as error:
            # All hosts look at it, and must not all be silent because of one guest.
            LOG.warning("Whose guest %s is cannot be read: %s", uuid, error.reason)
            return False

    def _mark(self, uuid: str) -> tuple[str | None, str | None]:
        """Return from which host a guest is to come with its disk, and to which."""
        noted = (self._read(uuid, _EXPECTED_FROM) or "").splitlines()
        return (noted[0], noted[1]) if len(noted) == 2 else (None, None)

    def _make_folder(self, uuid: str) -> None:
        self.require_place()
        with self._one_line_errors():
            folder = self.folder(uuid)
            _make(folder)
            if folder.is_symlink():
                raise self._refusal(f"{folder} is a symbolic link")

    def _read(self, uuid: str, name: str) -> str | None:
        with self._one_line_errors():
            return _text(self.folder(uuid) / name)

    def _write(self, uuid: str, name: str, text: str) -> None:
        with self._one_line_errors():
            _write(self.folder(uuid) / name, text)

    def _unlink(self, uuid: str, name: str) -> None:
        with self._one_line_errors():
            (self.folder(uuid) / name).unlink(missing_ok=True)

    @property
    def _hosts(self) -> Path:
        return self.root / ".hosts"

    @contextmanager
    def _one_line_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._refusal(f"{error.filename}: {error.strerror}") from error

    def _refusal(self, reason: str) -> OperationRefused:
        return OperationRefused(host=self._host, operation="the guest's files", reason=reason)


def _make(folder: Path) -> None:
    """Make a folder, unless it is there: the hypervisor runs as another user and has to pass, whatever our umask."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)


def _remove_folder(folder: Path) -> None:
    # These last: until then it is seen whose the guest is, and what is left is removed again.
    for file in sorted(folder.iterdir(), key=lambda file: file.name in (_OWNER, _EXPECTED_FROM)):
        file.unlink(missing_ok=True)
    folder.rmdir()


def _sign(file: Path) -> str:
    """Write the file by which a host is known to others, and return its text, which it has in no other place."""
    # What lies below a mount, or was mounted over it, may have had a compute of this host too.
    lines = (_text(file) or "").splitlines()
    text = "\n".join(lines if len(lines) == 2 else (file.name, str(uuid4())))
    _write(file, f"{text}\n")
    return text


def _text(file: Path) -> str | None:
    try:
        return file.read_text(errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(file: Path, text: str) -> None:
    """Write a file so that it has either its old content or the new one, whenever anything stops."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=_TEMPORARY)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(text)
            opened.flush()
            os.fsync(handle)
        # Hosts that share the storage may run as different users.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(file)
    finally:
        Path(temporary).unlink(missing_ok=True)
