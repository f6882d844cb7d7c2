"""The output formats in which cliff would say ``None`` for nothing, and csv for one object, which it lacks."""

from argparse import Namespace
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from cliff.columns import FormattableColumn
from cliff.formatters import value
from cliff.formatters.base import SingleFormatter
from cliff.formatters.commaseparated import CSVLister


class CsvFormatter(CSVLister, SingleFormatter):
    """A line of names, and a line of values for each object; numbers are numbers, and nothing is nothing."""

    def emit_list(
        self, column_names: Sequence[str], data: Iterable[Sequence[Any]], stdout: TextIO, parsed_args: Namespace
    ) -> None:
        """Write the lines of many objects."""
        super().emit_list(column_names, (_plain(row) for row in data), stdout, parsed_args)

    def emit_one(
        self, column_names: Sequence[str], data: Sequence[Any], stdout: TextIO, parsed_args: Namespace
    ) -> None:
        """Write the lines of one object."""
        self.emit_list(column_names, [data], stdout, parsed_args)


class ValueFormatter(value.ValueFormatter):
    """Values alone, for shell scripts; in a line of many, where words are counted, nothing is a dash."""

    def emit_list(
        self, column_names: Sequence[str], data: Iterable[Sequence[Any]], stdout: TextIO, parsed_args: Namespace
    ) -> None:
        """Write a line for each object."""
        super().emit_list(column_names, (_plain(row, nothing="-") for row in data), stdout, parsed_args)

    def emit_one(
        self, column_names: Sequence[str], data: Sequence[Any], stdout: TextIO, parsed_args: Namespace
    ) -> None:
        """Write a line for each value."""
        super().emit_one(column_names, _plain(data), stdout, parsed_args)


def _plain(row: Sequence[Any], nothing: str = "") -> list[Any]:
    """Return a row as programs want it."""
    values = (cell.machine_readable() if isinstance(cell, FormattableColumn) else cell for cell in row)
    return [nothing if value is None else value for value in values]
