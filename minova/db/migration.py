"""The schema's versions: migrate a database, and refuse one that does not fit."""

from datetime import timedelta
from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from oslo_config import cfg
from oslo_db import exception as db_exception
from sqlalchemy import exc

from minova.db.fitness import shortfalls
from minova.db.queries import CONDUCTOR, live_versions
from minova.db.session import Database, unusable
from minova.exception import DatabaseError
from minova.objects import utcnow
from minova.rpc.versions import parse

_SCRIPTS = Path(__file__).with_name("migrations")


def newest() -> str:
    """Return the revision that this program needs."""
    revision = _scripts().get_current_head()
    assert revision, "the migrations have no head"
    return revision


def current(database: Database) -> str | None:
    """Return the revision of a database; None: it is empty.

    :raises DatabaseError: it cannot be read.
    """
    try:
        with database.engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    except (db_exception.DBError, exc.DBAPIError) as error:
        raise unusable(database.engine.url, error) from None


def upgrade(database: Database) -> str:
    """Bring a database to the newest revision and return that; one that is there already is left alone.

    :raises DatabaseError: it cannot be read or written, or is newer than this program.
    """
    revision = _known(database)
    if revision != newest():
        try:
            with database.engine.begin() as connection:
                command.upgrade(_config(connection), "head")
        except (db_exception.DBError, exc.DBAPIError, CommandError) as error:
            raise unusable(database.engine.url, error) from None
    return newest()


def require_usable(database: Database) -> None:
    """Check that this program can work with a database.

    During an upgrade a newer release migrates it, while conductors of this one go on.

    :raises DatabaseError: it cannot, and what to do.
    """
    revision = current(database)
    if is_newer(revision):
        reasons = shortfalls_of(database)
        if reasons:
            raise DatabaseError(reason=f"{_newer(revision)} and does not fit: {'; '.join(reasons)}: upgrade minova")
    elif revision != newest():
        found = revision or "empty"
        raise DatabaseError(reason=f"it is at revision {found}, but {newest()} is needed: run minova-manage db sync")


def is_newer(revision: str | None) -> bool:
    """Return whether only a newer program can have made a revision."""
    return revision is not None and revision not in {script.revision for script in _scripts().walk_revisions()}


def is_older(revision: str | None) -> bool:
    """Return whether an older program has made a revision, so that ``upgrade`` has something to do; not if empty."""
    return revision is not None and not is_newer(revision) and revision != newest()


def shortfalls_of(database: Database) -> list[str]:
    """Return why this program cannot work with a database, whatever its revision. :raises DatabaseError:"""
    try:
        with database.engine.connect() as connection:
            return shortfalls(connection)
    except (db_exception.DBError, exc.DBAPIError) as error:
        raise unusable(database.engine.url, error) from None


def sync(conf: cfg.ConfigOpts) -> str:
    """Bring the configured database to the newest revision and return that.

    :raises DatabaseError: it cannot be, or somebody still needs what would be taken away.
    """
    database = Database(conf)
    try:
        dependents = contract_dependents(conf, database)
        if dependents:
            raise DatabaseError(
                reason=f"it cannot be migrated yet: {'; '.join(dependents)}: upgrade or stop these first"
            )
        return upgrade(database)
    finally:
        database.close()


def contract_dependents(conf: cfg.ConfigOpts, database: Database) -> list[str]:
    """Return the live conductors that still need what the revisions to come would take away, one line for each.

    A revision that takes something away says in ``contracts`` from which RPC version on conductors do without it.

    :raises DatabaseError: it cannot be read.
    """
    revision = current(database)
    if revision is None or is_newer(revision):
        return []
    pending = list(_scripts().iterate_revisions(newest(), revision))
    contracts = {each.revision: each.module.contracts for each in pending if hasattr(each.module, "contracts")}
    with database.read() as session:
        live = live_versions(session, CONDUCTOR, utcnow() - timedelta(seconds=conf.service_down_time))
    return [
        f"conductor {host} speaks {version}, and revision {name} takes away what conductors below {needed} need"
        for name, needed in contracts.items()
        for host, version in live
        if parse(version) < parse(needed)
    ]


def version(conf: cfg.ConfigOpts) -> tuple[str | None, str]:
    """Return the revision of the configured database and the newest known. :raises DatabaseError:"""
    database = Database(conf)
    try:
        return current(database), newest()
    finally:
        database.close()


def _known(database: Database) -> str | None:
    revision = current(database)
    if is_newer(revision):
        raise DatabaseError(reason=f"{_newer(revision)}: upgrade minova")
    return revision


def _newer(revision: str | None) -> str:
    return f"it is at revision {revision}, which is newer than this minova ({newest()})"


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_SCRIPTS))


def _config(connection: sqlalchemy.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    return config
