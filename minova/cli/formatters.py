"""The one output format that cliff lacks."""

from argparse import Namespace
from collections.abc import Sequence
from typing import Any, TextIO

from cliff.formatters.base import SingleFormatter
from cliff.formatters.commaseparated import CSVLister


class CsvFormatter(CSVLister, SingleFormatter):
    """One object as csv: a line of names and a line of values, as in a list of one."""

    def emit_one(
        self, column_names: Sequence[str], data: Sequence[Any], stdout: TextIO, parsed_args: Namespace
    ) -> None:
        """Write the two lines."""
        self.emit_list(column_names, [data], stdout, parsed_args)
