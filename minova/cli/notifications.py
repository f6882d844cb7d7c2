"""``minova-manage notifications``."""

import signal
import unicodedata
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import closing
from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING, Any

from minova.cli import columns
from minova.cli.base import Display
from minova.cli.columns import Cell, row
from minova.exception import InvalidInput
from minova.notifications.catalogue import CATALOGUE

if TYPE_CHECKING:
    from minova.notifications.subscription import Message

Rows = Iterator[Sequence[object]]

WHOLE = "payload"
"""The column that is shown by the formats that have room for it, or when it is asked for."""

WIDTHS = {"time": 20, "priority": 8, "event": max(map(len, CATALOGUE)), "publisher": 26, "subject": 20}
"""Characters of the columns on a terminal: there, nothing can be measured that is still to come."""


class Watch(Display):
    """Show notifications as they come, until Ctrl-C is pressed or --count of them were shown.

    With -f json, each is a line of its own.
    """

    table = columns.NOTIFICATION
    formatter_default = "table"

    def arguments(self, parser: ArgumentParser) -> None:
        """Add what to select by."""
        what = "only these events, such as '*.error' or 'migration.*'; can be repeated"
        parser.add_argument("--event", action="append", default=[], metavar="GLOB", help=what)
        parser.add_argument("--count", type=int, metavar="N", help="end after so many")

    def check(self, parsed_args: Namespace) -> None:
        """Refuse patterns that mean no event."""
        super().check(parsed_args)
        if parsed_args.count is not None and parsed_args.count < 1:
            raise InvalidInput(reason=f"--count {parsed_args.count}: at least 1 is expected")
        for pattern in parsed_args.event:
            if not any(fnmatchcase(name, pattern) for name in CATALOGUE):
                known = ", ".join(dict.fromkeys(f"{name.rpartition('.')[0]}.*" for name in CATALOGUE))
                raise InvalidInput(reason=f"--event {pattern} means no event; there are: {known}")

    def run(self, parsed_args: Namespace) -> int:
        """Watch, and count Ctrl-C as the end that was wanted."""
        before = signal.getsignal(signal.SIGINT)
        try:
            return super().run(parsed_args)
        except KeyboardInterrupt:
            return 0
        finally:
            signal.signal(signal.SIGINT, before)

    def take_action(self, parsed_args: Namespace) -> tuple[Sequence[str], Iterator["Message"]]:
        """Return the columns, and the notifications that are to come."""
        from minova.notifications.subscription import Subscription

        subscription = Subscription(self.app.conf, self.app.notify)
        signal.signal(signal.SIGINT, subscription.interrupt)
        return tuple(self.table), iter(subscription)

    def produce_output(self, parsed_args: Namespace, column_names: Sequence[str], data: Any) -> int:
        """Write each notification when it comes."""
        wanted = parsed_args.columns or [
            name for name in column_names if name != WHOLE or parsed_args.formatter in ("json", "yaml")
        ]
        layout = {name: self.table[name] for name in map(self._normalize_column_name, wanted)}
        with closing(data):
            chosen = (each for each in data if _is_wanted(each, parsed_args.event))
            rows = (row(layout, each) for each in islice(chosen, parsed_args.count))
            self._write(parsed_args, list(layout), self._flushed(rows))
        return 0

    def _write(self, parsed_args: Namespace, names: list[str], rows: Rows) -> None:
        stdout = self.app.stdout
        if parsed_args.formatter == "table":
            stdout.write(_line(names, names))
            for cells in rows:
                stdout.write(_line(names, cells))
        elif parsed_args.formatter in ("json", "yaml"):
            parsed_args.noindent = True
            for cells in rows:
                stdout.write("---\n" if parsed_args.formatter == "yaml" else "")
                self.formatter.emit_one(names, cells, stdout, parsed_args)
        else:
            self.formatter.emit_list(names, rows, stdout, parsed_args)

    def _flushed(self, rows: Rows) -> Rows:
        """Yield the rows, and see to it that each can be read before the next is waited for."""
        self.app.stdout.flush()
        for cells in rows:
            yield cells
            self.app.stdout.flush()


def _is_wanted(message: "Message", patterns: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(message.event_type, pattern) for pattern in patterns)


def _line(names: Sequence[str], cells: Sequence[object]) -> str:
    texts = (cell.human_readable() if isinstance(cell, Cell) else str(cell) for cell in cells)
    padded = (_printable(text).ljust(WIDTHS.get(name, 0)) for name, text in zip(names, texts, strict=True))
    return f"{'  '.join(padded).rstrip()}\n"


def _printable(text: str) -> str:
    """Return a text without what would command the terminal: anybody may have published it."""
    return "".join("�" if unicodedata.category(each) == "Cc" else each for each in text)
