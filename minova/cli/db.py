"""``minova-manage db``: the one noun that reaches for the database itself."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from minova.cli.base import Show
from minova.cli.columns import Columns, optional, row

if TYPE_CHECKING:
    from oslo_config import cfg


class _DatabaseCommand(Show):
    """Works on the database that the configuration names."""

    @contextmanager
    def database(self) -> "Iterator[cfg.ConfigOpts]":
        """Return the configuration; while it is used, no embedded cluster is."""
        from minova.cli.connection import exclusive
        from minova.rpc.transport import is_fake

        conf = self.app.conf
        with exclusive(conf, self.app.notify) if is_fake(conf) else nullcontext():
            yield conf


SYNC: Columns[str] = {"revision": str}

VERSION: Columns[tuple[str | None, str]] = {
    "revision": lambda item: optional(item[0]),
    "newest": lambda item: item[1],
}


class Sync(_DatabaseCommand):
    """Make the database's tables, or bring them up to date."""

    table = SYNC

    def take_action(self, parsed_args: Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Migrate, and return the revision that the database has now."""
        from minova.db import migration

        with self.database() as conf:
            return tuple(SYNC), row(SYNC, migration.sync(conf))


class Version(_DatabaseCommand):
    """Show which revision the database has, and which is the newest."""

    table = VERSION

    def take_action(self, parsed_args: Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Return both revisions."""
        from minova.db import migration

        with self.database() as conf:
            return tuple(VERSION), row(VERSION, migration.version(conf))
