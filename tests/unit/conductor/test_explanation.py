"""What becomes of an instance by itself: every case, as the sentences that tell it."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from minova.conductor.explanation import Case, complete, given_up_at
from minova.conductor.tasks import Task
from minova.conductor.wording import say, span
from minova.db import models
from minova.objects import ExplainedAction, Explanation, Fault, GuestReport, HeldOrder, HostWord, MigrationProgress
from minova.states import ActionStatus, HostState, PowerState, Verb
from tests.unit.conductor.rig import REFUSAL, SILENCE, Rig, a_guest

NOW = datetime(2024, 2, 29, 12, 0, 0, tzinfo=UTC)

UP, UNKNOWN, DOWN = HostState.UP, HostState.UNKNOWN, HostState.DOWN

RUNS, HAS_IT_NOT = GuestReport(guest=a_guest()), GuestReport(guest=None)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def word(host: str, state: HostState | None = UP, report: GuestReport | None = None) -> HostWord:
    """Return what a host says, which was heard of 35 s ago."""
    return HostWord(host=host, state=state, last_seen_at=after(-35), said="", report=report)


def holding(action_id: str, step: str, *, sequence: int = 1, done: bool = False) -> GuestReport:
    order = HeldOrder(action_id=action_id, step=step, sequence=sequence, received_at=after(-3), done=done)
    return GuestReport(guest=a_guest(), orders=(order,))


def known(**changes: Any) -> Explanation:
    """Return what is known of an instance that is active on host1."""
    values = {"host": "host1", "vm_state": "active", "task_state": None, "power_state": "running", "action": None}
    return Explanation(**{"uuid": "some-uuid", "name": "vm", "explained_at": NOW, **values, **changes})


class Told:
    """An action that runs, and what is told of it."""

    def __init__(self, rig: Rig, action: models.Action, *, steps: int = 0) -> None:
        """Let so many of its steps succeed."""
        self.rig = rig
        self.action = action
        for _ in range(steps):
            rig.succeed(action)

    @property
    def task(self) -> Task:
        with self.rig.database.read() as session:
            return self.rig.machine.load(session, session.get_one(models.Action, self.action.id))

    def by(self, *words: HostWord, lease: float = 10, heard: float = -5, **more: Any) -> Explanation:
        """Return what is told if hosts say this; the lease ends, and was heard of, so many seconds from now."""
        task, case = self.task, Case(conf=self.rig.conf, known=known(hosts=words), **more)
        assert task.current is not None
        action = ExplainedAction(
            id=self.action.id,
            verb=task.verb,
            status=task.action.status,
            step=task.current.name,
            undoes=task.action.step if task.action.status is ActionStatus.UNDOING else "",
            attempt=1,
            waits_for=task.waits_for,
            since=after(-20),
            attempted_at=after(-20),
            owner="here/1",
            owner_seen_at=after(-1),
            lease_expires_at=after(lease),
            heard_at=after(heard),
            given_up_at=given_up_at(case, task.waits_for, after(heard), after(lease)),
            cancel_requested=task.action.cancel_requested,
            error=task.action.error,
            submitted_at=after(-20),
            finished_at=None,
        )
        return complete(replace(case, known=replace(case.known, action=action), task=task))


def live_migration(rig: Rig, at: str, steps: int) -> Told:
    """Return a live migration from host1 to host2 that is ``at`` a step after so many."""
    told = Told(rig, rig.begin(Verb.LIVE_MIGRATE, options={}, destination="host2"), steps=steps)
    assert rig.at(told.action) == at
    return told


@pytest.fixture
def stop(rig: Rig) -> Told:
    """A stop that waits for host1."""
    return Told(rig, rig.begin(Verb.STOP))


@pytest.fixture
def preparing(rig: Rig) -> Told:
    return live_migration(rig, "prepare_destination on host2", 2)


@pytest.fixture
def moving(rig: Rig) -> Told:
    return live_migration(rig, "migrate on host1", 3)


# The next attempt, and why.

SWEEP = "with the next sweep (every 0.5 s) after the lease, which"
LIVES, RAN_OUT = f"{SWEEP} runs out at 12:00:10Z (in 10 s)", f"{SWEEP} ran out at 11:59:57Z (3 s ago)"
LOST_ORDER = (
    f"attempt 2 {LIVES}, unless host1 renews it: it has no such order in hand, so that is still on its way, or lost"
)
SILENT = "none while host1 is silent; once it is back, it is sent what it does not hold any more"
NO_PATIENCE = f"none: nothing was heard of it for 5 min, and it is given up {RAN_OUT}"


@pytest.mark.parametrize(
    ("state", "report", "lease", "heard", "attempt"),
    [
        (UP, HAS_IT_NOT, 10, -5, LOST_ORDER),
        (UP, HAS_IT_NOT, -3, -5, f"attempt 2 {RAN_OUT}: it takes the action over"),
        (UP, HAS_IT_NOT, -3, -301, NO_PATIENCE),
        (UP, None, 10, -5, f"attempt 2 {LIVES}, unless host1 renews it, which it does if it has the order in hand: "
         "that is not known"),
        (UNKNOWN, None, 10, -5, SILENT),
        (UNKNOWN, None, -3, -5, SILENT),
        (UNKNOWN, None, -3, -301, NO_PATIENCE),
        (None, None, 10, -5, SILENT),
        (DOWN, None, 10, -5, f"none: host1 is forced down, and the step is given up {LIVES}"),
        (DOWN, None, -3, -5, f"none: host1 is forced down, and the step is given up {RAN_OUT}"),
    ],
)  # fmt: skip
def test_next_attempt(
    stop: Told, state: HostState | None, report: GuestReport | None, lease: float, heard: float, attempt: str
) -> None:
    assert stop.by(word("host1", state, report), lease=lease, heard=heard).next_attempt == attempt


@pytest.mark.parametrize(
    ("held", "done", "lease", "attempt"),
    [
        ("power_off", False, 10, "none is due: host1 has the order in hand, and renews the lease"),
        ("power_off", False, -3, f"attempt 2 {RAN_OUT}: it takes the action over"),
        ("power_off", True, 10, f"attempt 2 {LIVES}, unless a conductor takes the outcome before: host1 has done it, "
         "and tells again and again"),
        ("power_on", False, 10, LOST_ORDER),
    ],
)  # fmt: skip
def test_next_attempt_of_what_is_in_hand(stop: Told, held: str, done: bool, lease: float, attempt: str) -> None:
    report = holding(stop.action.id, held, sequence=stop.task.action.sequence, done=done)
    assert stop.by(word("host1", report=report), lease=lease).next_attempt == attempt


@pytest.mark.parametrize("done", [False, True])
def test_order_of_an_attempt_before_renews_nothing(rig: Rig, stop: Told, done: bool) -> None:
    before = stop.task.action.sequence
    rig.change(models.Action, stop.action.id, sequence=before + 1)
    older = holding(stop.action.id, "power_off", sequence=before, done=done)
    assert stop.by(word("host1", report=older)).next_attempt == (
        f"attempt 2 {LIVES}, unless host1 renews it: it has only an older order, so the newer is still on its way, "
        "or lost"
    )
    newer = holding(stop.action.id, "power_off", sequence=before + 1)
    both = replace(older, orders=older.orders + newer.orders)
    assert stop.by(word("host1", report=both)).next_attempt.startswith("none is due")


def test_order_of_another_action_is_not_this_one(stop: Told) -> None:
    assert stop.by(word("host1", report=holding("another", "power_off"))).next_attempt == LOST_ORDER


def test_question_is_asked_again_if_its_owner_dies(rig: Rig) -> None:
    attempt = live_migration(rig, "check_source on host1", 0).by(word("host1", report=RUNS)).next_attempt
    assert attempt.endswith("its owner renews it, which it does for as long as it lives and waits for host1 to answer")


# What follows.


def test_last_step(stop: Told) -> None:
    assert stop.by(word("host1")).next == (
        "Once host1 has done power_off, the stop has succeeded and the instance is stopped.",
        "If nothing is heard of power_off until 12:04:55Z (in 5 min), it is given up: the stop ends as failed and the "
        "instance is active.",
    )


def test_step_of_a_fenced_host_is_given_up_with_its_lease(stop: Told) -> None:
    assert "until 12:00:10Z (in 10 s), it is given up" in stop.by(word("host1", DOWN)).next[-1]


def test_step_is_given_up_at_the_first_look_after_its_time(rig: Rig, stop: Told) -> None:
    rig.conf.set_override("lease", 60, "conductor")
    for lease, heard, given_up in ((10, -5, 310), (10, -100, 250), (10, -295, 10), (-3, -100, 240), (-3, -301, -1)):
        action = stop.by(word("host1"), lease=lease, heard=heard).action
        assert action is not None
        assert action.given_up_at == after(given_up)


def test_step_with_others_before_and_after_it(preparing: Told) -> None:
    assert preparing.by(word("host2")).next == (
        "Once host2 has done prepare_destination, next are migrate, switch_host, finish_at_destination and complete, "
        "and then the live-migrate has succeeded.",
        "If nothing is heard of prepare_destination until 12:04:55Z (in 5 min), it is given up: next are "
        "rollback_destination and release_destination, and then the live-migrate ends as failed and the instance is "
        "active (or error, if host2 stays silent as long once more).",
    )


def test_destination_tells_what_its_silent_source_cannot(moving: Told) -> None:
    assert (
        moving.by(word("host1", UNKNOWN))
        .next[-1]
        .endswith(
            "it is given up: host2 tells by finish_at_destination whether it was done all the same, and if not, all is "
            "undone."
        )
    )


def test_step_that_is_in_doubt(moving: Told) -> None:
    moving.rig.fail(moving.action, SILENCE)
    assert moving.rig.at(moving.action) == "finish_at_destination on host2"
    assert "it is given up: next are rollback_destination and release_destin" in moving.by(word("host2")).next[-1]


def test_migration_that_does_not_converge(moving: Told) -> None:
    rates = {"dirty_rate": 400 * 2**20, "bandwidth": 100 * 2**20}
    progress = MigrationProgress(total_bytes=1, remaining_bytes=1, iteration=7, throttle=20, **rates)
    assert moving.by(word("host1"), progress=progress).next[-1] == (
        "The migration does not converge: dirty rate 400 MiB/s, bandwidth 100 MiB/s, the guest slowed down by 20 %."
    )


def test_past_the_point_of_no_return(moving: Told) -> None:
    moving.rig.succeed(moving.action)
    assert (
        moving.by(word("host2"))
        .next[-1]
        .endswith(
            "it is given up: there is no way back any more, so what remains is done, and the instance goes to error."
        )
    )


def test_undo(preparing: Told) -> None:
    preparing.rig.fail(preparing.action, REFUSAL)
    assert preparing.by(word("host2")).next == (
        "Once host2 has done rollback_destination, next is release_destination, and then the live-migrate ends as "
        "failed and the instance is active.",
        "If nothing is heard of rollback_destination until 12:04:55Z (in 5 min), it is given up: the rest is undone, "
        "the instance goes to error, and a fault says what is left on host2.",
    )


def test_cancellation_before_the_point_of_no_return(preparing: Told) -> None:
    preparing.rig.cancel(preparing.action)
    assert preparing.by(word("host2")).next[0] == (
        "It is to be cancelled: once prepare_destination has ended or could be stopped, next are rollback_destination "
        "and release_destination, and then the live-migrate ends as cancelled and the instance is active (or error, if "
        "host2 stays silent as long once more)."
    )


def test_cancellation_that_may_come_too_late(moving: Told) -> None:
    moving.rig.cancel(moving.action)
    cancelled, too_late, _silence = moving.by(word("host1")).next
    assert "the live-migrate ends as cancelled" in cancelled
    assert too_late.startswith("If host1 has done migrate before it could be stopped, next are switch_host, ")


def test_boot_that_fails_is_in_error(rig: Rig) -> None:
    told = Told(rig, rig.boot())
    host = str(told.task.waits_for)
    assert "the boot ends as failed and the instance is error" in told.by(word(host)).next[-1]


def test_action_of_another_release(rig: Rig, stop: Told) -> None:
    action = stop.by(word("host1")).action
    told = complete(Case(conf=rig.conf, known=known(action=action), unknown="there is no operation 'suspend'"))
    assert told.next_attempt == "left to conductors of another release of minova: there is no operation 'suspend'"
    assert told.next == (
        "If no conductor that knows it has worked on it until 12:05:10Z (in 5 min), it is ended as failed, and the "
        "instance goes to error for an operator to look at.",
    )


# Nothing runs.


def at_rest(
    rig: Rig, words: Iterable[HostWord], stale: Iterable[str] = (), unclear: Iterable[str] = (), **changes: Any
) -> tuple[str, ...]:
    """Return what is told of an instance on which nothing runs."""
    fault = Fault(code="Some", message="the newest one", created_at=after(-60))
    explained = known(hosts=tuple(words), **changes)
    return complete(
        Case(conf=rig.conf, known=explained, stale=frozenset(stale), unclear=tuple(unclear), fault=fault)
    ).next


PAUSED, MOVING = (GuestReport(guest=each) for each in (a_guest(PowerState.PAUSED), a_guest(migrating_to="host2")))
IN_ERROR, LOST = {"vm_state": "error"}, {"vm_state": "error", "power_state": "nostate"}


@pytest.mark.parametrize(
    ("words", "changes", "sentence"),
    [
        ([word("host1", report=RUNS)], {},
         "Nothing is pending: all is as it should be, as far as its hosts were heard."),
        ([word("host1", report=PAUSED)], {},
         "With its next reports host1 turns it to paused, for its guest is paused."),
        ([word("host1", report=HAS_IT_NOT)], {},
         "With its next reports host1 turns it to error, for it has no such guest."),
        ([word("host1", report=MOVING)], {},
         "With its next reports host1 is told to abort the migration to host2."),
        ([word("host1", UNKNOWN)], {},
         "host1 is silent, hence unknown and not down: nothing changes before it reports."),
        ([word("host1", DOWN)], {},
         "host1 is forced down: nothing that it reports counts before 'service force-down host1 --unset'."),
        ([word("host1", report=RUNS), word("host2", report=RUNS)], {},
         "host2 has a guest of it too, and minova does not decide which of them counts: look at both."),
        ([word("host1", report=HAS_IT_NOT), word("host2", report=RUNS)], LOST,
         "With its next reports host2 becomes the instance's host, for it has the guest."),
        ([word("host1", UNKNOWN), word("host2", report=RUNS)], {"power_state": PowerState.NOSTATE},
         "With its next reports host2 becomes the instance's host, for it has the guest."),
        ([word("host1", report=RUNS)], IN_ERROR,
         "It is in error; its newest fault at 11:59:00Z (60 s ago): the newest one"),
        ([word("host1", report=RUNS)], IN_ERROR,
         "Nothing brings it out of error by itself: look at its hosts, and then choose."),
        ([word("host1", report=RUNS)], {"task_state": "suspending"},
         "It is suspending without any action, which only another release of minova can explain."),
    ],
)  # fmt: skip
def test_what_the_next_reports_change(rig: Rig, words: list[HostWord], changes: dict[str, Any], sentence: str) -> None:
    assert sentence in at_rest(rig, words, **changes)


@pytest.mark.parametrize(
    ("there", "stale", "foretold"),
    [
        (word("host3", DOWN), ["host3"], True),
        (word("host3", UNKNOWN), ["host3"], True),
        (word("host3", report=RUNS), ["host3"], True),
        (word("host3", report=HAS_IT_NOT), ["host3"], False),
        (word("host3", DOWN), [], False),
    ],
)
def test_copy_that_was_left_behind(rig: Rig, there: HostWord, stale: list[str], foretold: bool) -> None:
    sentence = "When host3 reports, it is told to destroy its copy of the guest, if it has one."
    assert (sentence in at_rest(rig, [word("host1", report=RUNS), there], stale)) is foretold


def test_instance_whose_last_move_ended_in_doubt(rig: Rig) -> None:
    words = [word("host1", report=HAS_IT_NOT), word("host2", UNKNOWN)]
    told = at_rest(rig, words, unclear=["host1", "host2"], vm_state="error")
    assert (
        "Nobody could tell where its last move has left the guest: reports of host1, then of host2 tell. Until then "
        "no operation but delete is allowed, and reset-state does not change that. A host that is off for certain is "
        "not waited for: 'service force-down HOST'."
    ) in told
    assert told[-1] == "Allowed now: delete."
    assert not any("Nothing brings it out" in sentence for sentence in told)


def off(host: str) -> HostWord:
    return replace(word(host, DOWN), last_seen_at=after(-61))


def test_host_that_is_off_is_not_waited_for_in_doubt(rig: Rig) -> None:
    told = at_rest(rig, [off("host1"), word("host2", UNKNOWN)], unclear=["host1", "host2"], vm_state="error")
    assert any("reports of host2 tell" in sentence for sentence in told)
    assert told[-1] == "Allowed now: delete."
    told = at_rest(rig, [word("host1", DOWN), word("host2", UNKNOWN)], unclear=["host1", "host2"], vm_state="error")
    assert any("reports of host1, then of host2 tell" in sentence for sentence in told), "it may be alive"
    told = at_rest(rig, [off("host1"), off("host2")], unclear=["host1", "host2"], vm_state="error")
    assert told[-1] == "Allowed now: delete, evacuate."


def test_delete_in_doubt_needs_its_host(rig: Rig) -> None:
    words = [word("host1", UNKNOWN), word("host2", UNKNOWN)]
    assert at_rest(rig, words, unclear=["host1", "host2"], vm_state="error")[-1] == (
        "Allowed now: nothing; delete is once host1 reports, or after 'service force-down host1' if it is off for "
        "certain."
    )


def test_guest_that_is_missed_turns_to_error_once(rig: Rig) -> None:
    for changes in (IN_ERROR, LOST):
        told = at_rest(rig, [word("host1", report=HAS_IT_NOT)], **changes)
        assert not any("turns it to error" in sentence for sentence in told)
        assert "Nothing brings it out of error by itself: host1 has no guest of it, and rebuild makes one anew." in told


def test_host_that_was_just_forced_down_is_evacuated_later(rig: Rig) -> None:
    told = at_rest(rig, [word("host1", DOWN)])[-1]
    assert told == "Allowed now: delete; evacuate from 12:00:25Z on, unless host1 is heard before."


def test_instance_that_was_deleted(rig: Rig) -> None:
    assert at_rest(rig, [], vm_state="deleted", host=None) == ("It was deleted: nothing is pending.",)


@pytest.mark.parametrize(
    ("state", "changes", "sentence"),
    [
        (UP, {"vm_state": "stopped"}, "Allowed now: delete, hard-reboot, migrate, rebuild, start."),
        (UP, {"vm_state": "of-tomorrow"}, "Allowed now: nothing."),
        (UP, {"vm_state": "error", "host": None}, "Allowed now: delete."),
        (UNKNOWN, {}, "Operations are refused until host1 reports; if it is off for certain, say so by "
         "'service force-down host1', and evacuate the instance."),
    ],
)  # fmt: skip
def test_what_the_operator_can_do(rig: Rig, state: HostState, changes: dict[str, Any], sentence: str) -> None:
    assert at_rest(rig, [word("host1", state, RUNS if state is UP else None)], **changes)[-1] == sentence


# What a host says.


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (word("host1", None), "no compute was ever registered there"),
        (word("host1", DOWN), "forced down by the operator, last heard 35 s ago"),
        (word("host1", UNKNOWN), "silent: last heard 35 s ago"),
        (word("host1"), "up, last heard 35 s ago, but did not tell: why"),
        (word("host1", report=HAS_IT_NOT), "answers, has no such guest"),
        (word("host1", report=GuestReport(guest=None, trouble="boom")), "its hypervisor did not tell: boom"),
        (word("host1", report=RUNS), "running"),
        (word("host1", report=MOVING), "running, migrating to host2"),
        (word("host1", report=holding("any", "migrate")), "running; has an order in hand: migrate since 11:59:57Z"),
        (word("host1", report=holding("any", "migrate", done=True)),
         "running; has done migrate, and no conductor has taken the outcome yet"),
    ],
)  # fmt: skip
def test_host_says(said: HostWord, sentence: str) -> None:
    assert say(said, NOW, "why") == sentence


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0 s"), (2.26, "2.3 s"), (5.0, "5 s"), (119.0, "119 s"), (120.0, "2 min"), (7200.0, "2 h"), (1e6, "12 d")],
)
def test_amounts_of_time(seconds: float, text: str) -> None:
    assert span(seconds) == text
