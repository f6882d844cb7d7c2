"""The guests of the fake hypervisor: one JSON file each, in the folder of its host.

A file is only ever replaced or renamed as a whole, so whoever reads it, and whenever its writer is killed, it is one of
the states that were meant.
"""

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar, get_type_hints

from minova.exception import ConfigurationError, GuestNotFound, OperationRefused
from minova.objects import Guest, Instance
from minova.states import PowerState
from minova.virt.fake.precopy import Pace, SimulatedMigration

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

_UNFINISHED = ".tmp"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestRecord:
    """What a guest's file says: sizes as in :class:`~minova.objects.Instance`, and the migration under way."""

    uuid: str
    name: str
    vcpus: int
    memory_mb: int
    disk_gb: int
    power_state: PowerState
    migration: SimulatedMigration | None = None

    @classmethod
    def of(cls, instance: Instance, power_state: PowerState) -> Self:
        """Return the record of a new guest."""
        return cls(
            uuid=instance.uuid,
            name=instance.name,
            vcpus=instance.vcpus,
            memory_mb=instance.memory_mb,
            disk_gb=instance.disk_gb,
            power_state=power_state,
        )

    def with_power(self, power_state: PowerState, now: float) -> Self:
        """Return the guest in another power state; one that is shut down has no memory that could migrate."""
        migration = self.migration
        if migration is not None:
            running = power_state is PowerState.RUNNING
            shut_down = power_state is PowerState.SHUTDOWN
            migration = None if shut_down else migration.guest_runs(now, running=running)
        return replace(self, power_state=power_state, migration=migration)

    def as_guest(self) -> Guest:
        """Return the guest as the driver shows it: paused while its migration is forced to its end."""
        power_state, migrating_to = self.power_state, None
        if self.migration is not None and self.migration.aborted_at is None:
            migrating_to = self.migration.destination
            if self.migration.is_paused:
                power_state = PowerState.PAUSED
        return Guest(uuid=self.uuid, name=self.name, power_state=power_state, migrating_to=migrating_to)


class GuestFiles:
    """The folder of one host, ``<state_path>/fake/<host>``; it makes the host known to the others.

    :ivar lock: to be held from reading a guest to writing it, and never while anything is waited for.
    """

    def __init__(self, state_path: str, host: str) -> None:
        """Create the folder, and remove what a process that was killed left half-written there.

        :raises ConfigurationError: the folder cannot be used.
        """
        self.lock = threading.Lock()
        self._host = host
        self._root = Path(state_path) / "fake"
        try:
            self.create_folder()
            for unfinished in self._folder.glob(f".*{_UNFINISHED}"):
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            reason = f"state_path: cannot use folder {self._folder}: {error.strerror}"
            raise ConfigurationError(reason=reason) from error

    def create_folder(self) -> None:
        """Make sure that this host exists."""
        self._folder.mkdir(parents=True, exist_ok=True)

    def has_left_for(self, host: str, uuid: str) -> bool:
        """Return whether the guest is on that host and not here."""
        return not self._path(self._host, uuid).exists() and self._path(host, uuid).exists()

    def why_not_to(self, host: str, uuid: str) -> str | None:
        """Return why the guest cannot be handed to that host, or None if it can."""
        if host == self._host:
            return f"it is on {host} already"
        if not (self._root / host).is_dir():
            return f"there is no fake host {host}"
        if self._path(host, uuid).exists():
            return f"host {host} has a guest of the same UUID"
        return None

    def read(self, uuid: str) -> GuestRecord | None:
        """Return a guest, or None if it is not here. :raises OperationRefused: its file is damaged."""
        path, operation = self._path(self._host, uuid), "reading a guest's file"
        with self._one_line_errors(operation):
            try:
                record = _parse(path.read_bytes(), uuid)
            except FileNotFoundError:
                return None
            except ValueError as error:
                reason = f"{path} is damaged ({error}): restore it, or delete the instance"
                raise OperationRefused(host=self._host, operation=operation, reason=reason) from error
        if record.migration is not None and record.migration.destination == self._host:
            # The switch-over has renamed the file into this folder: the migration is over.
            return replace(record, migration=None)
        return record

    def require(self, uuid: str) -> GuestRecord:
        """Return a guest. :raises GuestNotFound: :raises OperationRefused: its file is damaged."""
        record = self.read(uuid)
        if record is None:
            raise GuestNotFound(uuid=uuid, host=self._host)
        return record

    def uuids(self) -> list[str]:
        """Return the UUIDs of the guests that are here now."""
        with self._one_line_errors("listing the guests"):
            return sorted(path.stem for path in self._folder.glob("*.json"))

    def read_all(self) -> list[GuestRecord]:
        """Return every guest here, by UUID. :raises OperationRefused: the file of one is damaged."""
        # A guest that has left since the folder was listed is not here.
        return [record for uuid in self.uuids() if (record := self.read(uuid)) is not None]

    def write(self, record: GuestRecord) -> None:
        """Store a guest; once this returns, it outlives the process."""
        with self._one_line_errors("writing a guest's file"):
            handle, temporary = tempfile.mkstemp(dir=self._folder, prefix=f".{record.uuid}.", suffix=_UNFINISHED)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(asdict(record), file, indent=2)
                Path(temporary).replace(self._path(self._host, record.uuid))
            finally:
                Path(temporary).unlink(missing_ok=True)

    def move(self, uuid: str, destination: str) -> None:
        """Hand a guest to another host: it is on one of the two at any moment, and never on both."""
        with self._one_line_errors("handing over a guest's file"):
            self._path(self._host, uuid).rename(self._path(destination, uuid))

    def remove(self, uuid: str) -> None:
        """Forget a guest, whatever its file says; nothing happens if it is not here."""
        with self._one_line_errors("removing a guest's file"):
            self._path(self._host, uuid).unlink(missing_ok=True)

    @property
    def _folder(self) -> Path:
        return self._root / self._host

    def _path(self, host: str, uuid: str) -> Path:
        return self._root / host / f"{uuid}.json"

    @contextmanager
    def _one_line_errors(self, operation: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
            raise OperationRefused(host=self._host, operation=operation, reason=reason) from error


def _parse(content: bytes, uuid: str) -> GuestRecord:
    """Return what a guest's file says. :raises ValueError: it is not the file of this guest."""
    data = json.loads(content)
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")
    data["power_state"] = PowerState(str(data.get("power_state")))
    migration = data.get("migration")
    if isinstance(migration, dict):
        pace = migration.get("pace")
        migration["pace"] = _build(Pace, pace if isinstance(pace, dict) else {})
        data["migration"] = _build(SimulatedMigration, migration)
    record = _build(GuestRecord, data)
    if record.uuid != uuid:
        raise ValueError(f"it is of guest {record.uuid}")
    return record


def _build(cls: type[T], data: dict[str, Any]) -> T:
    """Return a dataclass from its fields; what has a default may be missing, for an older release wrote the file.

    :raises ValueError: one is missing or of a wrong type.
    """
    hints, optional = get_type_hints(cls), {field.name for field in fields(cls) if field.default is not MISSING}
    values = {name: data[name] for name in hints if name in data}
    wrong = [name for name, value in values.items() if not _fits(value, hints[name])]
    wrong += hints.keys() - values.keys() - optional
    if wrong:
        raise ValueError(f"{', '.join(sorted(wrong))}: missing or of a wrong type")
    return cls(**values)


def _fits(value: object, hint: Any) -> bool:
    """Return whether a value from JSON may stand in a field; a whole number may stand for a float."""
    return isinstance(value, hint) or (isinstance(value, int) and isinstance(0.0, hint))
