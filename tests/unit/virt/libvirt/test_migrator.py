"""What libvirt is asked for when a guest is to be live-migrated."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from oslo_config import cfg

libvirt = pytest.importorskip("libvirt")

from minova import conf as minova_conf  # noqa: E402
from minova.exception import HostUnusable, MigrationFailed, OperationRefused  # noqa: E402
from minova.objects import MigrateData, MigrationOptions, MigrationProgress  # noqa: E402
from minova.virt.libvirt import migrator  # noqa: E402
from minova.virt.libvirt.job import Sight  # noqa: E402
from minova.virt.libvirt.storage import Storage  # noqa: E402
from tests.contract.rig import UUID, make_instance  # noqa: E402

RUNNING = Sight(state=libvirt.VIR_DOMAIN_RUNNING, reason=libvirt.VIR_DOMAIN_RUNNING_BOOTED, leaving=False)
OPTIONS = MigrationOptions(auto_converge=False, post_copy=False)


@pytest.fixture
def conf(tmp_path: Path) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    minova_conf.register_opts(conf)
    conf(args=[], default_config_files=[], default_config_dirs=[])
    conf.set_override("state_path", str(tmp_path))
    return conf


class Libvirtd:
    """One that has a guest, and has moved it as soon as that is asked for; ``asked`` is what was."""

    uri = "qemu:///system"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: dict[str, Any] = {}
        self._sight: Sight | None = RUNNING
        monkeypatch.setattr(migrator, "look", lambda _uuid, _connection: self._sight)
        monkeypatch.setattr(migrator, "Attempt", self._attempt)

    def run(self, _operation: str, work: Callable[[Any], Any]) -> Any:
        domain = SimpleNamespace(migrateSetMaxDowntime=lambda downtime: self.asked.update(downtime=downtime))
        return work(SimpleNamespace(lookupByUUIDString=lambda _uuid: domain))

    def _attempt(self, _uri: str, uuid: str, peer: str, parameters: dict[str, Any], flags: int) -> Any:
        assert uuid == UUID
        self.asked.update(peer=peer, parameters=parameters, flags=flags)
        return SimpleNamespace(error=None, broke_off=False, wait=self._end)

    def _end(self, _seconds: float) -> bool:
        self._sight = None
        return True


@pytest.fixture
def libvirtd(monkeypatch: pytest.MonkeyPatch) -> Libvirtd:
    return Libvirtd(monkeypatch)


@pytest.fixture
def migrate(conf: cfg.ConfigOpts, libvirtd: Libvirtd) -> Callable[..., None]:
    """Live-migrate a guest to host b."""

    def migrate(options: MigrationOptions = OPTIONS, address: str = "10.0.0.2") -> None:
        told: list[MigrationProgress] = []
        storage = Storage(conf, "a")
        storage.take(UUID)
        live = migrator.LiveMigrator(conf, "a", libvirtd, storage)  # type: ignore[arg-type]
        live.run(make_instance(uuid=UUID), "b", options, MigrateData(address=address), told.append)

    return migrate


def test_a_guest_moves_for_good_and_by_itself(libvirtd: Libvirtd, migrate: Callable[..., None]) -> None:
    migrate()
    for flag in ("LIVE", "PEER2PEER", "PERSIST_DEST", "UNDEFINE_SOURCE", "ABORT_ON_ERROR"):
        assert libvirtd.asked["flags"] & getattr(libvirt, f"VIR_MIGRATE_{flag}"), flag
    assert libvirtd.asked["peer"] == "qemu+tcp://10.0.0.2/system"
    assert libvirtd.asked["parameters"] == {libvirt.VIR_MIGRATE_PARAM_URI: "tcp://10.0.0.2"}
    assert "downtime" not in libvirtd.asked


CHOSEN = {
    "block_migration": libvirt.VIR_MIGRATE_NON_SHARED_INC,
    "auto_converge": libvirt.VIR_MIGRATE_AUTO_CONVERGE,
    "post_copy": libvirt.VIR_MIGRATE_POSTCOPY,
}


@pytest.mark.parametrize("option", CHOSEN)
def test_only_what_was_asked_for_is_permitted(libvirtd: Libvirtd, migrate: Callable[..., None], option: str) -> None:
    migrate(replace(OPTIONS, **{option: True}))
    permitted = [name for name, flag in CHOSEN.items() if libvirtd.asked["flags"] & flag]
    assert permitted == [option]


def test_limits_are_passed_on(libvirtd: Libvirtd, migrate: Callable[..., None]) -> None:
    migrate(MigrationOptions(bandwidth_mib=7, max_downtime_ms=250))
    assert libvirtd.asked["parameters"][libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] == 7
    assert libvirtd.asked["downtime"] == 250


@pytest.mark.parametrize("scheme", ["tls", "ssh"])
def test_libvirtds_talk_as_they_are_told(
    conf: cfg.ConfigOpts, libvirtd: Libvirtd, migrate: Callable[..., None], scheme: str
) -> None:
    conf.set_override("live_migration_scheme", scheme, group="libvirt")
    conf.set_override("live_migration_with_native_tls", True, group="libvirt")
    migrate(address="fd00::2")
    assert libvirtd.asked["peer"] == f"qemu+{scheme}://[fd00::2]/system"
    assert libvirtd.asked["flags"] & libvirt.VIR_MIGRATE_TLS


def test_a_move_that_was_begun_is_open_while_libvirtd_is_away(
    conf: cfg.ConfigOpts, libvirtd: Libvirtd, migrate: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_away(*_: object) -> None:
        raise OperationRefused(host="a", operation="live_migration", reason="does libvirtd run?")

    monkeypatch.setattr(libvirtd, "run", be_away)
    with pytest.raises(OperationRefused):
        migrate()
    Storage(conf, "a").note_destination(UUID, "b", post_copy=False)
    with pytest.raises(HostUnusable, match="does libvirtd run"):
        migrate()


def test_a_move_may_have_begun_if_its_note_cannot_be_read(
    conf: cfg.ConfigOpts, libvirtd: Libvirtd, migrate: Callable[..., None]
) -> None:
    storage = Storage(conf, "a")
    storage.take(UUID)
    (storage.folder(UUID) / "migrating_to").mkdir()
    with pytest.raises(HostUnusable, match="migrating_to"):
        migrate()
    assert not libvirtd.asked


@pytest.mark.parametrize("block", [False, True])
def test_only_a_disk_that_was_copied_is_removed(
    conf: cfg.ConfigOpts, libvirtd: Libvirtd, migrate: Callable[..., None], block: bool
) -> None:
    """Whatever can be seen at the end of who shares it."""
    storage = Storage(conf, "a")
    storage.take(UUID)
    storage.disk(UUID).touch()
    migrate(replace(OPTIONS, block_migration=block))
    assert storage.disk(UUID).exists() is not block
    assert storage.owner(UUID) == (None if block else "b")


def test_no_destination_chooses_how_it_is_reached(libvirtd: Libvirtd, migrate: Callable[..., None]) -> None:
    with pytest.raises(MigrationFailed, match="live_migration_inbound_addr"):
        migrate(address="10.0.0.2/system?command=/bin/sh")
    assert "peer" not in libvirtd.asked
