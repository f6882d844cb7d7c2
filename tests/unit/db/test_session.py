"""Transactions: whole or not at all, and run again where another was faster."""

import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from oslo_db import exception as db_exception
from oslo_db.exception import DBConnectionError, DBReferenceError
from oslo_db.sqlalchemy import exc_filters
from sqlalchemy import event, select, update
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError
from sqlalchemy.orm import Session

from minova.db.models import Action, Allocation, ComputeNode
from minova.db.session import Database, LostRace, announce, persistent, savepoint
from minova.exception import DatabaseError
from minova.notifications.catalogue import SERVICE_UPDATE, Notification
from minova.notifications.payloads import ServicePayload
from minova.objects import utcnow
from minova.states import ActionStatus, Verb, VmState
from tests.unit.examples import example
from tests.unit.rows import a_node, an_instance


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let nobody sleep, and tell for how long they would have."""
    wanted: list[float] = []
    monkeypatch.setattr(time, "sleep", wanted.append)
    return wanted


def add(database: Database, *rows: Any) -> None:
    database.write(lambda session: session.add_all(rows))


def hosts(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(ComputeNode.host).order_by(ComputeNode.host)))


def failing(error: Exception, times: int) -> Callable[[Session], int]:
    """Return work that adds a host, then fails so many times, and returns how often it was run."""
    runs = 0

    def work(session: Session) -> int:
        nonlocal runs
        runs += 1
        session.add(a_node(f"host{runs}"))
        session.flush()
        if runs <= times:
            raise error
        return runs

    return work


def test_work_is_stored_and_its_result_returned(database: Database) -> None:
    def work(session: Session, host: str, *, vcpus: int) -> str:
        session.add(a_node(host, vcpus=vcpus))
        return host.upper()

    assert database.write(work, "host1", vcpus=3) == "HOST1"
    with database.read() as session:
        assert session.get_one(ComputeNode, "host1").vcpus == 3


def test_work_that_fails_leaves_nothing_and_is_not_repeated(database: Database) -> None:
    with pytest.raises(KeyError):
        database.write(failing(KeyError("boom"), times=1))
    assert hosts(database) == []


@pytest.mark.parametrize("times", [1, 5, 20])
def test_race_that_was_lost_is_run_again_from_its_start(database: Database, naps: list[float], times: int) -> None:
    assert database.write(failing(LostRace(), times)) == times + 1
    assert hosts(database) == [f"host{times + 1}"]
    assert len(naps) == times
    assert max(naps) <= 0.5


def test_deadlock_that_has_ended_the_transaction_of_a_savepoint_is_a_lost_race(
    database: Database, naps: list[float]
) -> None:
    """As on MariaDB, which has no savepoint any more to go back to."""
    error = db_exception.DBError("SAVEPOINT sa_savepoint_1 does not exist", cause=db_exception.DBDeadlock())
    assert database.write(failing(error, 1)) == 2


def test_race_that_is_lost_for_ever_is_given_up(database: Database, naps: list[float]) -> None:
    with pytest.raises(LostRace):
        database.write(failing(LostRace(), 1000))
    assert len(naps) == 20
    assert hosts(database) == []


def test_row_that_another_changed_meanwhile_is_read_again(database: Database, naps: list[float]) -> None:
    now = utcnow()
    action = Action(
        id="some-action",
        verb=Verb.STOP,
        instance_uuid="some-uuid",
        status=ActionStatus.RUNNING,
        step="power_off",
        sequence=1,
        owner="me",
        lease_expires_at=now,
        heard_at=now,
        previous_vm_state=VmState.ACTIVE,
        args={},
        data={},
        request_id="req-1",
        user="",
        submitted_at=now,
    )
    add(database, an_instance())
    add(database, action)
    seen = []

    def work(session: Session) -> None:
        found = session.get_one(Action, "some-action")
        seen.append(found.sequence)
        if len(seen) == 1:
            faster = update(Action).values(sequence=7).execution_options(synchronize_session=False)
            session.execute(faster)
        found.sequence += 1

    database.write(work)
    # The other's change was rolled back with the first attempt, for here it was in the same transaction.
    assert seen == [1, 1]
    with database.read() as session:
        assert session.get_one(Action, "some-action").sequence == 2


def test_writers_that_read_first_do_not_overwrite_each_other(database: Database) -> None:
    add(database, a_node("host1", vcpus_used=0))
    together = threading.Barrier(4)

    def work(session: Session) -> None:
        node = session.get_one(ComputeNode, "host1")
        node.vcpus_used = node.vcpus_used + 1

    def write(_number: int) -> None:
        together.wait()
        for _ in range(5):
            database.write(work)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    with database.read() as session:
        assert session.get_one(ComputeNode, "host1").vcpus_used == 20


def test_readers_see_the_last_state_while_somebody_writes(database: Database) -> None:
    add(database, a_node("host1"))

    def work(session: Session) -> list[str]:
        session.add(a_node("host2"))
        session.flush()
        return hosts(database)

    assert database.write(work) == ["host1"]
    assert hosts(database) == ["host1", "host2"]


def test_what_was_read_can_be_used_after_the_transaction(database: Database) -> None:
    add(database, a_node("host1"))
    node = database.write(lambda session: session.get_one(ComputeNode, "host1"))
    assert (node.host, node.vcpus) == ("host1", 8)


def test_row_that_refers_to_nothing_is_refused(database: Database) -> None:
    room = Allocation(instance_uuid="nobody", host="host1", vcpus=1, memory_mb=1, disk_gb=1)
    with pytest.raises(DBReferenceError):
        add(database, room)


def operational(statement: str | None, *args: Any) -> OperationalError:
    return OperationalError(statement, None, Exception(*args))


def serialization_failure() -> OperationalError:
    error = operational("UPDATE nodes", "could not serialize access due to concurrent update")
    error.orig.pgcode = "40001"  # type: ignore[union-attr]
    return error


def locked() -> OperationalError:
    return operational("BEGIN IMMEDIATE", "database is locked")


@pytest.mark.parametrize("error", [serialization_failure(), locked()], ids=["serialization", "lock"])
def test_transaction_that_others_were_in_the_way_of_is_run_again(
    database: Database, naps: list[float], error: OperationalError
) -> None:
    assert database.write(failing(error, times=3)) == 4
    assert hosts(database) == ["host4"]
    assert len(naps) == 3


def test_lock_that_another_process_holds_is_waited_for(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    other = sqlite3.connect(str(database.engine.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(time, "sleep", lambda _seconds: other.rollback())

    @event.listens_for(database.engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout = 0")

    add(database, a_node("host1"))
    other.close()
    assert hosts(database) == ["host1"]


def test_lock_that_is_held_for_ever_is_told_in_one_line(database: Database, naps: list[float]) -> None:
    with pytest.raises(DatabaseError, match=r"^database: others keep it locked: [^\n]*database is locked[^\n]*$"):
        database.write(failing(locked(), times=1000))
    assert len(naps) == 20


AWAY = [
    pytest.param(DBConnectionError("server closed the connection unexpectedly"), id="connection lost"),
    pytest.param(operational(None, "FATAL: the database system is starting up"), id="no connection"),
    pytest.param(operational("SELECT 1", 1053, "Server shutdown in progress"), id="server stops"),
]


@pytest.mark.parametrize("error", AWAY)
def test_server_that_is_away_is_waited_for(database: Database, naps: list[float], error: Exception) -> None:
    assert database.write(failing(error, times=3)) == 4
    assert hosts(database) == ["host4"]
    assert len(naps) == 3


@pytest.mark.parametrize("error", AWAY)
def test_server_that_stays_away_is_told_in_one_line(database: Database, naps: list[float], error: Exception) -> None:
    with pytest.raises(DatabaseError, match=r"^database: it cannot be reached: [^\n]*$"):
        database.write(failing(error, times=1000))
    assert 20 < sum(naps) < 60


class ReadOnlySqlTransaction(Exception):
    """As psycopg2 has it."""

    __module__ = "psycopg2.errors"


@pytest.mark.parametrize(
    ("dialect", "kind", "error"),
    [
        ("mysql", OperationalError, Exception(1290, "The MariaDB server is running with the --read-only option")),
        ("mysql", OperationalError, Exception(1792, "Cannot execute statement in a READ ONLY transaction")),
        ("mysql", OperationalError, Exception(1836, "Running in read-only mode")),
        ("postgresql", InternalError, ReadOnlySqlTransaction("cannot execute INSERT in a read-only transaction")),
    ],
)
def test_server_that_takes_no_writes_any_more_counts_as_away(
    database: Database, naps: list[float], dialect: str, kind: type[DBAPIError], error: Exception
) -> None:
    met = SimpleNamespace(
        dialect=SimpleNamespace(name=dialect),
        sqlalchemy_exception=kind("INSERT", None, error),
        original_exception=error,
        is_disconnect=False,
        connection=None,
    )
    told = exc_filters.handler(met)
    assert met.is_disconnect
    assert database.write(failing(told, times=3)) == 4


def test_statement_that_fails_is_not_repeated(database: Database) -> None:
    with pytest.raises(OperationalError):
        database.write(failing(operational("SELECT nonsense", "no such column"), times=1))
    assert hosts(database) == []


def test_what_reads_waits_for_a_server_that_is_away(database: Database, naps: list[float]) -> None:
    add(database, a_node("host1"))
    refusals = [error.values[0] for error in AWAY]

    @persistent
    def look() -> list[str]:
        if refusals:
            raise refusals.pop()
        return hosts(database)

    assert look() == ["host1"]
    assert len(naps) == len(AWAY)


def news(host: str) -> Notification:
    return Notification(SERVICE_UPDATE, replace(example(ServicePayload), host=host))


@pytest.fixture
def published(database: Database) -> list[str]:
    """Return the hosts of which something was published, with those that had been stored by then."""
    seen: list[str] = []

    def publish(notification: Notification) -> None:
        assert isinstance(notification.payload, ServicePayload)
        seen.append(notification.payload.host)
        assert notification.payload.host in hosts(database), "it is not committed yet"

    database.publish_to(publish)
    return seen


def test_what_is_announced_is_published_once_it_is_committed(database: Database, published: list[str]) -> None:
    def work(session: Session) -> str:
        for host in ("host2", "host1"):
            session.add(a_node(host))
            announce(session, news(host))
        session.flush()
        assert published == []
        return "done"

    assert database.write(work) == "done"
    assert published == ["host2", "host1"]


def test_run_that_was_rolled_back_publishes_nothing(
    database: Database, published: list[str], naps: list[float]
) -> None:
    runs = 0

    def work(session: Session) -> None:
        nonlocal runs
        runs += 1
        session.add(a_node(f"host{runs}"))
        announce(session, news(f"host{runs}"))
        if runs < 3:
            raise LostRace

    database.write(work)
    assert published == ["host3"]


def test_work_that_fails_publishes_nothing(database: Database, published: list[str]) -> None:
    def work(session: Session) -> None:
        announce(session, news("host1"))
        raise KeyError

    with pytest.raises(KeyError):
        database.write(work)
    assert published == []


def test_part_that_was_rolled_back_publishes_nothing(database: Database, published: list[str]) -> None:
    def part(session: Session, host: str, *, fails: bool) -> None:
        with savepoint(session):
            session.add(a_node(host))
            announce(session, news(host))
            if fails:
                raise KeyError

    def work(session: Session) -> None:
        part(session, "host1", fails=False)
        with pytest.raises(KeyError):
            part(session, "host2", fails=True)
        part(session, "host3", fails=False)

    database.write(work)
    assert published == hosts(database) == ["host1", "host3"]
