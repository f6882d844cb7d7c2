"""``minova-manage instance explain``: what runs on an instance, what its hosts say, and what happens next."""

import textwrap
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from minova.cli.base import ShowCommand
from minova.cli.columns import Cell, Columns, flag, optional, when
from minova.objects import ExplainedAction, Explanation

if TYPE_CHECKING:
    from minova.cli.connection import Connection

_WIDTH = 90
"""Characters in a line of what is told in sentences."""


def _of(show: Callable[[ExplainedAction], object]) -> Callable[[Explanation], object]:
    """Show something of the action; of none that is nothing."""
    return lambda item: show(item.action) if item.action is not None else optional(None)


def _moment(which: str) -> Callable[[Explanation], Cell]:
    """Show a time of the action to programs as a time, and to people with how far it is from now."""

    def show(item: Explanation) -> Cell:
        moment: datetime | None = getattr(item.action, which, None)
        shown = when(moment)
        if moment is None:
            return shown
        return Cell(shown.machine_readable(), f"{shown.human_readable()} ({_from_now(item, moment)})")

    return show


def _running(which: str) -> Callable[[Explanation], Cell]:
    """Show a time of an action that runs; of one that has ended it means nothing."""
    show = _moment(which)
    return lambda item: optional(None) if item.action and item.action.finished_at else show(item)


def _from_now(item: Explanation, moment: datetime) -> str:
    # Both by the conductor's clock, whatever the one here says.
    seconds = (moment - item.explained_at).total_seconds()
    return f"in {seconds:.0f} s" if seconds > 0 else f"{-seconds:.0f} s ago"


def _owner(item: Explanation) -> Cell:
    action = item.action
    if action is None or action.finished_at is not None:
        return optional(None)
    if action.any_conductor:
        return Cell(action.owner, f"{action.owner}; any conductor takes the report")
    if action.owner_seen_at is None:
        return optional(action.owner)
    # All processes of a conductor are one service: that one of them lives says nothing of this one.
    host, heard = action.owner.rpartition("/")[0], _from_now(item, action.owner_seen_at)
    return Cell(action.owner, f"{action.owner} (of {host} some process was heard {heard})")


def _step(action: ExplainedAction) -> Cell:
    return Cell(action.step, f"{action.step} (undoes {action.undoes})" if action.undoes else action.step)


def _sentence(text: str) -> Cell:
    return Cell(text or None, _lines([text] if text else []))


def _hosts(item: Explanation) -> Cell:
    lines = [f"{word.host}: {word.said}" for word in item.hosts]
    return Cell(msgspec.to_builtins(list(item.hosts)), _lines(lines))


def _lines(sentences: Sequence[str]) -> str:
    """Return sentences to be read below each other."""
    return "\n".join(textwrap.fill(each, _WIDTH, subsequent_indent="  ") for each in sentences) or "-"


EXPLANATION: Columns[Explanation] = {
    "name": lambda item: item.name,
    "uuid": lambda item: item.uuid,
    "host": lambda item: optional(item.host),
    "state": lambda item: item.vm_state,
    "task": lambda item: optional(item.task_state),
    "power": lambda item: item.power_state,
    "action": _of(lambda action: action.verb),
    "action_id": _of(lambda action: action.id),
    "status": _of(lambda action: action.status),
    "error": _of(lambda action: _sentence(action.error)),
    "submitted": _moment("submitted_at"),
    "finished": _moment("finished_at"),
    "cancel_requested": _of(lambda action: flag(action.cancel_requested)),
    "step": _of(_step),
    "step_since": _moment("since"),
    "waits_for": _of(lambda action: optional(action.waits_for)),
    "attempt": _of(lambda action: action.attempt),
    "attempt_since": _running("attempted_at"),
    "patience_since": _running("heard_at"),
    "given_up": _running("given_up_at"),
    "owner": _owner,
    "lease_until": _running("lease_expires_at"),
    "next_attempt": lambda item: _sentence(item.next_attempt),
    "hosts": _hosts,
    "next": lambda item: Cell(list(item.next), _lines(item.next)),
}


class Explain(ShowCommand[Explanation]):
    """Explain what runs on an instance, what its hosts say of it, and what happens next by itself."""

    table = EXPLANATION

    def arguments(self, parser: ArgumentParser) -> None:
        """Add the instance."""
        parser.add_argument("instance", metavar="INSTANCE", help="name or UUID")

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> Explanation:
        """Ask a conductor, which asks the hosts."""
        return connection.conductor.explain_instance(connection.ctxt, parsed_args.instance)

    def produce_output(self, parsed_args: Namespace, column_names: Sequence[str], data: Any) -> int:
        """Leave out of the table what there is nothing to say of, unless it is asked for."""
        shown = list(zip(column_names, data, strict=True))
        if parsed_args.formatter == "table" and not parsed_args.columns:
            shown = [
                (name, cell) for name, cell in shown if not (isinstance(cell, Cell) and cell.human_readable() == "-")
            ]
        return super().produce_output(parsed_args, [name for name, _cell in shown], [cell for _name, cell in shown])
