"""``python -m tests.matrix``: discover the cells, do them, print the table; 1 if one is broken, or many not reached."""

import argparse
import random
import sys
import time
from collections.abc import Sequence

from minova.cmd import init_backend

init_backend()

from tests.fixtures.command import STOPPED, count, run  # noqa: E402
from tests.matrix.cells import Cell, sample  # noqa: E402
from tests.matrix.experiment import NOT_REACHED, Verdict  # noqa: E402
from tests.matrix.operations import OPERATIONS  # noqa: E402
from tests.matrix.report import print_table, summary  # noqa: E402
from tests.matrix.runner import Runner  # noqa: E402

_MOST_UNREACHED = 0.02
"""The share of cells whose points may not be passed: some are passed only if one thing is quicker than another."""


_OPERATION_HELP = f"only this one; may be repeated: {', '.join(OPERATIONS)}"
_MATCH_HELP = "only cells whose line contains this; may be repeated: all of them"


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--operation", action="append", choices=OPERATIONS, metavar="NAME", help=_OPERATION_HELP)
    parser.add_argument("--match", action="append", default=[], metavar="TEXT", help=_MATCH_HELP)
    parser.add_argument("--sample", type=count, default=0, metavar="N", help="only so many cells, chosen at random")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), metavar="N", help="of that choice")
    parser.add_argument("--jobs", type=count, default=4, metavar="N", help="cells beside each other; default: 4")
    parser.add_argument("--list", action="store_true", help="list the cells, and do none")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Run the matrix; return the exit status."""
    arguments = _arguments(argv)
    started = time.monotonic()
    with Runner.open(arguments.jobs) as runner:
        found = runner.discover(arguments.operation or OPERATIONS)
        cells = [each for each in found if all(text in str(each) for text in arguments.match)]
        if not cells:
            _say(f"no cell has {' and '.join(map(repr, arguments.match))} in its line: see --list")
            return 1
        _say(f"{len(cells)} cells found in {time.monotonic() - started:.0f} s")
        if arguments.sample:
            cells = sample(cells, arguments.sample, arguments.seed)
            _say(f"{len(cells)} of them are done: --sample {arguments.sample} --seed {arguments.seed}")
        if arguments.list:
            _say("\n".join(str(cell) for cell in cells))
            return 0
        verdicts: dict[Cell, Verdict] = {}
        try:
            runner.run(cells, verdicts, _tell)
        except KeyboardInterrupt:
            _say("stopping: what runs comes to its end")
    print_table(verdicts)
    for line in summary(verdicts, time.monotonic() - started):
        _say(line)
    unreached = [cell for cell, verdict in verdicts.items() if verdict.outcome == NOT_REACHED]
    for cell in unreached:
        _say(f"not reached: {cell}")
    too_many = len(unreached) > _MOST_UNREACHED * len(verdicts)
    if len(verdicts) < len(cells):
        return STOPPED
    return int(too_many or any(verdict.broken for verdict in verdicts.values()))


def _tell(cell: Cell, verdict: Verdict) -> None:
    seconds = f" after {verdict.recovery:.1f} s" if verdict.recovery is not None else ""
    _say(f"{cell}: {verdict.outcome}{seconds}{verdict.detail and chr(10)}{verdict.detail}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run(main)
