"""Orders: one guest's in their order, different guests' side by side, and none twice."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from oslo_config import cfg

from minova.compute import work
from minova.compute.lease import HostLease
from minova.compute.work import Detached, Job, Lane, WorkQueue
from minova.exception import GuestNotFound, MigrationAborted
from minova.objects import Order, Outcome, Result, utcnow
from tests.unit.compute.rig import PATIENCE, Clock, Delivered, Gate, a_lease, an_order


@pytest.fixture
def delivered() -> Delivered:
    return Delivered()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lease(conf: cfg.ConfigOpts, clock: Clock) -> HostLease:
    return a_lease(conf, clock)


@pytest.fixture
def queues(delivered: Delivered, lease: HostLease) -> Iterator[Callable[[int], WorkQueue]]:
    """Make queues with so many threads, and stop them at the end."""
    made: list[WorkQueue] = []

    def make(threads: int) -> WorkQueue:
        made.append(WorkQueue("host1", threads, lease, delivered))
        return made[-1]

    yield make
    for queue in made:
        queue.stop()


@pytest.fixture
def queue(queues: Callable[[int], WorkQueue]) -> WorkQueue:
    return queues(4)


@pytest.fixture
def gates() -> Iterator[Callable[[], Gate]]:
    """Make gates, and open them all at the end."""
    made: list[Gate] = []

    def make() -> Gate:
        made.append(Gate())
        return made[-1]

    yield make
    for gate in made:
        gate.open()


@pytest.fixture
def gate(queue: WorkQueue, gates: Callable[[], Gate]) -> Gate:
    return gates()


def done(_job: Job) -> dict[str, Any]:
    return {"power_state": "running"}


def failing(error: Exception) -> Callable[[Job], dict[str, Any]]:
    def work(_job: Job) -> dict[str, Any]:
        raise error

    return work


def test_outcome_tells_what_was_done_when_and_where(queue: WorkQueue, delivered: Delivered) -> None:
    order = an_order()
    queue.submit(order, done)
    [outcome] = delivered.wait(1)
    assert (outcome.order, outcome.host, outcome.result) == (order, "host1", Result.SUCCEEDED)
    assert (outcome.data, outcome.fault) == ({"power_state": "running"}, None)
    assert order.sent_at <= outcome.received_at <= outcome.started_at <= outcome.finished_at


def test_expected_error_is_a_failure_with_its_message(queue: WorkQueue, delivered: Delivered) -> None:
    queue.submit(an_order(), failing(GuestNotFound(uuid="guest1", host="host1")))
    [outcome] = delivered.wait(1)
    assert (outcome.result, outcome.data) == (Result.FAILED, {})
    assert outcome.fault
    assert (outcome.fault.code, outcome.fault.message) == ("GuestNotFound", "host host1 has no guest guest1")
    assert (outcome.fault.host, outcome.fault.details) == ("compute:host1", "")


def test_unexpected_error_is_a_failure_with_its_traceback(queue: WorkQueue, delivered: Delivered) -> None:
    queue.submit(an_order(), failing(KeyError("boom")))
    [outcome] = delivered.wait(1)
    assert outcome.result is Result.FAILED
    assert outcome.fault
    assert outcome.fault.message == "unexpected error: 'boom'"
    assert "KeyError: 'boom'" in outcome.fault.details


def test_abort_is_no_failure(queue: WorkQueue, delivered: Delivered) -> None:
    queue.submit(an_order(), failing(MigrationAborted(uuid="guest1")))
    assert delivered.wait(1)[0].result is Result.CANCELLED


def test_orders_of_one_guest_are_done_one_by_one_as_they_came(
    queue: WorkQueue, delivered: Delivered, gate: Gate
) -> None:
    later: list[str] = []

    def note(job: Job) -> dict[str, Any]:
        later.append(job.order.action_id)
        return {}

    queue.submit(an_order("action1"), gate)
    for action in ("action2", "action3"):
        queue.submit(an_order(action), note)
    gate.wait()
    assert later == []
    assert [task.subject for task in queue.tasks()] == ["guest1"]
    gate.open()
    assert [outcome.order.action_id for outcome in delivered.wait(3)] == ["action1", "action2", "action3"]
    assert later == ["action2", "action3"]


def test_failure_does_not_hold_up_the_guests_next_order(queue: WorkQueue, delivered: Delivered) -> None:
    queue.submit(an_order("action1"), failing(KeyError("boom")))
    queue.submit(an_order("action2"), done)
    assert [outcome.result for outcome in delivered.wait(2)] == [Result.FAILED, Result.SUCCEEDED]


def test_orders_of_different_guests_are_done_side_by_side(queue: WorkQueue, delivered: Delivered) -> None:
    together = threading.Barrier(3)

    def meet(_job: Job) -> dict[str, Any]:
        together.wait(PATIENCE)
        return {}

    for number in range(3):
        queue.submit(an_order(f"action{number}", guest=f"guest{number}"), meet)
    assert {outcome.result for outcome in delivered.wait(3)} == {Result.SUCCEEDED}


def test_no_more_guests_than_threads_are_worked_on(
    queues: Callable[[int], WorkQueue], delivered: Delivered, gates: Callable[[], Gate]
) -> None:
    queue, first, second = queues(1), gates(), gates()
    queue.submit(an_order("action1", guest="guest1"), first)
    queue.submit(an_order("action2", guest="guest2"), second)
    first.wait()
    assert second.runs == 0
    first.open()
    second.wait()
    second.open()
    delivered.wait(2)


@pytest.mark.parametrize(("lane", "at_once"), [(Lane.MAKING, 1), (Lane.MIGRATION, 3)])
def test_what_may_be_held_up_for_long_takes_no_thread_from_other_work(
    queues: Callable[[int], WorkQueue], delivered: Delivered, gates: Callable[[], Gate], lane: Lane, at_once: int
) -> None:
    queue, slow = queues(1), gates()
    for number in range(3):
        queue.submit(an_order(f"action{number}", guest=f"guest{number}"), slow, lane)
        if number < at_once:
            slow.wait()
    queue.submit(an_order("other", guest="other"), done)
    assert delivered.wait(1)[0].order.action_id == "other"


def test_nothing_is_begun_before_the_host_has_a_lease(conf: cfg.ConfigOpts, delivered: Delivered, clock: Clock) -> None:
    lease = HostLease(conf, clock)
    queue = WorkQueue("host1", 2, lease, delivered)
    for action, guest in (("action1", "guest1"), ("action2", "guest1"), ("action3", "guest2")):
        queue.submit(an_order(action, guest=guest), done)
    queue.resume()
    assert sorted(queue.orders()) == [("action1", 1), ("action2", 1), ("action3", 1)]
    assert delivered.outcomes == []
    lease.renew(lease.now())
    queue.resume()
    queue.resume()
    assert {outcome.order.action_id for outcome in delivered.wait(3)} == {"action1", "action2", "action3"}
    queue.stop()


def run_out(conf: cfg.ConfigOpts, clock: Clock) -> None:
    """Let the lease run out just now."""
    clock.go_on(conf.service_down_time)


def test_lease_lasts_from_when_the_report_was_begun(conf: cfg.ConfigOpts, clock: Clock) -> None:
    lease = HostLease(conf, clock)
    assert not lease.holds
    made_at = lease.now()
    clock.go_on(conf.service_down_time - 1)
    lease.renew(made_at)
    assert lease.holds
    clock.go_on(1)
    assert not lease.holds


def test_what_has_not_begun_waits_once_the_lease_has_run_out(
    conf: cfg.ConfigOpts,
    queues: Callable[[int], WorkQueue],
    delivered: Delivered,
    gates: Callable[[], Gate],
    lease: HostLease,
    clock: Clock,
) -> None:
    queue, running, behind = queues(1), gates(), gates()
    queue.submit(an_order("runs"), running)
    running.wait()
    queue.submit(an_order("waits for its guest"), behind)
    queue.submit(an_order("waits for a thread", guest="guest2"), behind)
    run_out(conf, clock)
    queue.submit(an_order("comes", guest="guest3"), behind)
    running.open()
    assert [outcome.order.action_id for outcome in delivered.wait(1)] == ["runs"]
    queue.resume()
    waiting = [("comes", 1), ("waits for a thread", 1), ("waits for its guest", 1)]
    delivered.until(lambda: sorted(queue.orders()) == waiting)
    assert behind.runs == 0
    behind.open()
    lease.renew(lease.now())
    queue.resume()
    assert len(delivered.wait(4)) == 4


def test_queued_migration_takes_no_thread_without_a_lease(
    conf: cfg.ConfigOpts, queue: WorkQueue, delivered: Delivered, lease: HostLease, clock: Clock
) -> None:
    run_out(conf, clock)
    queue.submit(an_order(), done, Lane.MIGRATION)
    assert delivered.outcomes == []
    lease.renew(lease.now())
    queue.resume()
    delivered.wait(1)


def test_what_has_not_begun_is_let_go_of_and_taken_when_it_is_sent_again(
    conf: cfg.ConfigOpts, queue: WorkQueue, delivered: Delivered, gate: Gate, lease: HostLease, clock: Clock
) -> None:
    queue.submit(an_order("runs"), gate)
    gate.wait()
    queue.submit(an_order("behind"), done)
    run_out(conf, clock)
    queue.submit(an_order("waits", guest="guest2"), done)
    queue.let_go()
    assert queue.orders() == [("runs", 1)]
    with queue.held("guest2") as idle:
        assert idle
    queue.submit(an_order("waits", guest="guest2", sequence=2), done)
    lease.renew(lease.now())
    queue.resume()
    gate.open()
    assert {outcome.order.action_id for outcome in delivered.wait(2)} == {"runs", "waits"}


def test_what_comes_behind_an_order_that_is_dropped_goes_on(
    queues: Callable[[int], WorkQueue], delivered: Delivered, gates: Callable[[], Gate]
) -> None:
    queue, gate = queues(1), gates()
    queue.submit(an_order("has the thread", guest="guest2"), gate)
    gate.wait()
    queue.submit(an_order("over"), done)
    queue.submit(an_order("wanted"), done)
    queue.drop(["over"])
    gate.open()
    assert [outcome.order.action_id for outcome in delivered.wait(2)] == ["has the thread", "wanted"]


def test_order_that_was_sent_before_the_host_was_heard_again_is_void_whenever_it_comes(
    conf: cfg.ConfigOpts, queue: WorkQueue, delivered: Delivered, lease: HostLease, clock: Clock
) -> None:
    run_out(conf, clock)
    queue.submit(an_order("came before", guest="guest1", sent=5), done)
    queue.submit(an_order("sent again", guest="guest2", sent=0), done)
    queue.let_go(utcnow() - timedelta(seconds=3))
    queue.submit(an_order("comes after", guest="guest3", sent=5), done)
    assert queue.orders() == [("sent again", 1)]
    lease.renew(lease.now())
    queue.resume()
    assert [outcome.order.action_id for outcome in delivered.wait(1)] == ["sent again"]


def test_conductor_whose_clock_is_ahead_does_not_make_void_what_others_send(
    conf: cfg.ConfigOpts,
    queue: WorkQueue,
    delivered: Delivered,
    lease: HostLease,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run_out(conf, clock)
    queue.submit(an_order("came before", sent=1), done)
    queue.let_go(utcnow() + timedelta(hours=1))
    assert queue.orders() == []
    lease.renew(lease.now())
    queue.resume()
    queue.submit(an_order("of another conductor"), done)
    assert [outcome.order.action_id for outcome in delivered.wait(1)] == ["of another conductor"]
    assert "The clock of a conductor is 3" in caplog.text


@pytest.mark.parametrize("sequence", [1, 2])
def test_order_that_is_no_newer_than_the_newest_is_dropped(
    queue: WorkQueue, delivered: Delivered, sequence: int
) -> None:
    queue.submit(an_order(sequence=2), done)
    delivered.wait(1)
    queue.submit(an_order(sequence=sequence), done)
    assert queue.orders() == []
    queue.submit(an_order("another action", sequence=1), done)
    assert [outcome.order.action_id for outcome in delivered.wait(2)] == ["action1", "another action"]


def test_order_that_comes_after_its_deadline_is_dropped(queue: WorkQueue, delivered: Delivered) -> None:
    queue.submit(an_order(lasts=-0.001), done)
    assert queue.orders() == []
    queue.submit(an_order(sequence=1), done)
    assert delivered.wait(1)[0].order.sequence == 1


def let_deadline_pass(gate: Gate, order: Order, delivered: Delivered) -> None:
    """Let it be too late for an order that waits behind a gate."""
    delivered.until(lambda: utcnow() > order.deadline)
    gate.open()


def test_order_that_has_waited_beyond_its_deadline_is_not_begun(
    queue: WorkQueue, delivered: Delivered, gate: Gate
) -> None:
    late = an_order("late", lasts=0.05)
    queue.submit(an_order("runs"), gate)
    gate.wait()
    queue.submit(late, done)
    queue.submit(an_order("in time"), done)
    let_deadline_pass(gate, late, delivered)
    assert [outcome.order.action_id for outcome in delivered.wait(2)] == ["runs", "in time"]


def test_order_that_conductors_have_heard_of_meanwhile_is_begun_after_its_deadline(
    queue: WorkQueue, delivered: Delivered, gate: Gate, lease: HostLease, clock: Clock
) -> None:
    order = an_order("waits", lasts=0.05, sent=10)
    queue.submit(an_order("runs"), gate)
    gate.wait()
    queue.submit(order, done)
    queue.confirm({("waits", 1)}, lease.now())
    clock.go_on(9)
    let_deadline_pass(gate, order, delivered)
    assert [outcome.order.action_id for outcome in delivered.wait(2)] == ["runs", "waits"]


def test_order_that_conductors_have_heard_of_too_late_is_not_begun(
    queue: WorkQueue, delivered: Delivered, gate: Gate, lease: HostLease
) -> None:
    order = an_order("waits", lasts=0.05, sent=10)
    queue.submit(an_order("runs"), gate)
    gate.wait()
    queue.submit(order, done)
    delivered.until(lambda: utcnow() > order.deadline)
    queue.confirm({("waits", 1)}, lease.now())
    gate.open()
    queue.submit(an_order("after"), done)
    assert [outcome.order.action_id for outcome in delivered.wait(2)] == ["runs", "after"]


def test_work_in_hand_answers_for_the_newer_order(queue: WorkQueue, delivered: Delivered, gate: Gate) -> None:
    newer = an_order(sequence=3, attempt=2)
    queue.submit(an_order(sequence=2), gate)
    gate.wait()
    queue.submit(newer, gate)
    assert queue.orders() == [("action1", 3)]
    gate.open()
    [outcome] = delivered.wait(1)
    assert (outcome.order, gate.runs) == (newer, 1)
    assert queue.orders() == []


def test_work_that_waits_answers_for_the_newer_order(queue: WorkQueue, delivered: Delivered, gate: Gate) -> None:
    queue.submit(an_order("action1"), gate)
    queue.submit(an_order("action2", sequence=1), done)
    queue.submit(an_order("action2", sequence=2, attempt=2), done)
    assert queue.orders() == [("action1", 1), ("action2", 2)]
    gate.open()
    assert [outcome.order.sequence for outcome in delivered.wait(2)] == [1, 2]


@pytest.mark.parametrize("error", [None, GuestNotFound(uuid="guest1", host="host1"), MigrationAborted(uuid="guest1")])
@pytest.mark.parametrize("lane", Lane)
def test_order_that_is_sent_again_after_its_work_has_ended_gets_the_outcome_that_there_is(
    queue: WorkQueue, delivered: Delivered, gate: Gate, error: Exception | None, lane: Lane
) -> None:
    again = [an_order(sequence=sequence, attempt=sequence - 1) for sequence in (3, 5)]
    queue.submit(an_order(sequence=2), failing(error) if error else done, lane)
    [first] = delivered.wait(1)
    for count, order in enumerate(again, start=2):
        queue.submit(order, gate, lane)
        assert delivered.wait(count)[-1] == replace(first, order=order)
    assert (gate.runs, queue.orders()) == (0, [])


def test_order_that_is_sent_again_while_the_outcome_is_on_its_way_gets_that(
    lease: HostLease, delivered: Delivered
) -> None:
    again, more = an_order(sequence=3, attempt=2), Gate()

    def deliver(outcome: Outcome) -> None:
        if outcome.order.sequence == 2:
            queue.submit(again, more)
        delivered(outcome)

    queue = WorkQueue("host1", 1, lease, deliver)
    try:
        queue.submit(an_order(sequence=2), done)
        assert [outcome.order.sequence for outcome in delivered.wait(2)] == [2, 3]
    finally:
        more.open()
        queue.stop()
    assert more.runs == 0


def test_step_that_is_come_back_to_is_done_again(queue: WorkQueue, delivered: Delivered, gate: Gate) -> None:
    gate.open()
    queue.submit(an_order(step="spawn", sequence=2), gate)
    delivered.wait(1)
    queue.submit(an_order(step="destroy", sequence=3), gate)
    delivered.wait(2)
    queue.submit(an_order(step="spawn", sequence=4), gate)
    delivered.wait(3)
    assert gate.runs == 3


def test_not_all_outcomes_are_remembered_for_ever(
    queue: WorkQueue, delivered: Delivered, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_REMEMBERED_OUTCOMES", 2)
    gate.open()
    for action in ("action1", "action2", "action3"):
        queue.submit(an_order(action), gate)
    delivered.wait(3)
    for action in ("action1", "action3"):
        queue.submit(an_order(action, sequence=2, attempt=2), gate)
    delivered.wait(5)
    assert gate.runs == 4


def test_next_step_of_an_action_waits_for_the_one_before(queue: WorkQueue, delivered: Delivered, gate: Gate) -> None:
    queue.submit(an_order(step="spawn", sequence=1), gate)
    queue.submit(an_order(step="destroy", sequence=2), done)
    gate.wait()
    assert queue.orders() == [("action1", 1), ("action1", 2)]
    gate.open()
    assert [outcome.order.step for outcome in delivered.wait(2)] == ["spawn", "destroy"]


def test_what_is_in_work_can_be_seen(queue: WorkQueue, delivered: Delivered, gate: Gate) -> None:
    assert queue.current("guest1") is None
    order = an_order(step="power_off")
    queue.submit(order, gate)
    gate.wait()
    [task] = queue.tasks()
    assert (task.what, task.subject) == ("power_off", "guest1")
    job = queue.current("guest1")
    assert job
    assert (job.order, task.since) == (order, job.received_at)
    gate.open()
    delivered.wait(1)
    assert (queue.tasks(), queue.current("guest1")) == ([], None)


def stop_while(monkeypatch: pytest.MonkeyPatch, queue: WorkQueue, gate: Gate) -> None:
    """Stop a queue, and open a gate as soon as it stops."""
    real = ThreadPoolExecutor.shutdown

    def shutdown(pool: ThreadPoolExecutor, *args: Any, **more: Any) -> None:
        gate.open()
        real(pool, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(ThreadPoolExecutor, "shutdown", shutdown)
        queue.stop()


def test_stop_finishes_what_runs_and_begins_nothing_more(
    monkeypatch: pytest.MonkeyPatch, queues: Callable[[int], WorkQueue], delivered: Delivered, gates: Callable[[], Gate]
) -> None:
    queue, running, behind = queues(1), gates(), Gate()
    queue.submit(an_order("runs"), running)
    queue.submit(an_order("waits for its guest"), behind)
    queue.submit(an_order("waits for a thread", guest="guest2"), behind)
    running.wait()
    stop_while(monkeypatch, queue, running)
    assert [outcome.order.action_id for outcome in delivered.wait(1)] == ["runs"]
    assert behind.runs == 0


def test_stopped_queue_takes_up_nothing(queue: WorkQueue, delivered: Delivered) -> None:
    queue.stop()
    queue.submit(an_order(), done)
    queue.resume()
    assert delivered.outcomes == []


def test_work_that_goes_on_without_the_service_is_not_reported(queue: WorkQueue, delivered: Delivered) -> None:
    queue.submit(an_order(), failing(Detached()))
    queue.stop()
    assert delivered.outcomes == []


def test_orders_of_a_guest_that_is_held_wait(queue: WorkQueue, delivered: Delivered, gate: Gate) -> None:
    with queue.held("guest1") as idle:
        assert idle
        queue.submit(an_order(), gate)
        assert gate.runs == 0
        with queue.held("guest1") as again:
            assert not again
        assert gate.runs == 0
    gate.wait()
    gate.open()
    assert delivered.wait(1)[0].result is Result.SUCCEEDED


def test_guest_with_an_order_in_hand_is_not_held(queue: WorkQueue, delivered: Delivered, gate: Gate) -> None:
    queue.submit(an_order(), gate)
    gate.wait()
    with queue.held("guest1") as idle:
        assert not idle
    gate.open()
    delivered.wait(1)


def test_orders_that_come_in_while_it_is_watched_are_noted(queue: WorkQueue, delivered: Delivered) -> None:
    queue.submit(an_order("before", guest="guest0"), lambda _job: {})
    with queue.watched() as came_in:
        queue.submit(an_order("meanwhile", guest="guest1"), lambda _job: {})
        delivered.wait(2)
    queue.submit(an_order("after", guest="guest2"), lambda _job: {})
    delivered.wait(3)
    assert [order.action_id for order in came_in] == ["meanwhile"]


def test_orders_in_hand_for_a_guest(queue: WorkQueue, gate: Gate, delivered: Delivered) -> None:
    queue.submit(an_order("action1", step="power_on", sequence=2), gate)
    gate.wait()
    queue.submit(an_order("action2", step="reboot"), gate)
    held = queue.held_for("guest1")
    assert [(each.action_id, each.step, each.sequence, each.done) for each in held] == [
        ("action1", "power_on", 2, False),
        ("action2", "reboot", 1, False),
    ]
    assert held[0].received_at <= held[1].received_at
    assert queue.held_for("guest2") == []
    gate.open()
    delivered.wait(2)
    assert queue.held_for("guest1") == []
