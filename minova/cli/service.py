"""``minova-manage service``."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from minova.cli import columns
from minova.cli.base import ListCommand, ShowCommand
from minova.objects import Service

if TYPE_CHECKING:
    from minova.cli.connection import Connection


class List(ListCommand[Service]):
    """List the registered services of the cluster."""

    table = columns.SERVICE

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> list[Service]:
        """Return the services."""
        return connection.conductor.list_services(connection.ctxt)


class _ServiceCommand(ShowCommand[Service]):
    """Changes the compute service of one host, and shows it."""

    table = columns.SERVICE

    def arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("host", metavar="HOST", help="host of the compute service")


class Enable(_ServiceCommand):
    """Let the scheduler choose a host again."""

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> Service:
        """Enable the service and return it."""
        return connection.conductor.set_service_enabled(connection.ctxt, parsed_args.host, True)


class Disable(_ServiceCommand):
    """Keep the scheduler from choosing a host; its instances stay."""

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the reason."""
        super().arguments(parser)
        parser.add_argument("--reason", default="", metavar="TEXT", help="why, for others to see")

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> Service:
        """Disable the service and return it."""
        return connection.conductor.set_service_enabled(connection.ctxt, parsed_args.host, False, parsed_args.reason)


class ForceDown(_ServiceCommand):
    """Say that a host is off for certain: its instances may be evacuated, and nobody waits for it."""

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the way back."""
        super().arguments(parser)
        parser.add_argument("--unset", action="store_true", help="say that it may run again")

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> Service:
        """Set the flag and return the service."""
        return connection.conductor.set_service_forced_down(connection.ctxt, parsed_args.host, not parsed_args.unset)
