"""Each revision only adds, unless it says what it takes away: conductors of before go on with the new schema."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from oslo_config import cfg
from sqlalchemy import MetaData, text
from sqlalchemy.orm import Session

from minova.db import migration, models
from minova.db.fitness import shortfalls
from minova.db.queries import CONDUCTOR
from minova.db.session import Database
from minova.exception import DatabaseError
from minova.objects import utcnow
from minova.states import VmState
from tests.unit.rows import an_instance

Revise = Callable[..., None]

REVISION = '''"""A revision."""

import sqlalchemy as sa
from alembic import op

revision = "0099"
down_revision = "{newest}"
{more}


def upgrade():
    with op.batch_alter_table("{table}") as table:
        {change}
'''

EXPAND = {
    "nullable column": "table.add_column(sa.Column('new', sa.String(8)))",
    "column with a default": "table.add_column(sa.Column('new', sa.Integer, nullable=False, server_default='1'))",
    "index": "table.create_index('ix_new', ['memory_mb'])",
    "table": "op.create_table('new', sa.Column('id', sa.Integer, primary_key=True))",
    "wider column": "table.alter_column('name', type_=sa.String(500))",
    "column that may be empty": "table.alter_column('name', nullable=True)",
}

CONTRACT = {
    "column is dropped": ("table.drop_column('disk_gb')", "it has no column instances.disk_gb"),
    "column is renamed": (
        "table.alter_column('disk_gb', new_column_name='root_gb')",
        "it has no column instances.disk_gb; column instances.root_gb has to be written",
    ),
    "table is dropped": ("op.drop_table('instance_faults')", "it has no table instance_faults"),
    "column has to be written": (
        "table.add_column(sa.Column('new', sa.Integer, nullable=False))",
        "column instances.new has to be written",
    ),
    "column cannot be empty": ("table.alter_column('host', nullable=False)", "column instances.host cannot be empty"),
    "narrower column": (
        "table.alter_column('name', type_=sa.String(9))",
        "column instances.name has room for 9 characters only",
    ),
    "unique names": (
        "table.create_index('ix_new', ['name', 'host'], unique=True)",
        "in table instances, host, name has to be unique",
    ),
}


@pytest.fixture
def revise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Revise:
    """Make a release that has one revision more."""

    def make(change: str, more: str = "") -> None:
        scripts = tmp_path / "migrations"
        shutil.copytree(migration._SCRIPTS, scripts)
        script = REVISION.format(newest=migration.newest(), table="instances", change=change, more=more)
        (scripts / "versions" / "0099_a_revision.py").write_text(script)
        monkeypatch.setattr(migration, "_SCRIPTS", scripts)

    return make


def what_it_takes_away(database: Database, revision: str, before: str | None) -> list[str]:
    """Return why a program of the revision before cannot work with a revision."""
    needed = MetaData()
    if before is not None:
        with database.engine.begin() as connection:
            command.upgrade(migration._config(connection), before)
    needed.reflect(database.engine)
    with database.engine.begin() as connection:
        command.upgrade(migration._config(connection), revision)
    with database.engine.connect() as connection:
        return shortfalls(connection, needed)


SCRIPTS = list(ScriptDirectory(str(migration._SCRIPTS)).walk_revisions())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.revision)
def test_revision_only_adds_unless_it_says_so(empty: Database, script: object) -> None:
    taken = what_it_takes_away(empty, script.revision, script.down_revision)  # type: ignore[attr-defined]
    declared = hasattr(script.module, "contracts")  # type: ignore[attr-defined]
    assert bool(taken) is declared, f"it takes something away, and its `contracts` has to say so: {taken}"


def test_models_fit_their_own_schema(empty: Database) -> None:
    migration.upgrade(empty)
    assert migration.shortfalls_of(empty) == []


@pytest.mark.parametrize("change", EXPAND.values(), ids=EXPAND)
def test_what_adds_is_found_harmless(empty: Database, revise: Revise, change: str) -> None:
    before = migration.newest()
    revise(change)
    assert what_it_takes_away(empty, "0099", before) == []


@pytest.mark.parametrize(("change", "reason"), CONTRACT.values(), ids=CONTRACT)
def test_what_takes_away_is_found_out(empty: Database, revise: Revise, change: str, reason: str) -> None:
    before = migration.newest()
    revise(change)
    assert what_it_takes_away(empty, "0099", before) == [*reason.split("; ")]


@pytest.mark.parametrize("change", EXPAND.values(), ids=EXPAND)
def test_older_conductor_starts_on_a_schema_that_only_grew(
    empty: Database, revise: Revise, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    own = migration._SCRIPTS
    revise(change)
    migration.upgrade(empty)
    monkeypatch.setattr(migration, "_SCRIPTS", own)
    migration.require_usable(empty)
    empty.write(lambda session: session.add(an_instance("uuid", name="web")))
    with empty.read() as session:
        assert session.get_one(models.Instance, "uuid").vm_state is VmState.ACTIVE


@pytest.mark.parametrize(("change", "reason"), CONTRACT.values(), ids=CONTRACT)
def test_older_conductor_refuses_a_schema_that_lacks_what_it_needs(
    empty: Database, revise: Revise, monkeypatch: pytest.MonkeyPatch, change: str, reason: str
) -> None:
    own = migration._SCRIPTS
    revise(change)
    migration.upgrade(empty)
    monkeypatch.setattr(migration, "_SCRIPTS", own)
    with pytest.raises(DatabaseError) as refusal:
        migration.require_usable(empty)
    assert refusal.value.message == (
        f"database: it is at revision 0099, which is newer than this minova ({migration.newest()}) and does not fit: "
        f"{reason}: upgrade minova"
    )


def a_conductor(host: str, rpc_version: str, silent_for: float = 0.0) -> Callable[[Session], None]:
    now = utcnow()
    seen = now - timedelta(seconds=silent_for)
    row = models.Service(binary=CONDUCTOR, host=host, rpc_version=rpc_version, started_at=now, last_seen_at=seen)
    return lambda session: session.add(row)


def test_nothing_is_taken_from_a_conductor_that_needs_it(conf: cfg.ConfigOpts, empty: Database, revise: Revise) -> None:
    migration.upgrade(empty)
    before = migration.newest()
    empty.write(a_conductor("old", "1.3"))
    empty.write(a_conductor("new", "1.4"))
    empty.write(a_conductor("gone", "1.0", silent_for=1000))
    revise("table.drop_column('disk_gb')", more='contracts = "1.4"')
    with pytest.raises(DatabaseError) as refusal:
        migration.sync(conf)
    assert refusal.value.message == (
        "database: it cannot be migrated yet: conductor old speaks 1.3, and revision 0099 takes away what conductors "
        "below 1.4 need: upgrade or stop these first"
    )
    assert migration.current(empty) == before
    with empty.engine.begin() as connection:
        connection.execute(text("update services set rpc_version = '1.4'"))
    assert migration.sync(conf) == "0099"
