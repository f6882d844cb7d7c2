"""What becomes of an instance by itself, and why: the rules of conductors, told in words.

All of it follows from what was read and heard, and from the clock; nothing here reads, asks or writes. The rules are
those of :mod:`~minova.conductor.leases` (when a step is begun again, and when it is given up),
:mod:`~minova.conductor.machine` (what follows a step) and :mod:`~minova.conductor.reconcile` (what a report changes).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from oslo_config import cfg

from minova.conductor.tasks import Task
from minova.conductor.tasks.step import Kind, Step
from minova.conductor.wording import clock, span
from minova.exception import PeerSilent
from minova.objects import ExplainedAction, Explanation, Fault, HeldOrder, HostWord, MigrationProgress
from minova.states import (
    OPERATIONS,
    VM_STATE_OF_POWER,
    ActionStatus,
    HostState,
    PowerState,
    Verb,
    VmState,
)

_SILENCE = Fault(code=PeerSilent.__name__, message="nothing was heard of it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What there is to be explained.

    :ivar known: all but what follows from it.
    :ivar task: what runs; None: nothing, or something of another release.
    :ivar unknown: why this release cannot go on with what runs.
    :ivar stale: the hosts whose copy of the guest, should they have one, is certainly not the one that counts.
    :ivar unclear: the hosts that have to be heard before it is known where the guest is, in that order.
    :ivar fault: the newest.
    :ivar progress: how far the source was last with moving the guest; None: it does not move now.
    """

    conf: cfg.ConfigOpts
    known: Explanation
    task: Task | None = None
    unknown: str = ""
    stale: frozenset[str] = frozenset()
    unclear: tuple[str, ...] = ()
    fault: Fault | None = None
    progress: MigrationProgress | None = None

    @property
    def patience(self) -> timedelta:
        """How long an action waits for a host of which nothing is heard."""
        return timedelta(seconds=self.conf.conductor.unresponsive_timeout)

    def at(self, moment: datetime) -> str:
        """Return a time of day, and how far it is from now."""
        seconds = (moment - self.known.explained_at).total_seconds()
        far = f"in {span(seconds)}" if seconds >= 0 else f"{span(-seconds)} ago"
        return f"{clock(moment)} ({far})"

    def off_from(self, host: str | None) -> datetime | None:
        """Return from when on a host counts as off if nothing is heard of it until then; None: nobody says it is."""
        word = self.word(host)
        if word is None or word.state is not HostState.DOWN or word.last_seen_at is None:
            return None
        return word.last_seen_at + timedelta(seconds=self.conf.service_down_time)

    def is_off(self, host: str | None) -> bool:
        """Return whether a host is forced down, and was silent for as long as it takes to believe that."""
        return (moment := self.off_from(host)) is not None and moment < self.known.explained_at

    def word(self, host: str | None) -> HostWord | None:
        """Return what a host says."""
        return next((word for word in self.known.hosts if word.host == host), None)

    def state(self, host: str | None) -> HostState:
        """Return whether a host can be counted on; one that nobody knows cannot."""
        word = self.word(host)
        return (word.state if word else None) or HostState.UNKNOWN


def complete(case: Case) -> Explanation:
    """Return what is known, with what follows from it."""
    action, task = case.known.action, case.task
    case = replace(case, unclear=tuple(host for host in case.unclear if not case.is_off(host)))
    if action is None or action.finished_at is not None:
        return replace(case.known, next=tuple(_at_rest(case)))
    if task is None:
        attempt = f"left to conductors of another release of minova: {case.unknown}"
        return replace(case.known, next_attempt=attempt, next=(_left_to_others(case, action),))
    return replace(
        case.known, next_attempt=_next_attempt(case, action, task), next=tuple(_what_follows(case, action, task))
    )


# While an action runs: when its step is begun again, or why not.


def _next_attempt(case: Case, action: ExplainedAction, task: Task) -> str:
    host, state = action.waits_for, case.state(action.waits_for)
    over, again = action.lease_expires_at <= case.known.explained_at, f"attempt {action.attempt + 1}"
    if host is None:
        return f"{again} {_at_the_sweep(case, action)}, unless its owner goes on before"
    if state is HostState.DOWN:
        return f"none: {host} is forced down, and the step is given up {_at_the_sweep(case, action)}"
    if over and action.given_up_at <= case.known.explained_at:
        silent_for = span(case.patience.total_seconds())
        return f"none: nothing was heard of it for {silent_for}, and it is given up {_at_the_sweep(case, action)}"
    if state is not HostState.UP:
        return f"none while {host} is silent; once it is back, it is sent what it does not hold any more"
    if over:
        return f"{again} {_at_the_sweep(case, action)}: it takes the action over"
    held = _held(case, action)
    if held is not None and not held.done and not _is_older(held, task):
        return f"none is due: {host} has the order in hand, and renews the lease"
    return f"{again} {_at_the_sweep(case, action)}, unless {_unless(case, action, task, held)}"


def given_up_at(case: Case, host: str | None, heard_at: datetime, lease_expires_at: datetime) -> datetime:
    """Return when a step is given up if nothing is heard of it: the first look after its time, one per lease."""
    if case.state(host) is HostState.DOWN:
        return lease_expires_at
    deadline, look = heard_at + case.patience, max(lease_expires_at, case.known.explained_at)
    if deadline <= look:
        return max(deadline, lease_expires_at)
    lease = timedelta(seconds=case.conf.conductor.lease)
    return look + -((look - deadline) // lease) * lease


def _at_the_sweep(case: Case, action: ExplainedAction) -> str:
    every = span(case.conf.conductor.sweep_interval)
    ends = "ran out at" if action.lease_expires_at <= case.known.explained_at else "runs out at"
    return f"with the next sweep (every {every}) after the lease, which {ends} {case.at(action.lease_expires_at)}"


def _unless(case: Case, action: ExplainedAction, task: Task, held: HeldOrder | None) -> str:
    """Return what keeps the next attempt away."""
    host, word = action.waits_for, case.word(action.waits_for)
    if held is not None and _is_older(held, task):
        return f"{host} renews it: it has only an older order, so the newer is still on its way, or lost"
    if held is not None:
        return f"a conductor takes the outcome before: {host} has done it, and tells again and again"
    if task.current is not None and task.current.kind is Kind.CALL:
        return f"its owner renews it, which it does for as long as it lives and waits for {host} to answer"
    if word is None or word.report is None:
        return f"{host} renews it, which it does if it has the order in hand: that is not known"
    return f"{host} renews it: it has no such order in hand, so that is still on its way, or lost"


def _held(case: Case, action: ExplainedAction) -> HeldOrder | None:
    """Return the newest order for the step that its host holds."""
    word = case.word(action.waits_for)
    orders = word.report.orders if word is not None and word.report is not None else ()
    its = [each for each in orders if (each.action_id, each.step) == (action.id, action.step)]
    return max(its, key=lambda each: each.sequence, default=None)


def _is_older(held: HeldOrder, task: Task) -> bool:
    """Return whether an order is of an attempt before: nothing that a host says of it counts any more."""
    return held.sequence < task.action.sequence


# What follows.


def _what_follows(case: Case, action: ExplainedAction, task: Task) -> Iterator[str]:
    step, host = action.step, action.waits_for or "its owner"
    if task.action.status is ActionStatus.UNDOING:
        yield f"Once {host} has done {step}, {_rest_of_the_way_back(task)}."
    elif action.cancel_requested and not task.action.data.get("past_pivot"):
        yield f"It is to be cancelled: once {step} has ended or could be stopped, {_way_back(task, 'cancelled')}."
        if task.step.pivot:
            yield f"If {host} has done {step} before it could be stopped, {_rest_of_the_way(task)}."
    else:
        yield f"Once {host} has done {step}, {_rest_of_the_way(task)}."
    yield f"If nothing is heard of {step} until {case.at(action.given_up_at)}, it is given up: {_given_up(task)}."
    if case.progress is not None and case.progress.verdict:
        yield f"The migration {case.progress.verdict}."


def _rest_of_the_way(task: Task) -> str:
    verb = task.verb
    following = [step.name for step in task.steps[task.steps.index(task.step) + 1 :]]
    state = OPERATIONS[verb].after_success
    ends = f"the {verb} has succeeded{f' and the instance is {state}' if state else ''}"
    return _then(following, f"the {verb} ends as failed" if task.action.error else ends)


def _rest_of_the_way_back(task: Task) -> str:
    action, index = task.action, task.steps.index(task.step)
    first = task.steps.index(task.named(action.undo_to))
    following = _undos(task, task.steps[first:index])
    if action.resume:
        return _then(following, f"it goes on again with {action.undo_to}")
    end = ActionStatus.CANCELLED if action.data.get("cancelled") else ActionStatus.FAILED
    state = VmState.ERROR if action.data.get("left") else _state_after_failure(task)
    return _then(following, f"the {task.verb} ends as {end} and the instance is {state}")


def _given_up(task: Task) -> str:
    """Return what becomes of an action whose step is given up because its host is silent."""
    action, host = task.action, task.waits_for
    if action.status is ActionStatus.UNDOING:
        return f"the rest is undone, the instance goes to error, and a fault says what is left on {host}"
    if action.data.get("past_pivot"):
        return "there is no way back any more, so what remains is done, and the instance goes to error"
    go_on = task.after_failure(task.step, _SILENCE)
    if go_on is not None and task.steps.index(go_on) > task.steps.index(task.step):
        asked = go_on.at(task) if go_on.at else None
        return f"{asked} tells by {go_on.name} whether it was done all the same, and if not, all is undone"
    return _way_back(task, ActionStatus.CANCELLED if action.cancel_requested else ActionStatus.FAILED)


def _way_back(task: Task, end: str) -> str:
    upto = task.steps[: task.steps.index(task.step) + 1]
    ends = f"the {task.verb} ends as {end} and the instance is {_state_after_failure(task)}"
    back = _then(_undos(task, upto), ends)
    if task.waits_for in {undo.at(task) for undo in _undo_steps(upto) if undo.at is not None}:
        back += f" (or error, if {task.waits_for} stays silent as long once more)"
    return back


def _undo_steps(steps: tuple[Step, ...]) -> list[Step]:
    return [step.undone_by for step in reversed(steps) if step.undone_by is not None]


def _undos(task: Task, steps: tuple[Step, ...]) -> list[str]:
    """Return the names of what undoes steps, as far as there is anything to do for it, the last step first."""
    return [undo.name for undo in _undo_steps(steps) if undo.at is None or undo.at(task) is not None]


def _state_after_failure(task: Task) -> VmState:
    return OPERATIONS[task.verb].after_failure or task.action.previous_vm_state


def _then(following: list[str], end: str) -> str:
    if not following:
        return end
    *others, last = following
    names = f"are {', '.join(others)} and {last}" if others else f"is {last}"
    return f"next {names}, and then {end}"


def _left_to_others(case: Case, action: ExplainedAction) -> str:
    last = case.at(action.lease_expires_at + case.patience)
    return (
        f"If no conductor that knows it has worked on it until {last}, it is ended as failed, "
        "and the instance goes to error for an operator to look at."
    )


# At rest: what the next reports of the hosts change, and what is left to the operator.


def _at_rest(case: Case) -> Iterator[str]:
    known = case.known
    changes = [change for word in known.hosts if (change := _by_report(case, word))]
    yield from changes
    if known.vm_state == VmState.DELETED:
        yield "It was deleted: nothing is pending."
        return
    if case.unclear:
        yield _in_doubt(case)
    if known.vm_state == VmState.ERROR:
        yield from _in_error(case, bool(changes or case.unclear))
    elif known.task_state is not None:
        yield f"It is {known.task_state} without any action, which only another release of minova can explain."
    elif not changes and not case.unclear:
        yield "Nothing is pending: all is as it should be, as far as its hosts were heard."
    yield _to_be_done(case)


def _by_report(case: Case, word: HostWord) -> str:
    """Return what happens when a host reports, or nothing."""
    if word.host == case.known.host:
        return _by_own_host(case, word)
    if word.host in case.stale and (word.report is None or word.report.guest is not None):
        return f"When {word.host} reports, it is told to destroy its copy of the guest, if it has one."
    if word.report is None or word.report.guest is None or case.unclear:
        return ""
    if _is_lost(case) and case.known.task_state is None:
        return f"With its next reports {word.host} becomes the instance's host, for it has the guest."
    return f"{word.host} has a guest of it too, and minova does not decide which of them counts: look at both."


def _in_doubt(case: Case) -> str:
    return (
        f"Nobody could tell where its last move has left the guest: reports of {', then of '.join(case.unclear)} tell. "
        "Until then no operation but delete is allowed, and reset-state does not change that. A host that is off for "
        "certain is not waited for: 'service force-down HOST'."
    )


def _by_own_host(case: Case, word: HostWord) -> str:
    host, known = word.host, case.known
    if word.state is HostState.DOWN:
        return f"{host} is forced down: nothing that it reports counts before 'service force-down {host} --unset'."
    if word.state is not HostState.UP:
        return f"{host} is silent, hence unknown and not down: nothing changes before it reports."
    if word.report is None or word.report.trouble:
        return ""
    guest = word.report.guest
    if guest is None:
        lost = f"With its next reports {host} turns it to error, for it has no such guest."
        return lost if known.vm_state != VmState.ERROR else ""
    if guest.power_state != known.power_state:
        state = VM_STATE_OF_POWER[guest.power_state]
        return f"With its next reports {host} turns it to {state}, for its guest is {guest.power_state}."
    if guest.migrating_to:
        return f"With its next reports {host} is told to abort the migration to {guest.migrating_to}."
    return ""


def _is_lost(case: Case) -> bool:
    return case.known.power_state == PowerState.NOSTATE


def _in_error(case: Case, changes: bool) -> Iterator[str]:
    if case.fault is not None:
        when = f" at {case.at(case.fault.created_at)}" if case.fault.created_at else ""
        yield f"It is in error; its newest fault{when}: {case.fault.message}"
    if not changes:
        report = word.report if (word := case.word(case.known.host)) else None
        missed = report is not None and report.guest is None and not report.trouble
        rebuilt = f"{case.known.host} has no guest of it, and rebuild makes one anew"
        then = rebuilt if missed else "look at its hosts, and then choose"
        yield f"Nothing brings it out of error by itself: {then}."


def _to_be_done(case: Case) -> str:
    known, host = case.known, case.known.host
    allowed = {verb for verb, operation in OPERATIONS.items() if known.vm_state in operation.allowed}
    later = ""
    if host is None:
        allowed &= {Verb.DELETE}
    elif case.state(host) is HostState.UNKNOWN:
        return _once_it_is_known(case, host)
    elif case.unclear:
        allowed = {verb for verb in allowed if OPERATIONS[verb].in_doubt}
    elif case.state(host) is HostState.DOWN:
        allowed &= {Verb.DELETE, Verb.EVACUATE}
        moment = case.off_from(host)
        if moment is not None and not case.is_off(host) and Verb.EVACUATE in allowed:
            allowed -= {Verb.EVACUATE}
            later = f"; evacuate from {clock(moment)} on, unless {host} is heard before"
    else:
        allowed -= {Verb.EVACUATE}
    return f"Allowed now: {', '.join(sorted(allowed)) or 'nothing'}{later}."


def _once_it_is_known(case: Case, host: str) -> str:
    """Return what there is to do about the instance's own host, of which nothing is heard."""
    off = f"'service force-down {host}'"
    if case.unclear:
        return f"Allowed now: nothing; delete is once {host} reports, or after {off} if it is off for certain."
    return (
        f"Operations are refused until {host} reports; if it is off for certain, say so by {off}, and evacuate the "
        "instance."
    )
