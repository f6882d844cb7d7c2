"""What the tables store."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateTable

from minova.db.models import Instance
from minova.db.session import Database
from minova.states import PowerState, TaskState, VmState
from tests.unit.rows import an_instance

NOON = datetime(2020, 2, 29, 12, 0, 0, 123456, tzinfo=UTC)


def stored(database: Database, row: Instance) -> Instance:
    """Return a row as it comes back from the database."""
    database.write(lambda session: session.add(row))
    with database.read() as session:
        return session.get_one(Instance, row.uuid)


@pytest.mark.parametrize("hours", [-11, 0, 5.5])
def test_time_comes_back_in_utc_to_the_microsecond(database: Database, hours: float) -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=hours)))
    found = stored(database, an_instance(created_at=elsewhere)).created_at
    assert found == NOON
    assert found.tzinfo is UTC
    with database.read() as session:
        assert session.execute(text("select created_at from instances")).scalar() == "2020-02-29 12:00:00.123456"


def test_times_are_compared_as_such(database: Database) -> None:
    stored(database, an_instance(created_at=NOON))
    later = (NOON + timedelta(microseconds=1)).astimezone(timezone(timedelta(hours=-5)))
    with database.read() as session:
        assert session.query(Instance).filter(Instance.created_at < later).count() == 1
        assert session.query(Instance).filter(Instance.created_at < NOON).count() == 0


def test_no_time_is_no_time(database: Database) -> None:
    assert stored(database, an_instance()).deleted_at is None


def test_enum_is_stored_by_its_value(database: Database) -> None:
    row = an_instance(vm_state=VmState.PAUSED, task_state=TaskState.REBOOTING_HARD, power_state=PowerState.PAUSED)
    found = stored(database, row)
    assert (found.vm_state, found.task_state) == (VmState.PAUSED, TaskState.REBOOTING_HARD)
    with database.read() as session:
        columns = session.execute(text("select vm_state, task_state, power_state from instances")).one()
    assert tuple(columns) == ("paused", "rebooting_hard", "paused")


def test_mysql_keeps_microseconds_and_plain_strings() -> None:
    ddl = str(CreateTable(Instance.__table__).compile(dialect=mysql.dialect()))  # type: ignore[arg-type]
    assert "created_at DATETIME(6) NOT NULL" in ddl
    assert "vm_state VARCHAR(32) NOT NULL" in ddl
    assert "ENUM" not in ddl
