"""Engines and transactions."""

import functools
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

import sqlalchemy
from oslo_config import cfg
from oslo_db import api
from oslo_db import exception as db_exception
from oslo_db.sqlalchemy import enginefacade, exc_filters
from sqlalchemy import event, exc
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.orm.exc import StaleDataError

from minova import failpoints
from minova.conf.check import mask
from minova.exception import DatabaseError
from minova.notifications.catalogue import Notification

_P = ParamSpec("_P")
_T = TypeVar("_T")

_MAX_RETRIES = 20
_RECONNECT_INTERVAL = 0.5
_RECONNECTS = 60
"""So for half a minute, in which a server restarts; whoever called may have had enough by then."""

_SHUTTING_DOWN = 1053
"""MariaDB's and MySQL's code of a statement that was cut off by the server's end."""

_SERIALIZATION_FAILURE = "40001"
"""PostgreSQL's code of a transaction that does not fit to one that was committed before it."""

_ISOLATION: Final = "READ COMMITTED"
"""Of every transaction on a server, whatever the server's default is. What decides compares and swaps what it read, or
locks it; once it has waited for a lock it has to see what was committed meanwhile, which a snapshot would hide."""

_WRITES = "minova_writes"
_ANNOUNCED = "minova_announced"


@exc_filters.filters("mysql", exc.OperationalError, r"^\(\S+ \((1290|1792|1836), ")  # type: ignore[untyped-decorator]
@exc_filters.filters("postgresql", exc.InternalError, r"^\(\S+ReadOnlySqlTransaction\)")  # type: ignore[untyped-decorator]
def _leave_read_only(error: Exception, _match: object, _dialect: str, _is_disconnect: bool) -> None:
    """Let a server that takes no writes any more count as away: another is the primary now.

    That closes all connections to it, too, and those that are made anew find the other one.
    """
    raise db_exception.DBConnectionError(error)


class LostRace(Exception):
    """Another transaction changed what this one had read: run it again from its start."""


def announce(session: Session, notification: Notification) -> None:
    """Have a notification sent once the session's transaction is committed; if it is rolled back, it is forgotten."""
    session.info.setdefault(_ANNOUNCED, []).append(notification)


@contextmanager
def savepoint(session: Session) -> Iterator[None]:
    """Undo what is done inside, announcements too, if it raises an error."""
    before = list(session.info.get(_ANNOUNCED, ()))
    try:
        with session.begin_nested():
            yield
    except BaseException:
        session.info[_ANNOUNCED] = before
        raise


class Database:
    """Transactions on one database."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        """Open the database of ``[database]``; connections are made when they are needed.

        :raises DatabaseError: the URL cannot be used.
        """
        self.engine = _make_engine(conf)
        self._writers = sessionmaker(self.engine.execution_options(**{_WRITES: True}), expire_on_commit=False)
        self._readers = sessionmaker(self.engine, expire_on_commit=False)
        self._publish: Callable[[Notification], None] | None = None

    def publish_to(self, publish: Callable[[Notification], None]) -> None:
        """Hand what transactions have announced to ``publish`` from now on, which neither blocks nor fails."""
        self._publish = publish

    def write(self, work: Callable[Concatenate[Session, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run ``work(session, ...)`` in one transaction, commit it and return its result.

        The one place where transactions are retried: after a deadlock, a serialization failure, a lock that others
        hold for too long, when another transaction was faster (:class:`LostRace`, a stale row, a key that is taken), or
        when the connection is lost.
        So ``work`` may run several times, and must do nothing but read and write the database, and :func:`announce`:
        only what the run that was committed has announced is published. It may even find its own result there: the
        answer to a commit can be lost too.

        Transactions run side by side, except on SQLite: what is decided by one row and written to another is so only if
        the row that was read is locked, or compared and swapped too.

        :raises DatabaseError: the database cannot be reached, and was not for half a minute; or others keep it locked.
        """
        result, announced = persistent(self._write)(work, *args, **kwargs)
        if self._publish is not None:
            for notification in announced:
                self._publish(notification)
        return result  # type: ignore[no-any-return]  # oslo.db has no types

    @api.wrap_db_retry(  # type: ignore[untyped-decorator]
        max_retries=_MAX_RETRIES,
        retry_interval=0.01,
        max_retry_interval=0.5,
        inc_retry_interval=True,
        jitter=True,
        retry_on_deadlock=True,
        exception_checker=lambda error: _lost_to_others(error),
    )
    def _write(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self._writers.begin() as session:
            result = work(session, *args, **kwargs)
            failpoints.before("commit", work.__qualname__)
        failpoints.after("commit", work.__qualname__)
        return result, session.info.get(_ANNOUNCED, ())

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Open a transaction that only reads; see :func:`persistent` for what a server's restart does to it."""
        with self._readers() as session:
            yield session

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def persistent(work: Callable[_P, _T]) -> Callable[_P, _T]:
    """Make what uses the database run again, from its start, while the server is away: it restarts, or cut us off.

    ``work`` raises DatabaseError after half a minute of that.
    """
    persevering = _PERSEVERE(work)

    @functools.wraps(work)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return persevering(*args, **kwargs)  # type: ignore[no-any-return]  # oslo.db has no types
        except (db_exception.DBConnectionError, exc.OperationalError) as error:
            if not _is_away(error) and not _is_locked(error):
                raise
            what = "it cannot be reached" if _is_away(error) else "others keep it locked"
            raise DatabaseError(reason=f"{what}: {_first_line(error)}") from None

    return wrapper


def _is_away(error: Exception) -> bool:
    """Return whether an error means that the server cannot be reached."""
    if isinstance(error, exc.OperationalError):
        # oslo.db does not know these: without a statement it was the connection that could not be made.
        return error.statement is None or _SHUTTING_DOWN in getattr(error.orig, "args", ())
    return isinstance(error, db_exception.DBConnectionError)


def _is_locked(error: Exception) -> bool:
    """Return whether another process has held SQLite's one lock for longer than a connection waits for it."""
    return isinstance(error, exc.OperationalError) and "database is locked" in str(error.orig)


def _lost_to_others(error: Exception) -> bool:
    """Return whether a transaction failed because of what others did at the same time; deadlocks are known already."""
    if isinstance(error, LostRace | StaleDataError | db_exception.DBDuplicateEntry) or _is_locked(error):
        return True
    if isinstance(getattr(error, "cause", None), db_exception.DBDeadlock):
        # MariaDB ends the transaction with a deadlock; so the savepoint in which it was met is not there any more.
        return True
    # oslo.db does not know it.
    return isinstance(error, exc.DBAPIError) and getattr(error.orig, "pgcode", None) == _SERIALIZATION_FAILURE


_PERSEVERE = api.wrap_db_retry(
    max_retries=_RECONNECTS, retry_interval=_RECONNECT_INTERVAL, inc_retry_interval=False, exception_checker=_is_away
)


def _first_line(error: Exception) -> str:
    return str(error.__cause__ or error).splitlines()[0]


def unusable(url: sqlalchemy.URL, error: Exception) -> DatabaseError:
    """Return what to tell of an error that a library met; without the password of ``url``."""
    return DatabaseError(reason=f"{mask(url.render_as_string())}: {_first_line(error)}")


def _make_engine(conf: cfg.ConfigOpts) -> sqlalchemy.Engine:
    try:
        url = sqlalchemy.make_url(conf.database.connection)
        _make_folder(url)
        manager = enginefacade.transaction_context()
        # Yielding at each check-in is for green threads; real ones need no such help.
        manager.configure(sqlite_fk=True, thread_checkin=False, **_engine_options(conf))
        engine: sqlalchemy.Engine = manager.writer.get_engine()
    except ImportError as error:
        # The one error here that says much and quotes nothing.
        raise DatabaseError(reason=f"[database] connection needs a driver that is not installed: {error}") from None
    except (exc.ArgumentError, exc.NoSuchModuleError) as error:
        # The error may quote the URL, and the URL may hold a password.
        reason = f"[database] connection cannot be used ({type(error).__name__})"
        raise DatabaseError(reason=reason) from None
    except (OSError, db_exception.DBError, exc.DBAPIError) as error:
        raise unusable(url, error) from None
    # An error would quote the values of its statement, and one of them may be user data.
    engine.hide_parameters = True
    if url.get_backend_name() == "sqlite":
        _tune_sqlite(engine)
    else:
        _isolate(engine)
    return engine


def _engine_options(conf: cfg.ConfigOpts) -> dict[str, Any]:
    """Return ``[database]`` as enginefacade takes it: the options that it does not know are other libraries'."""
    known = ("connection", "max_pool_size", "max_overflow", "pool_timeout", "max_retries", "retry_interval")
    more = ("connection_recycle_time", "connection_debug", "sqlite_synchronous", "mysql_sql_mode")
    return {name: conf.database[name] for name in (*known, *more)}


def _make_folder(url: sqlalchemy.URL) -> None:
    if url.get_backend_name() == "sqlite" and url.database and url.database != ":memory:":
        Path(url.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def _isolate(engine: sqlalchemy.Engine) -> None:
    """Let all transactions see what was committed before each of their statements."""

    @event.listens_for(engine, "connect")
    def _connect(connection: DBAPIConnection, _record: object) -> None:
        engine.dialect.set_isolation_level(connection, _ISOLATION)

    # The connection with which oslo.db has looked whether the server is there came before that.
    engine.dispose()


def _tune_sqlite(engine: sqlalchemy.Engine) -> None:
    """Let readers and one writer work side by side, and make writers queue up instead of failing half-way."""

    @event.listens_for(engine, "connect")
    def _connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout = 10000")
        connection.execute("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: sqlalchemy.Connection) -> None:
        # A transaction that reads first and writes later could not be upgraded once another has written, and would
        # fail at once. So writers lock from their start, in place of the plain BEGIN that oslo.db has just sent.
        if connection.get_execution_options().get(_WRITES):
            connection.exec_driver_sql("ROLLBACK")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
