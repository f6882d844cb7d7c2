"""Which host owns a guest's files, and what is removed of them."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from oslo_config import cfg

from minova import conf as minova_conf
from minova.exception import ConfigurationError, OperationRefused
from minova.virt.libvirt.storage import Storage
from tests.contract.rig import OTHER, UUID

Make = Callable[..., Storage]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make hosts of which each has its consoles, and all have one folder for guests."""

    def make(host: str, instances: str = "instances") -> Storage:
        conf = cfg.ConfigOpts()
        minova_conf.register_opts(conf)
        conf(args=[], default_config_files=[], default_config_dirs=[])
        conf.set_override("instances_path", str(tmp_path / instances), group="libvirt")
        conf.set_override("console_path", str(tmp_path / host), group="libvirt")
        return Storage(conf, host)

    return make


@pytest.fixture
def ours(make: Make) -> Storage:
    """A host that has a guest with a disk."""
    ours = make("ours")
    ours.take(UUID)
    ours.disk(UUID).write_text("disk")
    return ours


@pytest.fixture
def theirs(make: Make) -> Storage:
    return make("theirs")


def test_hosts_that_have_the_same_folder_share_it(make: Make) -> None:
    ours, _theirs, other = make("ours"), make("theirs"), make("other", "elsewhere")
    assert ours.shares_with("theirs")
    assert not any(ours.shares_with(host) for host in ("ours", "other", "", ".", "..", "../.hosts/theirs"))
    assert not other.shares_with("ours")


def test_who_takes_a_guest_has_it(ours: Storage, theirs: Storage) -> None:
    assert (ours.owner(UUID), ours.owned(), theirs.owned()) == ("ours", [UUID], [])


def test_a_guest_that_is_handed_over_has_a_new_owner_and_its_disk(ours: Storage, theirs: Storage) -> None:
    ours.hand_over(UUID, "theirs")
    assert (ours.owned(), theirs.owned(), theirs.disk(UUID).read_text()) == ([], [UUID], "disk")


def test_what_lies_about_is_nobodys_guest(ours: Storage) -> None:
    (ours.root / OTHER).touch()
    (ours.root / "something").mkdir()
    assert ours.owned() == [UUID]


def test_only_the_owner_removes_the_files(ours: Storage, theirs: Storage) -> None:
    for for_good in (True, False):
        theirs.remove(UUID, for_good=for_good)
        assert ours.disk(UUID).exists()
    ours.remove(UUID, for_good=False)
    assert not ours.folder(UUID).exists()
    ours.remove(UUID, for_good=False)


def test_files_that_nobody_owns_are_removed(ours: Storage) -> None:
    (ours.folder(UUID) / "owner").unlink()
    ours.remove(UUID, for_good=False)
    assert not ours.folder(UUID).exists()


def test_what_was_taken_from_another_host_goes_back_to_it(ours: Storage, theirs: Storage) -> None:
    for _ in range(2):
        theirs.take(UUID)
        theirs.remove(UUID, for_good=False)
        assert (ours.owner(UUID), ours.disk(UUID).exists()) == ("ours", True)


@pytest.mark.parametrize("settle", [True, False])
def test_what_was_taken_for_good_is_removed(ours: Storage, theirs: Storage, settle: bool) -> None:
    theirs.take(UUID)
    if settle:
        theirs.settle(UUID)
    theirs.remove(UUID, for_good=not settle)
    assert not ours.folder(UUID).exists()


def test_the_owner_is_forgotten_last(ours: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is killed in the middle still has the guest, and is told again to remove it."""
    order: list[str] = []
    unlink = Path.unlink

    def note(path: Path, missing_ok: bool = False) -> None:
        order.append(path.name)
        unlink(path, missing_ok)

    ours.keep_definition(UUID, "<domain/>")
    ours.note_reboot(UUID)
    monkeypatch.setattr(Path, "unlink", note)
    ours.remove(UUID, for_good=False)
    assert order[-1] == "owner"


@pytest.mark.parametrize("uuid", ["", ".", "..", "../x", "/etc", f"{UUID}/..", f"{UUID}\n", f"{UUID[:-1]}A"])
def test_what_is_no_uuid_leads_nowhere(ours: Storage, uuid: str) -> None:
    for ask in (ours.folder, ours.disk, ours.console, ours.owner, ours.take):
        with pytest.raises(OperationRefused, match="no UUID"):
            ask(uuid)
    with pytest.raises(OperationRefused, match="no UUID"):
        ours.remove(uuid, for_good=True)


def test_a_symbolic_link_is_not_followed(ours: Storage, tmp_path: Path) -> None:
    treasure = tmp_path / "treasure"
    treasure.mkdir()
    (treasure / "gold").touch()
    ours.folder(OTHER).symlink_to(treasure)
    with pytest.raises(OperationRefused, match="symbolic link"):
        ours.take(OTHER)
    ours.remove(OTHER, for_good=True)
    assert (treasure / "gold").exists()


def test_hypervisors_that_are_other_users_can_pass(make: Make) -> None:
    before = os.umask(0o077)
    try:
        storage = make("ours")
        storage.take(UUID)
    finally:
        os.umask(before)
    modes = {
        stat.S_IMODE(folder.stat().st_mode) for folder in (storage.root, storage.root / "_base", storage.folder(UUID))
    }
    assert modes == {0o711}


def test_what_is_in_the_way_is_told_in_one_line(ours: Storage, make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot use"):
        make("ours", "file")
    (ours.folder(UUID) / "owner").unlink()
    (ours.folder(UUID) / "owner").mkdir()
    with pytest.raises(OperationRefused, match="owner: Is a directory"):
        ours.owner(UUID)


def test_a_guest_whose_owner_cannot_be_read_hides_no_other(ours: Storage) -> None:
    (ours.folder(OTHER) / "owner").mkdir(parents=True)
    assert ours.owned() == [UUID]


def test_a_relative_path_is_refused() -> None:
    conf = cfg.ConfigOpts()
    minova_conf.register_opts(conf)
    conf(args=[], default_config_files=[], default_config_dirs=[])
    conf.set_override("console_path", "consoles", group="libvirt")
    with pytest.raises(ConfigurationError, match="console_path = consoles is not an absolute path"):
        Storage(conf, "ours")


def test_what_a_guest_wrote_when_it_was_here_before_is_forgotten(ours: Storage) -> None:
    ours.begin_console(UUID)
    ours.console(UUID).write_text("old")
    ours.prepare_console(UUID)
    assert ours.console(UUID).read_text() == "old"
    ours.begin_console(UUID)
    assert ours.console(UUID).read_text() == ""


def test_what_lay_about_makes_way_for_a_guest_that_is_expected(ours: Storage) -> None:
    ours.expect(UUID, "apart")
    assert (ours.owned(), ours.owner(UUID), ours.disk(UUID).exists()) == ([], None, False)
    assert ours.expected_from(UUID) == "apart"


def test_what_another_host_owns_makes_way_for_nothing(ours: Storage, theirs: Storage) -> None:
    with pytest.raises(OperationRefused, match=f"{UUID} is ours's"):
        theirs.expect(UUID, "ours")
    theirs.discard(UUID)
    assert (ours.disk(UUID).exists(), ours.owner(UUID)) == (True, "ours")


def test_what_was_made_for_a_guest_that_does_not_come_is_discarded(ours: Storage) -> None:
    ours.expect(UUID, "apart")
    for _ in range(2):
        ours.discard(UUID)
        assert not ours.folder(UUID).exists()


@pytest.mark.parametrize("come", [lambda storage: storage.take(UUID), lambda storage: storage.hand_over(UUID, "ours")])
def test_what_was_made_for_a_guest_that_has_come_stays(ours: Storage, come: Callable[[Storage], None]) -> None:
    ours.expect(UUID, "apart")
    ours.disk(UUID).write_text("what has been copied")
    come(ours)
    ours.discard(UUID)
    assert (ours.owner(UUID), ours.expected_from(UUID), ours.disk(UUID).exists()) == ("ours", None, True)


def test_who_waits_in_vain_is_known(ours: Storage, theirs: Storage) -> None:
    theirs.expect(OTHER, "apart")
    assert [*theirs.expected(-1)] == [OTHER]
    assert not [*ours.expected(-1), *theirs.expected(3600)]
    theirs.take(OTHER)
    assert not [*theirs.expected(-1)]


@pytest.fixture
def arriving(ours: Storage, theirs: Storage) -> Path:
    """The disk of a guest that is about to come to them, from a host that does not share the storage."""
    theirs.expect(OTHER, "apart")
    theirs.disk(OTHER).write_text("what has been copied")
    return ours.disk(OTHER)


def test_what_another_host_expects_is_left_to_it(ours: Storage, theirs: Storage, arriving: Path) -> None:
    assert (ours.owner(OTHER), theirs.owner(OTHER)) == ("theirs", None)
    assert ours.expected_from(OTHER) is None
    ours.discard(OTHER)
    for for_good in (True, False):
        ours.remove(OTHER, for_good=for_good)
    assert arriving.exists()
    theirs.remove(OTHER, for_good=True)
    assert not arriving.exists()


def test_what_another_host_expected_can_be_taken_and_goes_back(ours: Storage, theirs: Storage, arriving: Path) -> None:
    ours.take(OTHER)
    assert (ours.owner(OTHER), theirs.owner(OTHER), theirs.expected_from(OTHER)) == ("ours", "ours", None)
    ours.remove(OTHER, for_good=False)
    assert (ours.owner(OTHER), arriving.exists()) == ("theirs", True)


def test_an_owner_that_cannot_be_made_out_is_not_nobody(ours: Storage) -> None:
    (ours.folder(UUID) / "owner").write_text("")
    ours.remove(UUID, for_good=True)
    with pytest.raises(OperationRefused):
        ours.expect(UUID, "apart")
    assert ours.disk(UUID).exists()


def test_whoever_is_killed_in_taking_what_has_come_keeps_it(theirs: Storage, arriving: Path) -> None:
    mark = (theirs.folder(OTHER) / "expected_from").read_text()
    theirs.take(OTHER)
    (theirs.folder(OTHER) / "expected_from").write_text(mark)
    theirs.discard(OTHER)
    assert arriving.exists()


def test_nothing_is_made_where_something_else_was_mounted_since(ours: Storage) -> None:
    ours.root.rename(ours.root.with_name("unmounted"))
    ours.root.mkdir()
    for make in (lambda: ours.take(OTHER), lambda: ours.expect(OTHER, "apart")):
        with pytest.raises(OperationRefused, match="not what it was when this compute started"):
            make()
    assert list(ours.root.iterdir()) == []


def test_what_was_mounted_late_is_noticed_though_this_host_has_used_both(make: Make, ours: Storage) -> None:
    mounted, below = ours.root.with_name("mounted"), ours.root.with_name("below")
    ours.root.rename(mounted)
    started_before = make("ours")
    started_before.require_place()
    ours.root.rename(below)
    mounted.rename(ours.root)
    with pytest.raises(OperationRefused, match="not what it was when this compute started"):
        started_before.require_place()
    for storage in (ours, make("ours")):
        storage.require_place()
    make("theirs")
    assert ours.shares_with("theirs")


def test_only_where_its_owner_sends_it_a_guest_is_about_to_go(ours: Storage, theirs: Storage) -> None:
    ours.note_destination(UUID, "theirs", post_copy=True)
    assert (ours.successor(UUID), ours.permits_post_copy(UUID)) == ("theirs", True)
    theirs.take(UUID)
    assert theirs.successor(UUID) is None
    theirs.remove(UUID, for_good=False)
    assert (ours.owner(UUID), ours.successor(UUID)) == ("ours", None)


def test_no_console_of_a_guest_is_left_when_it_has_gone(ours: Storage) -> None:
    log, other = ours.console(UUID), ours.console(OTHER)
    kept = [other, other.with_name(f"{other.name}.0")]
    for file in (log, log.with_name(f"{log.name}.0"), log.with_name(f"{log.name}.1"), *kept):
        file.write_text("secret")
    ours.remove(UUID, for_good=True)
    assert sorted(log.parent.iterdir()) == sorted(kept)


def test_who_takes_a_guest_back_has_forgotten_where_it_went(ours: Storage, theirs: Storage) -> None:
    ours.note_destination(UUID, "theirs", post_copy=False)
    assert (ours.destination(UUID), theirs.destination(UUID)) == ("theirs", None)
    theirs.take(UUID)
    assert ours.destination(UUID) == "theirs"
    ours.take(UUID)
    assert (ours.owner(UUID), ours.successor(UUID)) == ("ours", None)


def test_what_was_taken_from_a_host_that_was_lost_goes_back_to_where_the_guest_lives(
    make: Make, ours: Storage, theirs: Storage
) -> None:
    third = make("third")
    for home, owner in (("ours", "ours"), ("theirs", "theirs"), (None, "theirs")):
        ours.hand_over(UUID, "ours")
        theirs.take(UUID, "ours")
        third.take(UUID, home)
        assert third.owner(UUID) == "third"
        third.remove(UUID, for_good=False)
        assert (ours.owner(UUID), ours.disk(UUID).exists()) == (owner, True)


def test_consoles_to_which_nothing_was_written_for_long(ours: Storage) -> None:
    ours.begin_console(UUID)
    ours.begin_console(OTHER)
    ours.console(UUID).with_name("dmesg.log").touch()
    os.utime(ours.console(OTHER), (0, 0))
    os.utime(ours.console(UUID).with_name("dmesg.log"), (0, 0))
    assert list(ours.silent_consoles(3600)) == [OTHER]
