"""One cell: something happens in the middle of an operation, and what comes of that is looked at."""

import time
from dataclasses import dataclass

from minova.conductor.tasks import TASKS
from minova.db import models
from minova.db.queries import COMPUTE
from minova.failpoints import Fate, Pass
from minova.objects import Hop, Result, utcnow
from minova.states import OPEN_ACTION, ActionStatus
from tests.fixtures.daemon import Daemon
from tests.matrix.asking import Background
from tests.matrix.cells import Cell, Return
from tests.matrix.operations import OPERATIONS
from tests.matrix.stand import Stand

_GRACE = 3.0
"""Seconds after the end of an operation in which a point that comes last is still passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a cell.

    :ivar outcome: how the action ended, and whether the message that was to be overtaken was only held up; ``not
        reached`` if the point was not passed; ``broken`` if something is wrong.
    :ivar recovery: seconds from what happened to the end of the action; None: it had ended before.
    :ivar detail: what is wrong.
    """

    outcome: str
    recovery: float | None = None
    detail: str = ""

    @property
    def broken(self) -> bool:
        """Whether something is wrong."""
        return self.outcome == BROKEN


NOT_REACHED, BROKEN = "not reached", "broken"


def experiment(stand: Stand, cell: Cell) -> Verdict:
    """Do a cell; whatever is wrong is told in the verdict, and the stand should not be used any more then."""
    try:
        return _Experiment(stand, cell).run()
    except Exception as error:
        story = "\n".join(f"  {each.point} {each.fate} @{each.binary} {each.host}" for each in stand.passes())
        return Verdict(outcome=BROKEN, detail=f"{type(error).__name__}: {error}\npassed:\n{story}\n{stand.reports()}")


class _Experiment:
    def __init__(self, stand: Stand, cell: Cell) -> None:
        self._stand = stand
        self._cell = cell
        self._operation = OPERATIONS[cell.operation]

    def run(self) -> Verdict:
        stand = self._stand
        self._operation.prepare(stand)
        stand.arm(self._cell.plan(stand.request))
        operator = stand.begin(self._operation.submit)
        happened = self._wait_for_fate(operator)
        victim = self._bring_back(happened)
        action = stand.site.end_of(operator.result())
        if happened is not None and happened.fate == Fate.DELAY:
            stand.wait_until_late()
        in_vain = self._cell.fate is Fate.REORDER and not stand.was_overtaken()
        stand.arm(None)
        self._check_end(action, victim)
        stand.tidy(self._operation.off, may_be_lost=self._operation.may_be_lost)
        if happened is None:
            return Verdict(outcome=NOT_REACHED)
        outcome = f"{action.status} (held up)" if in_vain else action.status
        return Verdict(outcome=outcome, recovery=_seconds_between(happened, action))

    def _wait_for_fate(self, operator: Background) -> Pass | None:
        """Return the pass at which it happened; None: the operation came to its end without it."""
        ended_at: float | None = None
        while ended_at is None or time.monotonic() < ended_at + _GRACE:
            happened = next((each for each in self._stand.passes() if each.fate), None)
            if happened is not None:
                return happened
            if ended_at is None and operator.done() and self._has_ended(operator.result()):
                ended_at = time.monotonic()
            time.sleep(0.02)
        return None

    def _has_ended(self, action_id: str) -> bool:
        return self._stand.site.action(action_id).status not in OPEN_ACTION

    def _bring_back(self, happened: Pass | None) -> Daemon | None:
        """See to it that a process that died comes back when it should; return the one that stays dead for now."""
        if happened is None or happened.fate != Fate.KILL:
            return None
        victim = self._stand.daemon(happened.binary, happened.host)
        victim.kill()
        if self._cell.comes_back is Return.NEVER:
            return victim
        if self._cell.comes_back is Return.AFTER_LEASE:
            end = self._stand.end_of_leases()
            self._stand.site.wait_for(lambda: utcnow() > end, "the end of the lease")
        victim.start()
        return None

    def _check_end(self, action: models.Action, dead: Daemon | None) -> None:
        """Check what has to be so at the end, even if a process is dead still."""
        lost = dead is not None and dead.binary == COMPUTE
        trace = self._stand.trace(action.id)
        told = "\n".join(f"  {each.hop} {each.step} {each.result} {each.message}" for each in trace)
        if not lost:
            assert action.status in self._operation.ends, f"it {action.status}: {action.error}\n{told}"
            self._check_instance(action.status)
        self._stand.wait_until_sound(
            dead=self._operation.off, silent=frozenset({dead.host}) if dead is not None else frozenset()
        )
        assert trace[0].hop is Hop.SUBMIT, f"the trace does not begin with the submission\n{told}"
        _check_story(action, trace, told, may_leave_out=lost)

    def _check_instance(self, status: ActionStatus) -> None:
        """Check that the guest is exactly where and what it should be, now and without any report that corrects it."""
        state, host = self._operation.ends[status]
        assert self._stand.instance() == (state, host), f"the instance is {self._stand.instance()}, not {(state, host)}"
        there = {host: state} if host is not None and host not in self._operation.off else {}
        assert self._stand.guests(self._operation.off) == there, f"guests: {self._stand.guests(self._operation.off)}"


def _check_story(action: models.Action, trace: list[models.ActionEvent], told: str, *, may_leave_out: bool) -> None:
    """Check that the trace tells how the action came to its end.

    :param may_leave_out: a source that fell silent is not waited for, and what lies between it and its destination's
        word is left out.
    """
    failed = any(event.result is not Result.SUCCEEDED for event in trace)
    if action.status is ActionStatus.SUCCEEDED:
        done = {event.step for event in trace if event.result is Result.SUCCEEDED}
        missing = [step.name for step in TASKS[action.verb].steps if step.name not in done]
        assert may_leave_out or not missing, f"the trace does not tell of {missing}\n{told}"
    elif action.status is ActionStatus.CANCELLED:
        assert any(event.hop is Hop.UNDO for event in trace), f"the trace does not tell what was undone\n{told}"
    else:
        assert action.error, f"nobody says why it failed\n{told}"
        assert failed, f"the trace shows no failure\n{told}"


def _seconds_between(happened: Pass, action: models.Action) -> float | None:
    assert action.finished_at is not None
    seconds = action.finished_at.timestamp() - happened.at
    return seconds if seconds > 0 else None
