"""The schema's versions."""

from pathlib import Path

import pytest
import sqlalchemy
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from oslo_config import cfg

from minova.db import migration
from minova.db.models import Base
from minova.db.session import Database
from minova.exception import DatabaseError
from tests.unit.rows import open_database

NEWER = "9999"


def tables(database: Database) -> list[str]:
    return sorted(sqlalchemy.inspect(database.engine).get_table_names())


def set_revision(database: Database, revision: str) -> None:
    with database.engine.begin() as connection:
        connection.execute(sqlalchemy.text("update alembic_version set version_num = :new"), {"new": revision})


@pytest.fixture
def newer(empty: Database) -> Database:
    """A database that a newer minova has migrated."""
    migration.upgrade(empty)
    set_revision(empty, NEWER)
    return empty


def test_migrations_make_exactly_the_tables_of_the_models(empty: Database) -> None:
    migration.upgrade(empty)
    with empty.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []
    assert tables(empty) == sorted([*Base.metadata.tables, "alembic_version"])


def test_way_back_leaves_no_table(empty: Database) -> None:
    migration.upgrade(empty)
    with empty.engine.begin() as connection:
        command.downgrade(migration._config(connection), "base")
    assert tables(empty) == ["alembic_version"]
    assert migration.current(empty) is None
    assert migration.upgrade(empty) == migration.newest()


def test_upgrade_of_the_newest_changes_nothing(empty: Database) -> None:
    assert migration.current(empty) is None
    for _ in range(2):
        assert migration.upgrade(empty) == migration.newest()
        assert migration.current(empty) == migration.newest()
    migration.require_usable(empty)


def test_empty_database_has_to_be_migrated_first(empty: Database) -> None:
    with pytest.raises(DatabaseError) as refusal:
        migration.require_usable(empty)
    assert refusal.value.message == (
        f"database: it is at revision empty, but {migration.newest()} is needed: run minova-manage db sync"
    )
    assert tables(empty) == []


def test_newer_database_is_not_migrated(newer: Database) -> None:
    before = tables(newer)
    with pytest.raises(DatabaseError) as refusal:
        migration.upgrade(newer)
    assert refusal.value.message == (
        f"database: it is at revision {NEWER}, which is newer than this minova ({migration.newest()}): upgrade minova"
    )
    assert tables(newer) == before
    assert migration.current(newer) == NEWER


def test_command_migrates_the_configured_database(conf: cfg.ConfigOpts, empty: Database) -> None:
    assert migration.version(conf) == (None, migration.newest())
    assert migration.sync(conf) == migration.newest()
    assert migration.version(conf) == (migration.newest(), migration.newest())


def test_folder_of_the_database_is_made(conf: cfg.ConfigOpts, tmp_path: Path) -> None:
    database = open_database(conf, f"sqlite:///{tmp_path}/a/b/minova.sqlite")
    migration.upgrade(database)
    database.close()
    assert (tmp_path / "a" / "b" / "minova.sqlite").exists()


def open_and_upgrade(conf: cfg.ConfigOpts, url: str) -> None:
    database = open_database(conf, url)
    try:
        migration.upgrade(database)
    finally:
        database.close()


def refusal_of(conf: cfg.ConfigOpts, url: str) -> str:
    """Return why a database is refused: one line, and no password in it."""
    with pytest.raises(DatabaseError) as refusal:
        open_and_upgrade(conf, url)
    message = refusal.value.message
    assert "\n" not in message
    assert "secret" not in message
    assert message.startswith("database: ")
    return message


def test_file_that_is_no_database_is_refused_and_left_alone(conf: cfg.ConfigOpts, tmp_path: Path) -> None:
    file = tmp_path / "minova.sqlite"
    file.write_text("These are no tables. " * 100)
    before = file.read_bytes()
    assert refusal_of(conf, f"sqlite:///{file}") == f"database: sqlite:///{file}: file is not a database"
    assert file.read_bytes() == before


def test_folder_in_place_of_a_database_is_refused(conf: cfg.ConfigOpts, tmp_path: Path) -> None:
    message = refusal_of(conf, f"sqlite:///{tmp_path}")
    assert message == f"database: sqlite:///{tmp_path}: unable to open database file"


def test_database_below_a_file_is_refused(conf: cfg.ConfigOpts, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "Not a directory" in refusal_of(conf, f"sqlite:///{tmp_path}/file/minova/minova.sqlite")


@pytest.mark.parametrize("url", ["nonsense", "nosuchdatabase://user:secret@host/minova", "mysql+nodriver://u:secret@h"])
def test_url_that_cannot_be_used_is_refused(conf: cfg.ConfigOpts, url: str) -> None:
    assert refusal_of(conf, url).startswith("database: [database] connection cannot be used (")


def test_database_without_a_driver_is_refused(conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pymysql", None)
    refusal = refusal_of(conf, "mysql+pymysql://user:secret@host/minova")
    assert "needs a driver that is not installed" in refusal
    assert "pymysql" in refusal


def test_tables_without_a_revision_are_refused(database: Database) -> None:
    """Somebody made them by hand: what is in them is unknown."""
    with pytest.raises(DatabaseError, match="already exists") as refusal:
        migration.upgrade(database)
    assert "\n" not in refusal.value.message
