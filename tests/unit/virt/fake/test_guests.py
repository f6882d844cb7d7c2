"""Fake guests outlive whatever happens to the process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minova.exception import (
    ConfigurationError,
    DriverError,
    OperationRefused,
)
from minova.objects import Guest
from minova.states import PowerState
from minova.virt.fake import FakeDriver
from tests.contract.rig import (
    INSTANCE,
    PAUSED,
    RUNNING,
    SHUTDOWN,
    UUID,
    leave_under_way,
    make_instance,
    migrate,
    state,
)
from tests.unit.virt.rig import FakeRig, Killed


@pytest.mark.parametrize("power_state", [RUNNING, PAUSED, SHUTDOWN])
def test_a_guest_outlives_its_driver(rig: FakeRig, source: FakeDriver, power_state: PowerState) -> None:
    {RUNNING: source.power_on, PAUSED: source.pause, SHUTDOWN: source.power_off}[power_state](UUID)
    assert rig.driver("source").list_guests() == (Guest(uuid=UUID, name="web", power_state=power_state),)


def test_a_guest_is_one_file(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    def files() -> list[Path]:
        return sorted(path.relative_to(rig.folder) for path in rig.folder.rglob("*") if path.is_file())

    source.pause(UUID)
    assert files() == [Path("source", f"{UUID}.json")]
    migrate(source)
    destination.post_live_migration_at_destination(INSTANCE)
    assert files() == [Path("destination", f"{UUID}.json")]
    destination.destroy(UUID)
    assert files() == []


def test_guests_are_listed_by_uuid(source: FakeDriver) -> None:
    for uuid in ("c", "a", "b"):
        source.spawn(make_instance(uuid=uuid))
    assert [guest.uuid for guest in source.list_guests()] == [UUID, "a", "b", "c"]


def test_killed_while_it_writes(rig: FakeRig, source: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(value: object, file: Any, **_: object) -> None:
        file.write('{"uuid": ')
        file.flush()
        raise Killed

    # A process that is killed does not clean up.
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: None)
    monkeypatch.setattr(json, "dump", killed)
    with pytest.raises(Killed):
        source.pause(UUID)
    with pytest.raises(Killed):
        source.spawn(make_instance(uuid="second"))
    monkeypatch.undo()
    folder = rig.file("source").parent
    assert len(list(folder.iterdir())) == 3
    assert [guest.power_state for guest in source.list_guests()] == [RUNNING]
    assert [guest.power_state for guest in rig.driver("source").list_guests()] == [RUNNING]
    assert list(folder.iterdir()) == [rig.file("source")]


def test_a_write_that_fails_changes_nothing(rig: FakeRig, source: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "the file")

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(OperationRefused, match="the file: No space left on device"):
        source.pause(UUID)
    assert state(source) is RUNNING
    assert list(rig.file("source").parent.iterdir()) == [rig.file("source")]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[: len(whole) // 2],
        lambda whole: b"\x80\xff\x00",
        lambda whole: b"[]",
        lambda whole: b"{}",
        lambda whole: whole.replace(b'"running"', b'"flying"'),
        lambda whole: whole.replace(b'"running"', b"{}"),
        lambda whole: whole.replace(b"256", b'"256"'),
        lambda whole: whole.replace(b'"name"', b'"nom"'),
        lambda whole: whole.replace(b'"migration": null', b'"migration": {}'),
        lambda whole: whole.replace(b'"migration": null', b'"migration": {"pace": 1}'),
        lambda whole: whole.replace(b'"migration": null', b'"migration": "x"'),
        lambda whole: whole.replace(UUID.encode(), b"22222222-2222-4222-8222-222222222222"),
    ],
)
def test_a_damaged_file(rig: FakeRig, source: FakeDriver, damage: Callable[[bytes], bytes]) -> None:
    path = rig.file("source")
    whole = path.read_bytes()
    broken = damage(whole)
    assert broken != whole
    path.write_bytes(broken)
    for call in (
        lambda: source.get_guest(UUID),
        lambda: source.power_on(UUID),
        lambda: source.spawn(INSTANCE),
        lambda: migrate(source),
    ):
        with pytest.raises(DriverError) as caught:
            call()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert path.read_bytes() == broken
    # One damaged guest must not keep a host from reporting the others.
    assert [(guest.uuid, guest.power_state) for guest in source.list_guests()] == [(UUID, PowerState.NOSTATE)]
    source.destroy(UUID)
    source.spawn(INSTANCE)
    assert state(source) is RUNNING


def test_fields_of_a_newer_release_are_ignored(rig: FakeRig, source: FakeDriver) -> None:
    path = rig.file("source")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"new": 1}))
    assert state(source) is RUNNING


def test_a_migration_that_the_release_before_began(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    leave_under_way(source)
    path = rig.file("source")
    record = json.loads(path.read_text())
    del record["migration"]["throttle"], record["migration"]["pace"]["auto_converge"]
    del record["migration"]["pace"]["post_copy"]
    path.write_text(json.dumps(record))
    migrate(source)
    assert state(destination) is RUNNING


def test_a_state_path_that_cannot_be_used(rig: FakeRig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    rig.conf.set_override("state_path", str(tmp_path / "file"))
    with pytest.raises(ConfigurationError, match=r"state_path: .*file/fake/source: Not a directory"):
        rig.driver("source")
