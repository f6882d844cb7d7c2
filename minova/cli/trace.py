"""The trace of an action as a waterfall: every hop, who did it, when it began and how long it took."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from minova.cli.columns import lasted_ms, offset_ms
from minova.objects import Action, ActionEvent, Result

COLOURS = ("cyan", "green", "yellow", "magenta", "blue")


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar from ``begin`` to ``end`` of ``total``, as wide as there is room; at least one character long."""

    begin: float
    end: float
    total: float
    style: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it."""
        width = options.max_width
        scale = width / self.total if self.total > 0 else 0.0
        left = min(width - 1, max(0, int(self.begin * scale)))
        length = min(width - left, max(1, round(self.end * scale) - left))
        yield Segment(" " * left + ("#" if options.ascii_only else "█") * length, Style.parse(self.style))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Ask for what room there is."""
        return Measurement(10, options.max_width)


def waterfall(action: Action, events: Sequence[ActionEvent]) -> Table:
    """Return the trace of ``action`` as something that rich can draw; times are in milliseconds."""
    total = max((offset_ms(action, event) + lasted_ms(event) for event in events), default=0.0)
    table = Table(title=_title(action, total), title_justify="left", title_style="bold", expand=True)
    for name in ("step", "hop", "service"):
        table.add_column(name, no_wrap=True)
    table.add_column("start ms", justify="right", no_wrap=True)
    table.add_column("took ms", justify="right", no_wrap=True)
    table.add_column("", ratio=1, min_width=10)
    colours = _colours(event.service for event in events)
    for event in events:
        begin = offset_ms(action, event)
        bar = Bar(begin, begin + lasted_ms(event), total, colours[event.service])
        table.add_row(
            _step(event),
            event.hop.value,
            Text(event.service, style=colours[event.service]),
            f"{begin:.1f}",
            f"{lasted_ms(event):.1f}",
            bar,
        )
    table.caption, table.caption_justify = _caption(events), "left"
    return table


def _title(action: Action, total: float) -> Text:
    ended = f"{action.status} after {total:.0f} ms" if action.finished_at else f"{action.status} for {total:.0f} ms"
    return Text(f"{action.verb} {action.instance_name}: {ended} (action {action.id})")


def _step(event: ActionEvent) -> Text:
    again = f" ({event.attempt})" if event.attempt > 1 else ""
    return Text(event.step + again, style="" if event.result is Result.SUCCEEDED else "red")


def _caption(events: Iterable[ActionEvent]) -> Text | None:
    """Return what was said of the events, and which did not succeed."""
    told = [event for event in events if event.result is not Result.SUCCEEDED or event.message]
    lines = [
        f"{event.step}, {event.hop}: {event.result}{': ' if event.message else ''}{event.message}" for event in told
    ]
    style = "yellow" if all(event.result is Result.SUCCEEDED for event in told) else "red"
    return Text("\n".join(lines), style=style) if lines else None


def _colours(services: Iterable[str]) -> dict[str, str]:
    return dict(zip(dict.fromkeys(services), cycle(COLOURS), strict=False))
