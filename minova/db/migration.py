"""The schema's versions: migrate a database, and refuse one that does not fit."""

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

from minova.db.session import Database
from minova.exception import DatabaseError

_SCRIPTS = Path(__file__).with_name("migrations")


def newest() -> str:
    """Return the revision that this program needs."""
    revision = ScriptDirectory(str(_SCRIPTS)).get_current_head()
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
        raise _unreadable(database, error) from None


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
            raise _unreadable(database, error) from None
    return newest()


def require_newest(database: Database) -> None:
    """Check that a database is at the newest revision.

    :raises DatabaseError: it is not, and what to do.
    """
    revision = _known(database)
    if revision != newest():
        found = revision or "empty"
        raise DatabaseError(reason=f"it is at revision {found}, but {newest()} is needed: run minova-manage db sync")


def sync(conf: cfg.ConfigOpts) -> str:
    """Bring the configured database to the newest revision and return that. :raises DatabaseError:"""
    database = Database(conf)
    try:
        return upgrade(database)
    finally:
        database.close()


def version(conf: cfg.ConfigOpts) -> tuple[str | None, str]:
    """Return the revision of the configured database and the newest known. :raises DatabaseError:"""
    database = Database(conf)
    try:
        return current(database), newest()
    finally:
        database.close()


def _known(database: Database) -> str | None:
    revision = current(database)
    known = {script.revision for script in ScriptDirectory(str(_SCRIPTS)).walk_revisions()}
    if revision is not None and revision not in known:
        reason = f"it is at revision {revision}, which is newer than this minova ({newest()}): upgrade minova"
        raise DatabaseError(reason=reason)
    return revision


def _config(connection: sqlalchemy.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    return config


def _unreadable(database: Database, error: Exception) -> DatabaseError:
    cause = str(error.__cause__ or error).splitlines()[0]
    return DatabaseError(reason=f"{database.engine.url.render_as_string(hide_password=True)}: {cause}")
