"""``minova-manage action``."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from minova.cli import columns
from minova.cli.base import ActionCommand, ListCommand, ShowCommand
from minova.cli.waiting import ended_as
from minova.objects import Action, ActionEvent
from minova.states import ActionStatus

if TYPE_CHECKING:
    from minova.cli.connection import Connection

PIPED_WIDTH = 120
"""Characters in a line of a trace that is not read from a terminal."""


def _add_action(parser: ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", help="id of the action")


class List(ListCommand[Action]):
    """List actions, newest first."""

    table = columns.ACTION_ROW

    def arguments(self, parser: ArgumentParser) -> None:
        """Add what to select by."""
        parser.add_argument("--instance", metavar="INSTANCE", help="only those on this instance: name or UUID")
        parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many; default: 100")

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> list[Action]:
        """Return the actions."""
        return connection.conductor.list_actions(connection.ctxt, parsed_args.instance, parsed_args.limit)


class Show(ShowCommand[Action]):
    """Show an action."""

    table = columns.ACTION

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the action."""
        _add_action(parser)

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Return the action."""
        return connection.conductor.get_action(connection.ctxt, parsed_args.action)


class Watch(Show):
    """Follow an action until it ends; succeeds if the action does."""

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Return the action as it ended."""
        ended = self.app.waiter(connection).wait(super().fetch(connection, parsed_args))
        ended_as(ended, ActionStatus.SUCCEEDED)
        return ended


class Cancel(ActionCommand[Action]):
    """Cancel an action half-way, and undo what it did."""

    table = columns.ACTION
    wanted = ActionStatus.CANCELLED

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the action."""
        _add_action(parser)

    def submit(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Ask for it."""
        return connection.conductor.cancel_action(connection.ctxt, parsed_args.action)

    def result(self, connection: "Connection", parsed_args: Namespace, action: Action) -> Action:
        """Return the action as it ended."""
        return action


class Trace(ListCommand[tuple[Action, ActionEvent]]):
    """Show what an action did hop by hop: who did it, when and for how long."""

    table = columns.TRACE

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the action."""
        _add_action(parser)

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> list[tuple[Action, ActionEvent]]:
        """Return each event of the action, in the order of their start, with the action itself."""
        self._action = connection.conductor.get_action(connection.ctxt, parsed_args.action)
        events = connection.conductor.list_action_events(connection.ctxt, parsed_args.action)
        self._events = sorted(events, key=lambda event: event.started_at)
        return [(self._action, event) for event in self._events]

    def produce_output(self, parsed_args: Namespace, column_names: Sequence[str], data: Iterable[Any]) -> int:
        """Draw a waterfall, unless another format or certain columns are asked for."""
        if parsed_args.formatter != "table" or parsed_args.columns:
            return super().produce_output(parsed_args, column_names, data)
        from rich.console import Console

        from minova.cli.trace import waterfall

        stdout = self.app.stdout
        console = Console(file=stdout, width=None if stdout.isatty() else PIPED_WIDTH)
        console.print(waterfall(self._action, self._events))
        return 0
