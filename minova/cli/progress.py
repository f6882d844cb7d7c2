"""How far an action is: one line on a terminal, and silence elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from minova.cli.columns import MIB, copied_share, rate, size
from minova.objects import Action, Migration, MigrationProgress, utcnow

BAR_WIDTH = 20


class ProgressLine:
    """A line on a terminal that is rewritten in place, and gone at the end."""

    wants_migration = True

    def __init__(self, stream: TextIO, now: Callable[[], datetime] = utcnow) -> None:
        """Draw on the terminal ``stream``."""
        self._console = Console(file=stream)
        self._now = now
        self._live = self._new_live()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Take the terminal."""
        self._live = self._new_live()
        with self._live:
            yield

    def show(self, action: Action, migration: Migration | None) -> None:
        """Draw the line anew."""
        seconds = max(0.0, (self._now() - action.submitted_at).total_seconds())
        self._live.update(line(action, migration, seconds), refresh=True)

    def say(self, message: str) -> None:
        """Put a line that stays, above the other."""
        self._console.print(message, markup=False, highlight=False, soft_wrap=True)

    def _new_live(self) -> Live:
        return Live(console=self._console, transient=True, auto_refresh=False)


def line(action: Action, migration: Migration | None, seconds: float) -> RenderableType:
    """Return what an action is doing, ``seconds`` after its submission, for rich to draw on one line."""
    again = f" (attempt {action.attempt})" if action.attempt > 1 else ""
    grid = Table.grid(padding=(0, 2, 0, 0))
    parts: list[RenderableType] = [
        Text(f"{action.verb} {action.instance_name}", style="bold"),
        Text(f"{action.step}{again}", style="cyan"),
        Text(f"{seconds:.1f} s"),
    ]
    if migration is not None and migration.progress.total_bytes:
        parts += [
            ProgressBar(total=1.0, completed=copied_share(migration.progress), width=BAR_WIDTH),
            _copying(migration.progress),
        ]
    for part in parts:
        # What may be cut off on a narrow terminal says so itself; the other columns keep their width.
        grid.add_column(no_wrap=not (isinstance(part, Text) and part.no_wrap))
    grid.add_row(*parts)
    return grid


def _copying(progress: MigrationProgress) -> Text:
    rates = f"{rate(progress.bandwidth)}, dirtied {rate(progress.dirty_rate)}"
    text = (
        f"{progress.done_bytes / MIB:.0f}/{size(progress.total_bytes)}, {size(progress.remaining_bytes)} left, "
        f"pass {progress.iteration}, {progress.verdict or rates}"
    )
    return Text(text, no_wrap=True, overflow="ellipsis")
