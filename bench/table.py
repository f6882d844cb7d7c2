"""What the benches print: a line for each thing that was measured."""

import statistics
import sys
from collections.abc import Iterable, Mapping

_NAME_WIDTH = 40


def show(took: Mapping[str, Iterable[float]], unit: str, digits: int) -> None:
    """Print the median, the maximum and each value of all that was measured, line by line as it comes.

    :param unit: of the values, in words.
    :param digits: after the point.
    """
    _say(f"{'':<{_NAME_WIDTH}}{'median':>8}{'max':>8}   each, in {unit}")
    for name, measured in took.items():
        values = list(measured)
        each = " ".join(f"{value:.{digits}f}" for value in values)
        _say(f"{name:<{_NAME_WIDTH}}{statistics.median(values):>8.{digits}f}{max(values):>8.{digits}f}   {each}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
