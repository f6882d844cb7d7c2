"""``minova-manage instance console-log``."""

import re
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from minova.cli.base import MinovaCommand
from minova.exception import GuestNotFound, InvalidInput, PeerSilent
from minova.objects import ConsoleOutput

if TYPE_CHECKING:
    from minova.cli.connection import Connection

_PAUSE = 0.5
"""Seconds between two looks at a console on which nothing happens."""

_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
"""What terminals take as orders: they could be made to type, to lie, or to be of no use any more."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def harmless(text: str) -> str:
    """Return what a guest has written without what a terminal would take as orders; lines and tabs stay."""
    return _CONTROL.sub("", _SEQUENCE.sub("", text))


class ConsoleLog(MinovaCommand):
    """Show what an instance has written to its serial console since it came to its host."""

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the instance, and how much of its console."""
        parser.add_argument("instance", metavar="INSTANCE", help="name or UUID")
        parser.add_argument("--follow", action="store_true", help="go on with what it writes, until interrupted")
        parser.add_argument("--length", type=int, metavar="BYTES", help="only the last so many bytes; default: all")
        what = "give control characters to the terminal too, with which the guest may do it harm"
        parser.add_argument("--raw", action="store_true", help=what)

    def check(self, parsed_args: Namespace) -> None:
        """Refuse a length that is none."""
        super().check(parsed_args)
        if parsed_args.length is not None and parsed_args.length < 1:
            raise InvalidInput(reason=f"--length {parsed_args.length}: 1 or more bytes expected")

    def take_action(self, parsed_args: Namespace) -> None:
        """Write what there is, and go on if that is wanted."""
        filtered = self.app.stdout.isatty() and not parsed_args.raw
        offset, host = -parsed_args.length if parsed_args.length else 0, ""
        with self.app.connect() as connection:
            while True:
                output = self._ask(connection, parsed_args, offset)
                if output is None:
                    self.app.sleep(_PAUSE)
                elif host and output.host != host:
                    self.app.notify(f"the instance is on host {output.host} now, with a console that begins anew")
                    offset, host = 0, output.host
                elif output.text:
                    self._show(output, offset, filtered)
                    offset, host = output.next_offset, output.host
                elif parsed_args.follow:
                    self.app.sleep(_PAUSE)
                else:
                    return

    def _show(self, output: ConsoleOutput, offset: int, filtered: bool) -> None:
        if output.next_offset < offset:
            self.app.notify("the console begins anew")
        self.app.stdout.write(harmless(output.text) if filtered else output.text)
        self.app.stdout.flush()

    def _ask(self, connection: "Connection", parsed_args: Namespace, offset: int) -> ConsoleOutput | None:
        """Return the next piece; None: nobody can tell now, which may pass for one who follows."""
        try:
            return connection.conductor.get_console_output(connection.ctxt, parsed_args.instance, offset)
        except (PeerSilent, GuestNotFound):
            # It may be on its way to another host.
            if not parsed_args.follow:
                raise
            return None
