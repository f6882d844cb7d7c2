"""``minova-manage db``: the one noun that reaches for the database itself."""

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from minova.cli.base import Show
from minova.cli.columns import Columns, optional, row
from minova.exception import InvalidInput

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

PURGED: Columns[Counter[str]] = {
    "actions": lambda item: item["actions"],
    "faults": lambda item: item["instance_faults"],
    "instances": lambda item: item["instances"],
}

_MOST_DAYS = 36500


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


class Purge(_DatabaseCommand):
    """Purge what was over so many days ago, as conductors do by themselves."""

    table = PURGED

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the age."""
        what = "purge actions that ended more than so many days ago, faults, and instances that were deleted before"
        parser.add_argument("--older-than", type=int, required=True, metavar="DAYS", help=what)

    def check(self, parsed_args: Namespace) -> None:
        """Refuse an age at which a request may still be repeated."""
        super().check(parsed_args)
        if not 1 <= parsed_args.older_than <= _MOST_DAYS:
            raise InvalidInput(reason=f"--older-than {parsed_args.older_than}: 1 to {_MOST_DAYS} days expected")

    def take_action(self, parsed_args: Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Purge, beside the conductors, and return how much went."""
        from minova.conductor.retention import Retention
        from minova.db import migration
        from minova.db.session import Database

        with self.database() as conf, Database(conf) as database:
            migration.require_usable(database)
            return tuple(PURGED), row(PURGED, Retention(conf, database).purge(parsed_args.older_than))
