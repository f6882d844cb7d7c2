"""``minova-manage host``."""

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from minova.cli import columns
from minova.cli.base import ListCommand, PartlyFailed, ShowCommand
from minova.objects import Action, Host

if TYPE_CHECKING:
    from minova.cli.connection import Connection


def _add_host(parser: ArgumentParser) -> None:
    parser.add_argument("host", metavar="HOST", help="name of the host")


class List(ListCommand[Host]):
    """List hosts, and what of them is in use."""

    table = columns.HOST_ROW

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> list[Host]:
        """Return the hosts."""
        return connection.conductor.list_hosts(connection.ctxt)


class Show(ShowCommand[Host]):
    """Show a host."""

    table = columns.HOST

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the host."""
        _add_host(parser)

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> Host:
        """Return the host."""
        return connection.conductor.get_host(connection.ctxt, parsed_args.host)


class Drain(ListCommand[Action]):
    """Move all instances off a host, and let no new ones come; succeeds if all are gone."""

    table = columns.ACTION_ROW

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the host, and whether to wait."""
        _add_host(parser)
        parser.add_argument("--no-wait", action="store_true", help="list the actions, and do not wait for their ends")

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> list[Action]:
        """Return the actions that move the instances: as they ended, if they are waited for."""
        actions = connection.conductor.drain_host(connection.ctxt, parsed_args.host)
        if parsed_args.no_wait:
            return actions
        waiter = self.app.waiter(connection)
        ended = [waiter.wait(action) for action in actions]
        # Not only of the actions that failed: some instances cannot even be tried.
        left = connection.conductor.list_instances(connection.ctxt, parsed_args.host)
        if left:
            names = ", ".join(instance.name for instance in left)
            reason = f"{len(left)} instances are still on {parsed_args.host} (see: instance faults): {names}"
            self.complaint = PartlyFailed(reason=reason)
        return ended


class Undrain(ShowCommand[Host]):
    """Let new instances come to a host again."""

    table = columns.HOST

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the host."""
        _add_host(parser)

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> Host:
        """Undrain the host and return it."""
        return connection.conductor.undrain_host(connection.ctxt, parsed_args.host)
