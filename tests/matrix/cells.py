"""The cells of the matrix: which there are is seen from a run of each operation in which nothing happens to it."""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from minova.db.queries import COMPUTE, CONDUCTOR
from minova.failpoints import Fate, Pass, Plan
from tests.matrix.operations import OPERATIONS
from tests.matrix.stand import CLIENT, LEASE, Stand

_MESSAGES = ("cast", "call", "reply")
_LATE = 2.0 * LEASE
"""Seconds by which a message is delayed: past the lease."""


_PASSES_OF_ALL = 2
"""How many passes of a point are tried where all that services do of their own accord counts: it goes on for ever."""


class Return(StrEnum):
    """When a process that was killed comes back."""

    AT_ONCE = "at once"
    AFTER_LEASE = "after the lease"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One experiment.

    :ivar host: whose process it happens to; empty: that of any host.
    :ivar nth: at which pass of the point.
    :ivar comes_back: of a kill; None: it happens to a message.
    """

    operation: str
    binary: str
    host: str
    point: str
    nth: int
    fate: Fate
    comes_back: Return | None = None

    def __str__(self) -> str:
        where = f"{self.binary.removeprefix('minova-')} {self.host}".strip()
        number = f" #{self.nth}" if self.nth > 1 else ""
        returns = f", back {self.comes_back}" if self.comes_back else ""
        return f"{self.operation} | {where} | {self.point}{number} | {self.fate}{returns}"

    def plan(self, request: str) -> Plan:
        """Return what has to happen; ``request`` is that of the operation."""
        return Plan(
            binary=self.binary,
            host=self.host,
            request="" if OPERATIONS[self.operation].everything else request,
            point=self.point,
            nth=self.nth,
            fate=self.fate,
            seconds=_LATE,
        )


def discover(stand: Stand, name: str) -> list[Cell]:
    """Run an operation, and return the cells of what it has passed."""
    operation = OPERATIONS[name]
    operation.prepare(stand)
    stand.arm(None)
    stand.site.end_of(stand.begin(operation.submit).result())
    stand.wait_until_idle()
    passes = [each for each in stand.passes() if _belongs(each, None if operation.everything else stand.request)]
    stand.tidy(operation.off, may_be_lost=operation.may_be_lost)
    return list(_cells(name, passes, each_pass=not operation.everything))


def _belongs(passed: Pass, request: str | None) -> bool:
    """Return whether a pass is part of a request (None: of any, but for the look whether all is over)."""
    return passed.request == request if request is not None else "get_activity" not in passed.point


def _cells(operation: str, passes: Iterable[Pass], *, each_pass: bool) -> Iterator[Cell]:
    places: dict[tuple[str, str, str], list[bool]] = {}
    passes = list(passes)
    for index, each in enumerate(passes):
        # Any conductor can be the one that a message reaches.
        host = each.host if each.binary == COMPUTE else ""
        places.setdefault((each.binary, host, each.point), []).append(_is_followed(each, passes[index + 1 :]))
    for (binary, host, point), followed in places.items():
        for nth, can_be_overtaken in enumerate(followed if each_pass else followed[:_PASSES_OF_ALL], start=1):
            for fate, comes_back in _fates(binary, point):
                if fate is Fate.REORDER and not can_be_overtaken:
                    continue
                yield Cell(
                    operation=operation,
                    binary=binary,
                    host=host,
                    point=point,
                    nth=nth,
                    fate=fate,
                    comes_back=comes_back,
                )


def _is_followed(passed: Pass, later: Iterable[Pass]) -> bool:
    """Return whether the same process sends another message for the same request later on."""
    mine = (passed.binary, passed.host, passed.request)
    return any(_is_message(each) and (each.binary, each.host, each.request) == mine for each in later)


def _is_message(passed: Pass) -> bool:
    kind, _name, when = passed.point.split()
    return kind in _MESSAGES and when == "before"


def _fates(binary: str, point: str) -> Iterator[tuple[Fate, Return | None]]:
    if binary in (CONDUCTOR, COMPUTE):
        yield from ((Fate.KILL, each) for each in Return)
    elif binary != CLIENT:
        raise AssertionError(f"nobody knows how to kill {binary}")
    kind, _name, when = point.split()
    if kind in _MESSAGES and when == "before":
        yield from ((fate, None) for fate in Fate if fate is not Fate.KILL)


def sample(cells: Sequence[Cell], number: int, seed: int) -> list[Cell]:
    """Choose cells, as evenly over the operations as their number allows."""
    chooser = random.Random(seed)
    shuffled = chooser.sample(cells, len(cells))
    taken: Counter[str] = Counter()
    ranks = []
    for cell in shuffled:
        ranks.append(taken[cell.operation])
        taken[cell.operation] += 1
    order = sorted(range(len(shuffled)), key=lambda index: ranks[index])
    return [shuffled[index] for index in order[:number]]
