"""What all commands have in common, and the three kinds of them that show something."""

import abc
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cliff.command import Command
from cliff.display import DisplayCommandBase
from cliff.lister import Lister
from cliff.show import ShowOne

from minova.cli.columns import ACTION, Columns, row
from minova.cli.waiting import ended_as
from minova.exception import InvalidInput, MinovaError
from minova.objects import Action
from minova.states import ActionStatus

if TYPE_CHECKING:
    from minova.cli.app import App
    from minova.cli.connection import Connection

T = TypeVar("T")


@dataclass(eq=False, kw_only=True)
class PartlyFailed(MinovaError):
    """Not all of what was asked for worked; the output says what did."""

    reason: str

    @property
    def message(self) -> str:
        """Return the reason."""
        return self.reason


class MinovaCommand(Command):
    """A command that knows minova's :class:`~minova.cli.app.App`; its docstring is its help."""

    app: "App"
    complaint: MinovaError | None = None
    """What is wrong although there is something to show; raised once it is shown."""

    def __init__(self, app: "App", app_args: Namespace | None) -> None:
        """Leave out cliff's ``cmd_name``: it makes cliff search all installed packages for hooks of the command."""
        super().__init__(app, app_args)

    def get_epilog(self) -> str:
        """Return nothing: cliff would search all installed packages for the one that brings the command."""
        return ""

    def get_parser(self, prog_name: str) -> ArgumentParser:
        """Return the parser, with :meth:`arguments`."""
        parser = super().get_parser(prog_name)
        self.arguments(parser)
        return parser

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the command's arguments; a command without any leaves it at that."""

    def run(self, parsed_args: Namespace) -> int:
        """Run the command and return its exit status."""
        self.check(parsed_args)
        self.app.init_backend()
        status = super().run(parsed_args)
        if self.complaint is not None:
            raise self.complaint
        return status

    def check(self, parsed_args: Namespace) -> None:
        """Refuse arguments that argparse cannot judge, before anything is done.

        :raises InvalidInput: they make no sense.
        """


class Display(MinovaCommand, DisplayCommandBase[Any]):
    """A command that shows columns, which ``-c`` selects from."""

    table: Columns[Any]

    @property
    def formatter_namespace(self) -> str:
        """Return the entry points of the formats, which are the same for one object and for many."""
        return "minova.formatter"

    def layout(self, parsed_args: Namespace) -> Columns[Any]:
        """Return the columns that will be shown, where that depends on the arguments."""
        return self.table

    def check(self, parsed_args: Namespace) -> None:
        """Refuse columns that do not exist; cliff would find out after the deed."""
        known = tuple(self.layout(parsed_args))
        unknown = [name for name in parsed_args.columns if self._normalize_column_name(name) not in known]
        if unknown:
            raise InvalidInput(reason=f"no such column: {', '.join(unknown)}; there are: {', '.join(known)}")


class ListCommand(Display, Lister, Generic[T]):
    """Shows objects, one in a row."""

    table: Columns[T]

    @abc.abstractmethod
    def fetch(self, connection: "Connection", parsed_args: Namespace) -> Iterable[T]:
        """Return what is to be shown."""

    def take_action(self, parsed_args: Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Fetch the objects and return them as cliff wants them."""
        with self.app.connect() as connection:
            layout = self.layout(parsed_args)
            return tuple(layout), [row(layout, item) for item in self.fetch(connection, parsed_args)]


class Show(Display, ShowOne):
    """A command that shows one object."""


class ShowCommand(Show, Generic[T]):
    """Shows one object, one field in a row."""

    table: Columns[T]

    @abc.abstractmethod
    def fetch(self, connection: "Connection", parsed_args: Namespace) -> T:
        """Return what is to be shown."""

    def take_action(self, parsed_args: Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Fetch the object and return it as cliff wants it."""
        with self.app.connect() as connection:
            return tuple(self.table), row(self.table, self.fetch(connection, parsed_args))


class ActionCommand(Show, Generic[T]):
    """Begins an action, or ends one early; waits for its end and shows what came of it."""

    table: Columns[T]
    wanted = ActionStatus.SUCCEEDED
    """The end that counts as success."""

    @abc.abstractmethod
    def submit(self, connection: "Connection", parsed_args: Namespace) -> Action:
        """Send the request and return the action that it is about."""

    @abc.abstractmethod
    def result(self, connection: "Connection", parsed_args: Namespace, action: Action) -> T:
        """Return what came of the action, which has ended."""

    def get_parser(self, prog_name: str) -> ArgumentParser:
        """Return the parser, with ``--no-wait``."""
        parser = super().get_parser(prog_name)
        parser.add_argument("--no-wait", action="store_true", help="show the action, and do not wait for its end")
        return parser

    def layout(self, parsed_args: Namespace) -> Columns[Any]:
        """Return the columns of the action, or of what comes of it."""
        return ACTION if parsed_args.no_wait else self.table

    def take_action(self, parsed_args: Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Do it, and return what is to be shown as cliff wants it."""
        with self.app.connect() as connection:
            action = self.submit(connection, parsed_args)
            if parsed_args.no_wait:
                return tuple(ACTION), row(ACTION, action)
            ended = self.app.waiter(connection).wait(action)
            ended_as(ended, self.wanted)
            return tuple(self.table), row(self.table, self.result(connection, parsed_args, ended))
