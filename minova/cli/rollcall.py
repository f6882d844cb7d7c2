"""``minova-manage rpc ping --all``: one message to all, and who answers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from minova.cli.columns import Cell, Columns, duration, optional
from minova.exception import PeerSilent
from minova.objects import Pin, Presence, utcnow
from minova.states import HostState

if TYPE_CHECKING:
    from minova.cli.connection import Connection
    from minova.rpc.rollcall import Answer

TOPICS = ("conductor", "compute")


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """One process of a service that was called: it is there, or it should be."""

    binary: str
    host: str
    presence: Presence | None = None
    seconds: float = 0.0


def call_roll(connection: "Connection", seconds: float) -> tuple[list[Called], int]:
    """Call the roll of all services.

    :param seconds: how long to wait for answers; not so long, if all that are up have given theirs.
    :returns: who answered and, last, which services that are up did not; and the number of these.
    """
    with connection.roll_call() as roll:
        for topic in TOPICS:
            connection.control(topic).announce(connection.ctxt, roll.round_id)
        up = _expected(connection)
        answers = roll.collect(lambda answers: not _missing(up, answers), seconds)
    called = [
        Called(binary=each.presence.service, host=each.presence.host, presence=each.presence, seconds=each.seconds)
        for each in answers
    ]
    silent = [Called(binary=binary, host=host) for binary, host in _missing(up, answers).elements()]
    return sorted(called, key=lambda each: (each.binary, each.host)) + silent, len(silent)


def _expected(connection: "Connection") -> list[tuple[str, str]]:
    """Return (binary, host) of the services that are up; if no conductor can tell, that one conductor should be."""
    try:
        services = connection.conductor.list_services(connection.ctxt)
    except PeerSilent:
        return [("minova-conductor", "any")]
    return [(each.binary, each.host) for each in services if each.state is HostState.UP]


def pins_cell(pins: Sequence[Pin]) -> Cell:
    """Show pins, with the reason of each."""
    text = "\n".join(f"{pin.topic} {pin.version}: {pin.reason}" for pin in pins)
    return Cell([asdict(pin) for pin in pins], text or "-")


def _missing(up: Sequence[tuple[str, str]], answers: Sequence["Answer"]) -> Counter[tuple[str, str]]:
    """Return how many processes of which services have not answered, as far as the others of their host tell."""
    there = Counter((each.presence.service, each.presence.host) for each in answers)
    workers = {(each.presence.service, each.presence.host): each.presence.workers for each in answers}
    return Counter({key: workers.get(key, 1) for key in up}) - there


def _answer(called: Called) -> Cell:
    if called.presence is None:
        return Cell(None, "no answer")
    milliseconds = round(called.seconds * 1000, 1)
    return Cell(milliseconds, str(milliseconds))


def _tasks(called: Called) -> Cell:
    tasks = called.presence.tasks if called.presence else ()
    now = utcnow()
    text = "\n".join(f"{task.what} ({task.subject}) for {(now - task.since).total_seconds():.1f} s" for task in tasks)
    return Cell([asdict(task) | {"since": task.since.isoformat()} for task in tasks], text or "-")


ROLL_CALL: Columns[Called] = {
    "host": lambda item: item.host,
    "binary": lambda item: item.binary,
    "process": lambda item: (
        Cell(item.presence.process, str(item.presence.process)) if item.presence else optional(None)
    ),
    "answer_ms": _answer,
    "uptime": lambda item: duration(item.presence.uptime if item.presence else None),
    "release": lambda item: optional(item.presence.release if item.presence else None),
    "rpc_version": lambda item: optional(item.presence.rpc_version if item.presence else None),
    "pins": lambda item: pins_cell(item.presence.pins if item.presence else ()),
    "tasks": _tasks,
}
