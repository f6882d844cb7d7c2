"""No purge changes what a host is told of its guests, whatever an instance went through, and only so much is kept."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import count
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from minova.conductor import reconcile, retention
from minova.conductor.retention import Retention
from minova.db import models
from minova.objects import utcnow
from minova.service import Service
from minova.states import OPEN_MIGRATION, ActionStatus, MigrationStatus, MigrationType, Verb, VmState
from tests.unit.conductor.rig import INSTANCE, Rig

HOSTS = ("host1", "host2", "host3")
ENDS = tuple(sorted(frozenset(MigrationStatus) - OPEN_MIGRATION))
DAYS = 90

Move = tuple[str, str, str, str, int]
"""Kind, status, source, destination, and how many days ago."""


@pytest.fixture
def retained(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Retention:
    monkeypatch.setattr(retention, "_PAUSE", 0.0)
    rig.conf.set_override("purge_batch_size", 1, "conductor")
    return Retention(rig.conf, rig.database)


def add(session: Session, name: str, when: datetime, move: Move) -> None:
    """Add an action that has ended, with its migration."""
    kind, status, source, dest, _days = move
    common = {"instance_uuid": INSTANCE, "step": "", "owner": "", "args": {}, "data": {}, "request_id": "", "user": ""}
    times = {"submitted_at": when, "finished_at": when, "lease_expires_at": when, "heard_at": when}
    states = {"verb": Verb.MIGRATE, "status": ActionStatus.SUCCEEDED, "previous_vm_state": VmState.ACTIVE}
    session.add(models.Action(id=name, **common, **times, **states))
    session.flush()
    session.execute(
        text(
            "insert into migrations (uuid, instance_uuid, action_id, migration_type, status, source_host, dest_host,"
            " progress, created_at, updated_at) values (:name, :instance, :name, :kind, :status, :source, :dest,"
            " '{}', :at, :at)"
        ),
        {
            **{"name": name, "instance": INSTANCE, "kind": kind, "status": status, "source": source, "dest": dest},
            "at": when.replace(tzinfo=None).isoformat(" "),
        },
    )


def let_move(rig: Rig, moves: Sequence[Move], host: str | None) -> None:
    """Let an instance have moved so, and be on a host now."""

    def work(session: Session) -> None:
        for number, move in enumerate(moves):
            add(session, f"move-{number}", utcnow() - timedelta(days=move[-1]), move)

    rig.database.write(work)
    rig.change(models.Instance, INSTANCE, host=host)


def verdicts(rig: Rig) -> dict[str, Any]:
    """Return what a host that has a guest of the instance is told, for each."""

    def verdict(session: Session, host: str) -> Any:
        row = session.get_one(models.Instance, INSTANCE)
        if reconcile.moved_strangely(session, row):
            return "left to a newer release"
        return reconcile.left_behind(session, row, host)

    with rig.database.read() as session:
        return {host: verdict(session, host) for host in HOSTS}


def moves_left(rig: Rig) -> list[str]:
    with rig.database.read() as session:
        actions = session.scalars(select(models.Action.id).order_by(models.Action.id)).all()
        migrations = session.scalars(select(models.Migration.action_id).order_by(models.Migration.action_id)).all()
        assert actions == migrations
        return list(actions)


def some_moves(chance: Random, kinds: Sequence[str], ends: Sequence[str], youngest: int) -> list[Move]:
    """Return what an instance may have gone through, oldest first."""
    days = sorted(chance.sample(range(youngest, 400), chance.randint(0, 12)), reverse=True)
    return [(chance.choice(kinds), chance.choice(ends), *chance.sample(HOSTS, 2), day) for day in days]  # type: ignore[misc]


@pytest.mark.parametrize("seed", range(40))
def test_what_hosts_are_told_stays_the_same(rig: Rig, retained: Retention, seed: int) -> None:
    chance = Random(seed)
    kinds, ends = list(MigrationType), list(ENDS)
    if seed % 4 == 0:
        kinds, ends = [*kinds, "of_tomorrow"], [*ends, "of_tomorrow"]  # type: ignore[list-item]
    let_move(rig, some_moves(chance, kinds, ends, youngest=1), chance.choice([*HOSTS, None]))
    before = verdicts(rig)
    retained.purge(DAYS)
    assert verdicts(rig) == before


@pytest.mark.parametrize("seed", range(20))
def test_one_migration_is_kept_for_each_host_at_most(rig: Rig, retained: Retention, seed: int) -> None:
    let_move(rig, some_moves(Random(seed), list(MigrationType), ENDS, youngest=DAYS + 1), "host1")
    retained.purge(DAYS)
    assert len(moves_left(rig)) <= len(HOSTS)


LIVE, EVACUATION = "live-migration", "evacuation"


@pytest.mark.parametrize(
    ("moves", "left"),
    [
        ([(LIVE, "completed", "host1", "host2", 200)], ["move-0"]),
        ([(LIVE, "completed", "host1", "host2", 200), (LIVE, "completed", "host2", "host1", 100)], ["move-1"]),
        # There may be a guest on host2 still: only the first tells of it.
        ([(LIVE, "error", "host1", "host2", 200), (LIVE, "completed", "host1", "host3", 100)], ["move-0", "move-1"]),
        # A migration that was undone leaves nothing at its destination; an evacuation may.
        ([(LIVE, "failed", "host1", "host2", 200), (LIVE, "completed", "host1", "host3", 100)], ["move-1"]),
        (
            [(EVACUATION, "failed", "host1", "host2", 200), (EVACUATION, "completed", "host1", "host3", 100)],
            ["move-0", "move-1"],
        ),
        # What has not ended tells nothing yet, and what a newer release did only that can judge.
        ([(LIVE, "completed", "host1", "host2", 200), (LIVE, "running", "host2", "host1", 100)], ["move-0", "move-1"]),
        ([(LIVE, "completed", "host1", "host2", 200), ("new", "completed", "host2", "host1", 9)], ["move-0", "move-1"]),
    ],
    ids=["only one", "back", "not undone", "undone", "evacuation undone", "open", "of another release"],
)
def test_migration_goes_once_later_ones_tell_of_its_hosts(
    rig: Rig, retained: Retention, moves: list[Move], left: list[str]
) -> None:
    let_move(rig, moves, "host1")
    retained.purge(DAYS)
    assert moves_left(rig) == left


@pytest.mark.parametrize(
    ("since", "left"),
    [(utcnow(), ["move-0", "move-1"]), (None, ["move-1"])],
    ids=["in doubt", "settled"],
)
def test_move_in_doubt_stays_until_that_is_settled(
    rig: Rig, retained: Retention, since: datetime | None, left: list[str]
) -> None:
    let_move(rig, [(LIVE, "failed", "host1", "host2", 200), (LIVE, "completed", "host2", "host1", 100)], "host1")
    rig.change(models.Migration, "move-0", unclear_hosts=["host2"] if since else [], unclear_since=since)
    retained.purge(DAYS)
    assert moves_left(rig) == left


def test_move_that_was_in_doubt_tells_of_its_destination(rig: Rig, retained: Retention) -> None:
    let_move(rig, [(LIVE, "failed", "host1", "host2", 200), (LIVE, "completed", "host1", "host3", 100)], "host3")
    rig.change(models.Migration, "move-0", unclear_hosts=[])
    retained.purge(DAYS)
    assert moves_left(rig) == ["move-0", "move-1"]
    assert verdicts(rig)["host2"]


def test_fault_stays_as_long_as_its_action(rig: Rig, retained: Retention) -> None:
    let_move(rig, [(LIVE, "failed", *HOSTS[:2], 200), (LIVE, "completed", *HOSTS[:2], 100)], "host2")

    def ail(session: Session) -> None:
        old = utcnow() - timedelta(days=300)
        faults = [{"action_id": name, "code": name or "none"} for name in ("move-0", "move-1", None)]
        common = {"instance_uuid": INSTANCE, "message": "", "created_at": old}
        session.add_all(models.InstanceFault(**common, **fault) for fault in faults)

    rig.database.write(ail)
    retained.purge(DAYS)
    assert moves_left(rig) == ["move-1"]
    assert rig.faults() == [("move-1", "")]


@pytest.mark.parametrize(
    ("made", "deleted", "heard", "goes"),
    [
        (300, 200, 0, True),
        (300, 200, 100, True),
        (300, 200, 250, False),
        (300, 200, 400, True),
        # Within a day anything may still have been on its way.
        (300, 200, 199.5, False),
        (300, 200, 300.5, False),
        (300, 80, 0, False),
    ],
    ids=["up", "heard after", "heard while it lived", "silent before", "just after", "just before", "young"],
)
def test_deleted_instance_stays_while_a_host_may_have_a_copy(
    rig: Rig, retained: Retention, made: float, deleted: float, heard: float, goes: bool
) -> None:
    ago = {name: utcnow() - timedelta(days=days) for name, days in (("made", made), ("del", deleted), ("heard", heard))}
    gone = {"vm_state": VmState.DELETED, "host": None, "created_at": ago["made"], "deleted_at": ago["del"]}
    rig.change(models.Instance, INSTANCE, **gone)
    rig.change(models.Service, ("minova-compute", "host3"), last_seen_at=ago["heard"])
    rig.database.write(lambda session: rig.services.scheduler.release_all(session, INSTANCE))
    assert bool(retained.purge(DAYS)["instances"]) is goes


def test_deleted_instance_stays_while_it_has_room_somewhere(rig: Rig, retained: Retention) -> None:
    """That never happens, and is nothing that a purge may hide."""
    old = utcnow() - timedelta(days=200)
    rig.change(models.Instance, INSTANCE, vm_state=VmState.DELETED, host=None, created_at=old, deleted_at=old)
    assert not retained.purge(DAYS).total()


def test_what_tables_of_a_newer_release_refer_to_is_left_alone(
    rig: Rig, retained: Retention, caplog: pytest.LogCaptureFixture
) -> None:
    moves: list[Move] = [(LIVE, "completed", *HOSTS[:2], 200), (LIVE, "completed", *HOSTS[1::-1], 100)]
    let_move(rig, [*moves, (LIVE, "completed", *HOSTS[:2], 95)], "host2")
    with rig.database.engine.begin() as connection:
        connection.execute(text("create table tags (action_id varchar(36) references actions (id))"))
        connection.execute(text("insert into tags values ('move-0')"))
    retained.purge(DAYS)
    assert moves_left(rig) == ["move-0", "move-2"]
    assert "Old actions are left alone: a table of a newer release of minova refers to them" in caplog.text


def test_nothing_is_purged_without_a_limit(rig: Rig, retained: Retention) -> None:
    rig.conf.set_override("retention_days", 0, "conductor")
    let_move(rig, [(LIVE, "failed", "host1", "host2", 9000), (LIVE, "failed", "host1", "host2", 8000)], "host1")
    retained.run()
    assert len(moves_left(rig)) == 2
    rig.conf.set_override("retention_days", 1, "conductor")
    retained.run()
    with rig.database.read() as session:
        assert session.scalar(select(func.count()).select_from(models.Action)) == 1


def test_long_run_ends_before_it_passes_for_a_hang(
    rig: Rig, retained: Retention, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_move(rig, [(LIVE, "completed", "host1", "host2", 200 - number) for number in range(40)], "host2")
    looks = count(step=60)
    monkeypatch.setattr(retention, "time", SimpleNamespace(monotonic=lambda: next(looks)))
    retained.run()
    assert 1 < len(moves_left(rig)) < 40
    assert next(looks) < Service.PATIENCE
    retained.purge(DAYS)
    assert len(moves_left(rig)) == 1
