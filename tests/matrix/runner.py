"""Runs cells side by side: each process of the matrix has a stand of its own, on one broker and one database server."""

import multiprocessing
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Self

from tests.fixtures.services.services import Services
from tests.matrix.cells import Cell, Return, discover
from tests.matrix.experiment import NOT_REACHED, Verdict, experiment
from tests.matrix.stand import Stand

_ATTEMPTS = 3
"""How often a cell is tried whose point was not passed: some are passed only if one thing is quicker than another."""


class _Worker:
    """What one process of the matrix keeps from cell to cell."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stand: Stand | None = None
        self._has_spare = False
        self._folder = Path(tempfile.mkdtemp(prefix="minova-matrix-"))

    def stand(self, *, spare_conductor: bool) -> Stand:
        """Return a stand that works."""
        if self._stand is not None and self._has_spare != spare_conductor:
            self.drop()
        if self._stand is None:
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            self._stand, self._has_spare = (
                Stand(self._services, folder, spare_conductor=spare_conductor),
                spare_conductor,
            )
        return self._stand

    def drop(self) -> None:
        """Do without the stand that there is."""
        if self._stand is not None:
            stand, self._stand = self._stand, None
            stand.close()

    def close(self) -> None:
        """Leave nothing behind."""
        self.drop()
        shutil.rmtree(self._folder, ignore_errors=True)


_worker: _Worker


def _begin(services: Services) -> None:
    global _worker
    # Ctrl-C reaches all processes, and it is for the first to see to the end of the others.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _worker = _Worker(services)
    # At the end of this process, which is a child of the one that may stop the services.
    Finalize(None, _worker.close, exitpriority=100)


def _discover(operation: str) -> list[Cell]:
    stand = _worker.stand(spare_conductor=False)
    try:
        return discover(stand, operation)
    except Exception as error:
        # Not every error can travel from one process to another.
        text = f"{operation}: {type(error).__name__}: {error}\n{stand.site.tail()}"
    raise AssertionError(text)


def _do(cell: Cell) -> Verdict:
    verdict = Verdict(outcome=NOT_REACHED)
    for _attempt in range(_ATTEMPTS):
        verdict = experiment(_worker.stand(spare_conductor=cell.comes_back is Return.NEVER), cell)
        if verdict.broken:
            _worker.drop()
        if verdict.outcome != NOT_REACHED:
            break
    return verdict


class Runner:
    """Processes that do cells."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self._executor = executor

    @classmethod
    @contextmanager
    def open(cls, jobs: int) -> Iterator[Self]:
        """Start the services, and ``jobs`` processes beside each other."""
        services = Services()
        try:
            # Before there are children, which share them.
            _started = services.rabbitmq, services.postgresql
            context = multiprocessing.get_context("fork")
            executor = ProcessPoolExecutor(jobs, context, _begin, (services,))
            try:
                yield cls(executor)
            finally:
                # What was not begun is left, when the user has had enough.
                executor.shutdown(cancel_futures=True)
        finally:
            services.stop()

    def discover(self, operations: Iterable[str]) -> list[Cell]:
        """Return the cells of operations."""
        found = self._executor.map(_discover, operations)
        return [cell for cells in found for cell in cells]

    def run(self, cells: Iterable[Cell], verdicts: dict[Cell, Verdict], tell: Callable[[Cell, Verdict], None]) -> None:
        """Do cells, and tell of each as soon as it is done; ``verdicts`` is filled with what came of them."""
        # Those that need another kind of stand come last.
        ordered = sorted(cells, key=lambda cell: cell.comes_back is Return.NEVER)
        futures = {self._executor.submit(_do, cell): cell for cell in ordered}
        for future in as_completed(futures):
            cell = futures[future]
            verdicts[cell] = future.result()
            tell(cell, verdicts[cell])
