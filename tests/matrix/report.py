"""The table: operations, points, outcomes, times to recover."""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.table import Table

from minova.failpoints import Fate
from tests.matrix.cells import Cell, Return
from tests.matrix.experiment import Verdict

_COLUMNS = (*((Fate.KILL, each) for each in Return), *((fate, None) for fate in Fate if fate is not Fate.KILL))
_WIDTH = 250


def print_table(verdicts: Mapping[Cell, Verdict]) -> None:
    """Print a line for each point of each operation; the columns are what can happen there."""
    table = Table("operation", "process", "point", *(f"{fate} {comes_back or ''}" for fate, comes_back in _COLUMNS))
    rows: dict[tuple[str, str, str], dict[tuple[Fate, Return | None], str]] = {}
    for cell, verdict in verdicts.items():
        process = f"{cell.binary.removeprefix('minova-')} {cell.host}".strip()
        key = (cell.operation, process, f"{cell.point} #{cell.nth}")
        rows.setdefault(key, {})[cell.fate, cell.comes_back] = _shown(verdict)
    for key in sorted(rows):
        table.add_row(*key, *(rows[key].get(column, "") for column in _COLUMNS))
    Console(width=_WIDTH).print(table)


def summary(verdicts: Mapping[Cell, Verdict], seconds: float) -> Iterator[str]:
    """Yield what there is to say of all cells together; ``seconds`` is how long they took."""
    for fate, comes_back in _COLUMNS:
        of_kind = [verdicts[cell] for cell in verdicts if (cell.fate, cell.comes_back) == (fate, comes_back)]
        if not of_kind:
            continue
        recoveries = [each.recovery for each in of_kind if each.recovery is not None]
        outcomes = ", ".join(f"{number} {outcome}" for outcome, number in Counter(_outcomes(of_kind)).most_common())
        times = (
            f"; recovery: median {statistics.median(recoveries):.1f} s, max {max(recoveries):.1f} s"
            if recoveries
            else ""
        )
        yield f"{f'{fate} {comes_back}' if comes_back else fate}: {len(of_kind)} cells: {outcomes}{times}"
    yield f"{len(verdicts)} cells in {seconds:.0f} s, {sum(each.broken for each in verdicts.values())} broken"


def _outcomes(verdicts: list[Verdict]) -> Iterator[str]:
    return (verdict.outcome for verdict in verdicts)


def _shown(verdict: Verdict) -> str:
    return verdict.outcome if verdict.recovery is None else f"{verdict.outcome} {verdict.recovery:.1f}"
