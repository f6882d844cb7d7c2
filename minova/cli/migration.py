"""``minova-manage migration``."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from minova.cli import columns
from minova.cli.base import ActionCommand, ListCommand, ShowCommand
from minova.objects import Action, Migration
from minova.states import ActionStatus

if TYPE_CHECKING:
    from minova.cli.connection import Connection


def _add_migration(parser: ArgumentParser) -> None:
    parser.add_argument("migration", metavar="MIGRATION", help="UUID of the migration")


class List(ListCommand[Migration]):
    """List migrations, newest first."""

    table = columns.MIGRATION_ROW

    def arguments(self, parser: ArgumentParser) -> None:
        """Add what to select by."""
        parser.add_argument("--instance", metavar="INSTANCE", help="only those of this instance: name or UUID")
        parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many; default: 100")

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> list[Migration]:
        """Return the migrations."""
        return connection.conductor.list_migrations(connection.ctxt, parsed_args.instance, parsed_args.limit)


class Show(ShowCommand[Migration]):
    """Show a migration, and how far it is."""

    table = columns.MIGRATION

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the migration."""
        _add_migration(parser)

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> Migration:
        """Return the migration."""
        return connection.conductor.get_migration(connection.ctxt, parsed_args.migration)


class _MigrationAction(ActionCommand[Migration]):
    """Influences the action that a migration belongs to; at its end the migration is shown."""

    table = columns.MIGRATION

    def arguments(self, parser: ArgumentParser) -> None:
        _add_migration(parser)

    def result(self, connection: "Connection", parsed_args: Namespace, action: Action) -> Migration:
        return connection.conductor.get_migration(connection.ctxt, parsed_args.migration)


class Abort(_MigrationAction):
    """Abort a migration, queued or running; the instance stays where it is."""

    wanted = ActionStatus.CANCELLED

    def submit(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Ask for it."""
        return connection.conductor.abort_migration(connection.ctxt, parsed_args.migration)


class ForceComplete(_MigrationAction):
    """End a live migration that does not converge, at the cost of a longer standstill."""

    def submit(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Ask for it."""
        return connection.conductor.force_complete_migration(connection.ctxt, parsed_args.migration)
