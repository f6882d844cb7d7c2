"""The main job, shown: boot, stop, start, live-migrate, and the trace of it all. It leaves nothing behind."""

import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TextIO, TypeVar

from rich.console import Console
from rich.table import Table

from minova.cli.base import MinovaCommand
from minova.cli.columns import HOST_ROW, INSTANCE_ROW, Cell, Columns, copied_share, rate, row, size
from minova.cli.connection import Connection, connect
from minova.cli.progress import ProgressLine
from minova.cli.trace import waterfall
from minova.cli.waiting import Waiter, ended_as
from minova.objects import Action, BootRequest, Migration, MigrationOptions, MigrationProgress
from minova.states import ActionStatus

_T = TypeVar("_T")

WIDTH_OF_PAPER = 118
"""Columns, where the output is no terminal."""

UNINTERESTING = ("uuid", "task", "enabled", "draining", "disk_used", "disk")
"""Columns that say nothing here, and need room."""

CONFIGURATION = """\
[DEFAULT]
transport_url = fake://
state_path = {folder}
host = demo
[embedded]
hosts = 3
[fake]
# A guest of 512 MiB that changes 64 MiB a second, over a link of 256 MiB/s.
migration_memory_mb = 512
migration_dirty_rate = 64
migration_bandwidth = 256
"""

NEXT = """\
What to try next, with no configuration at all (the state is kept in your home):

  .venv/bin/minova-manage instance boot web --vcpus 1 --memory 256 --disk 1
  .venv/bin/minova-manage instance list
  .venv/bin/minova-manage instance live-migrate web
  .venv/bin/minova-manage action list            # then: action trace <id>
  .venv/bin/minova-manage rpc map                # every RPC method, and where its two ends are
"""


class Demo(MinovaCommand):
    """Show the main job on a cluster of one conductor and three computes, all in this process."""

    def take_action(self, parsed_args: Namespace) -> None:
        """Run it; the cluster's state is in a folder that is removed at the end."""
        with tempfile.TemporaryDirectory(prefix="minova-demo-") as folder:
            file = Path(folder) / "minova.conf"
            file.write_text(CONFIGURATION.format(folder=folder))
            conf = self.app.configure([f"--config-file={file}"])
            with connect(conf, self.app.notify) as connection:
                Tour(self._console(), self._terminal(), connection, self.app.sleep).go()

    def _console(self) -> Console:
        width = None if self._terminal() else WIDTH_OF_PAPER
        return Console(file=self.app.stdout, width=width, highlight=False)

    def _terminal(self) -> TextIO | None:
        stdout: TextIO = self.app.stdout
        return stdout if stdout.isatty() else None


class Tour:
    """What the demo does and says."""

    def __init__(
        self, console: Console, terminal: TextIO | None, connection: Connection, sleep: Callable[[float], None]
    ) -> None:
        self._console = console
        self._api, self._ctxt = connection.conductor, connection.ctxt
        progress = ProgressLine(terminal) if terminal else Lines(console)
        self._waiter = Waiter(connection, progress, sleep)

    def go(self) -> None:
        """Do it all. :raises MinovaError: something did not work."""
        self._console.print("A conductor and three computes, in one process, over fake://\n", style="bold")
        for name in ("web", "db"):
            self._do(self._api.boot_instance(self._ctxt, BootRequest(name=name, vcpus=2, memory_mb=512, disk_gb=10)))
        self._do(self._api.stop_instance(self._ctxt, "web"))
        self._do(self._api.start_instance(self._ctxt, "web"))
        before = self._api.get_instance(self._ctxt, "db").host
        moved = self._do(self._api.live_migrate_instance(self._ctxt, "db", None, MigrationOptions()))
        after = self._api.get_instance(self._ctxt, "db").host
        self._console.print(f"db ran on {before} and runs on {after}; it never stopped.\n")
        self._draw("Instances", INSTANCE_ROW, self._api.list_instances(self._ctxt))
        self._draw("Hosts", HOST_ROW, self._api.list_hosts(self._ctxt))
        self._console.print(waterfall(moved, self._api.list_action_events(self._ctxt, moved.id)))
        self._console.print()
        self._console.print(NEXT, end="", soft_wrap=True, markup=False)

    def _do(self, action: Action) -> Action:
        ended = self._waiter.wait(action)
        ended_as(ended, ActionStatus.SUCCEEDED)
        assert ended.finished_at
        milliseconds = (ended.finished_at - ended.submitted_at).total_seconds() * 1000
        self._console.print(f"[green]done[/green] {ended.verb} {ended.instance_name} ({milliseconds:.0f} ms)")
        return ended

    def _draw(self, title: str, columns: Columns[_T], items: Iterable[_T]) -> None:
        shown = {name: show for name, show in columns.items() if name not in UNINTERESTING}
        table = Table(*shown, title=title, title_justify="left", title_style="bold")
        for item in items:
            cells = (cell.human_readable() if isinstance(cell, Cell) else str(cell) for cell in row(shown, item))
            table.add_row(*cells)
        self._console.print(table)
        self._console.print()


class Lines:
    """Progress on paper: a line for each pass over the memory, and for each fifth of it."""

    wants_migration = True

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = (0, 0)

    def shown(self) -> AbstractContextManager[object]:
        """Return a context that does nothing."""
        return nullcontext()

    def show(self, action: Action, migration: Migration | None) -> None:
        """Write a line if there is news."""
        progress = migration.progress if migration else MigrationProgress()
        news = (progress.iteration, int(copied_share(progress) * 5))
        if news == self._said:
            return
        self._said = news
        self.say(
            f"     {action.verb} {action.instance_name}, pass {progress.iteration}: {copied_share(progress):.0%} of "
            f"{size(progress.total_bytes).human_readable()} copied at {rate(progress.bandwidth).human_readable()}, "
            f"dirtied at {rate(progress.dirty_rate).human_readable()}"
        )

    def say(self, message: str) -> None:
        """Write a line."""
        self._console.print(message, markup=False)
