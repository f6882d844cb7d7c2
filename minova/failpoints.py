"""Named points at which a test has a process die or a message go astray.

They are where one thing is done and the next is not: before and after each commit, message, step, order, operation of
the hypervisor. Without ``MINOVA_FAILPOINTS`` in its environment a process passes them by. With it, the variable names a
folder in which each process writes down what it passes, in :data:`PASSED`, and looks for what shall happen, in
:data:`PLAN`. Nobody lists the points: a run without a plan shows which there are.
"""

import fcntl
import functools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
from oslo_context import context

from minova.exception import ConfigurationError

_T = TypeVar("_T")

ENVIRONMENT = "MINOVA_FAILPOINTS"
PASSED = "passed"
"""The file to which each pass is added, as a line of JSON: a :class:`Pass`."""
PLAN = "plan"
"""The file that holds a :class:`Plan`, if there is one."""

_BEFORE, _AFTER, _LATE, _OVERTAKEN = "before", "after", "late", "overtaken"


class Fate(StrEnum):
    """What can happen at a point; all but ``KILL`` happen to the message that is about to be sent there."""

    KILL = "kill"
    LOSE = "lose"
    DOUBLE = "double"
    DELAY = "delay"
    """It is sent later, and the sender goes on: one that waits for an answer runs out of patience.

    Once that is done, the point is passed a third time: ``late``.
    """
    REORDER = "reorder"
    """It is sent once the process has sent another for the same request, or not much later if there is none.

    If there was one, the point is passed a third time: ``overtaken``.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One pass of a point by a process: when (seconds since the epoch), for which request, and what happened to it."""

    binary: str
    host: str
    request: str
    point: str
    at: float
    fate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What shall happen, once.

    :ivar host: whose process it happens to; empty: that of whichever host comes first.
    :ivar request: the request that counts; empty: all do, and what services do of their own accord too.
    :ivar nth: at which pass of the point, over all processes that count: 1 is the first.
    :ivar seconds: how late a message is sent, or how long it waits for another at most.
    """

    binary: str
    point: str
    fate: Fate
    host: str = ""
    request: str = ""
    nth: int = 1
    seconds: float = 0.0

    def counts(self, passed: Pass) -> bool:
        """Return whether a pass is one of those that are counted."""
        mine = self.binary == passed.binary and self.host in ("", passed.host) and self.point == passed.point
        return mine and self.request in ("", passed.request)


# Made before there are threads: msgspec crashes if several are the first to need one.
_decode_pass, _decode_plan = msgspec.json.Decoder(Pass).decode, msgspec.json.Decoder(Plan).decode


class _Points:
    """The points of one process, which is to serve as ``binary`` on ``host``."""

    def __init__(self, folder: Path, binary: str, host: str) -> None:
        self._folder = folder
        self._binary = binary
        self._host = host
        self._sent = threading.Condition()
        self._numbers_sent: Counter[str] = Counter()

    def reach(self, kind: str, name: str, when: str) -> Plan | None:
        """Write down a pass, and die if the plan says so; else return what is planned for the message, if anything."""
        request = _request()
        point = f"{kind} {name} {when}"
        passed = Pass(binary=self._binary, host=self._host, request=request, point=point, at=time.time())
        with locked(self._folder):
            plan = self._due(passed)
            if plan is not None:
                passed = replace(passed, fate=plan.fate)
            with (self._folder / PASSED).open("ab") as file:
                file.write(msgspec.json.encode(passed) + b"\n")
        if plan is not None and plan.fate is Fate.KILL:
            os.killpg(0, signal.SIGKILL)
        return plan

    def message(
        self, kind: str, name: str, deliver: Callable[[], _T], copy: Callable[[], object], lost: Callable[[], _T]
    ) -> _T:
        """Do as :func:`message` does."""
        plan = self.reach(kind, name, _BEFORE)
        fate = plan.fate if plan is not None else None
        if fate is Fate.DOUBLE:
            copy()
        elif plan is not None and fate is Fate.DELAY:
            _later(plan.seconds, functools.partial(self._send_late, _request(), kind, name, copy))
        elif plan is not None and fate is Fate.REORDER and self._wait_for_another(plan.seconds):
            self.reach(kind, name, _OVERTAKEN)
        result = lost() if fate in (Fate.LOSE, Fate.DELAY) else deliver()
        with self._sent:
            self._numbers_sent[_request()] += 1
            self._sent.notify_all()
        self.reach(kind, name, _AFTER)
        return result

    def _due(self, passed: Pass) -> Plan | None:
        """Return the plan if this pass is the one that it is for."""
        try:
            plan = _decode_plan((self._folder / PLAN).read_bytes())
        except FileNotFoundError:
            return None
        if not plan.counts(passed):
            return None
        before = sum(plan.counts(each) for each in passes(self._folder))
        return plan if before + 1 == plan.nth else None

    def _send_late(self, request: str, kind: str, name: str, copy: Callable[[], object]) -> None:
        context.RequestContext(request_id=request)
        copy()
        self.reach(kind, name, _LATE)

    def _wait_for_another(self, seconds: float) -> bool:
        request = _request()
        with self._sent:
            number = self._numbers_sent[request]
            return self._sent.wait_for(lambda: self._numbers_sent[request] > number, seconds)


_points: _Points | None = None


def activate(binary: str, host: str) -> None:
    """Have this process pass its points, if the environment says so. :raises ConfigurationError: there is no folder."""
    global _points
    folder = os.environ.get(ENVIRONMENT)
    if folder:
        if not Path(folder).is_dir():
            raise ConfigurationError(reason=f"{ENVIRONMENT}: there is no folder {folder}")
        _points = _Points(Path(folder), binary, host)


def active() -> bool:
    """Return whether this process passes its points."""
    return _points is not None


def before(kind: str, name: str) -> None:
    """Pass the point before something is done."""
    if _points is not None:
        _points.reach(kind, name, _BEFORE)


def after(kind: str, name: str) -> None:
    """Pass the point after something has been done."""
    if _points is not None:
        _points.reach(kind, name, _AFTER)


def message(kind: str, name: str, deliver: Callable[[], _T], copy: Callable[[], object], lost: Callable[[], _T]) -> _T:
    """Send a message and return its answer, unless something happens to it.

    :param copy: sends it once more; nobody waits for the answer.
    :param lost: does what the sender of a message that nobody gets sees of that.
    """
    return deliver() if _points is None else _points.message(kind, name, deliver, copy, lost)


def tapped(subject: _T, kind: str, *names: str) -> _T:
    """Return an object with a point before and after each call of its methods (of those named, if any is)."""
    return subject if _points is None else cast(_T, _Tapped(subject, kind, names))


class _Tapped:
    """What :func:`tapped` returns."""

    def __init__(self, subject: object, kind: str, names: tuple[str, ...]) -> None:
        self._subject = subject
        self._kind = kind
        self._names = names

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._subject, name)
        if not callable(value) or (self._names and name not in self._names):
            return value

        def passing(*args: Any, **kwargs: Any) -> Any:
            before(self._kind, name)
            result = value(*args, **kwargs)
            after(self._kind, name)
            return result

        return passing


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep all processes from passing points for so long."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def passes(folder: Path) -> list[Pass]:
    """Return what was passed, in that order."""
    try:
        lines = (folder / PASSED).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    return [_decode_pass(line) for line in lines]


def _request() -> str:
    """Return the id of the request that this thread works for."""
    current = context.get_current()
    return str(current.request_id) if current is not None else ""


def _later(seconds: float, work: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, work)
    timer.daemon = True
    timer.start()
