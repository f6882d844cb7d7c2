"""No operation is lost when a conductor dies, whenever that is, nor when reports get lost, doubled or late."""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from oslo_config import cfg

from minova.objects import Action, ActionEvent, Fault, Hop, Outcome, Result, utcnow
from minova.states import ActionStatus, MigrationStatus, VmState
from minova.virt.fake import FakeDriver
from tests.fixtures.crashes import (
    crash_conductor,
    lame,
    let_be_taken_over,
    let_lease_run_out,
    lose_reports,
    order_of,
    row_of,
    wait_for_outcome,
)
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab, wait_until
from tests.fixtures.moves import compute_api, converge, hosts_of, live_migrate, start_endless

pytestmark = pytest.mark.every_database

NEVER = 3600
"""A lease, in seconds, that does not run out during a test."""


def takeovers(lab: Lab, action: Action) -> list[ActionEvent]:
    return [each for each in lab.api.list_action_events(lab.ctxt, action.id) if each.hop is Hop.TAKEOVER]


# A conductor dies.


def test_action_that_its_conductor_committed_and_never_sent_is_taken_over(
    conf: cfg.ConfigOpts, make_lab: Callable[..., Lab]
) -> None:
    conf.set_override("lease", 1, "conductor")
    lab = make_lab("host1", "host2")
    lab.boot()
    first = lab.cluster.conductors[0]
    lame(first)
    action = lab.api.stop_instance(lab.ctxt, "vm")
    crash_conductor(lab, first)
    second = lab.cluster.add_conductor()
    lab.succeed(action)
    assert lab.instance().vm_state is VmState.STOPPED
    [takeover] = takeovers(lab, action)
    assert (takeover.step, takeover.attempt) == ("power_off", 2)
    assert takeover.message == f"from {first.engine.owner}"
    assert row_of(lab, action).owner == second.engine.owner


def test_action_is_left_to_its_conductor_while_the_lease_lasts(lab: Lab, gate: Callable[[str], Gate]) -> None:
    """Its thread waits for an answer, and its timer renews the lease; others have a look five times a second."""
    lab.cluster.add_conductor()
    converge(lab)
    lab.boot()
    check = gate("check_can_live_migrate_source")
    action = live_migrate(lab)
    check.wait()
    before = row_of(lab, action)
    wait_until(lambda: row_of(lab, action).lease_expires_at > before.lease_expires_at, "a renewal")
    assert row_of(lab, action).owner == before.owner
    check.open()
    lab.succeed(action)
    assert takeovers(lab, action) == []


def test_only_one_of_several_conductors_takes_an_action_over(lab: Lab) -> None:
    lab.boot()
    lame(lab.cluster.conductors[0])
    action = lab.api.stop_instance(lab.ctxt, "vm")
    crash_conductor(lab, lab.cluster.conductors[0])
    for _ in range(3):
        lab.cluster.add_conductor()
    let_lease_run_out(lab, action)
    lab.succeed(action)
    assert len(takeovers(lab, action)) == 1


def test_report_reaches_another_conductor_if_the_first_died_meanwhile(lab: Lab, gate: Callable[[str], Gate]) -> None:
    power_off = gate("power_off")
    lab.boot()
    action = lab.api.stop_instance(lab.ctxt, "vm")
    power_off.wait()
    crash_conductor(lab, lab.cluster.conductors[0])
    lab.cluster.add_conductor()
    power_off.open()
    lab.succeed(action)
    assert takeovers(lab, action) == []


def test_report_waits_for_a_conductor_to_come(lab: Lab, gate: Callable[[str], Gate]) -> None:
    lab.set("rpc", quick_timeout=0.2)
    power_off = gate("power_off")
    lab.boot(host="host1")
    action = lab.api.stop_instance(lab.ctxt, "vm")
    power_off.wait()
    crash_conductor(lab, lab.cluster.conductors[0])
    power_off.open()
    wait_for_outcome(lab.cluster.computes["host1"])
    lab.cluster.add_conductor()
    lab.set("rpc", quick_timeout=10.0)
    lab.succeed(action)


def test_work_that_a_compute_is_at_goes_on_once_a_conductor_takes_it_over(
    lab: Lab, gate: Callable[[str], Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order that is sent again joins the one that is in work."""
    power_off = gate("power_off")
    lab.boot(host="host1")
    action = lab.api.stop_instance(lab.ctxt, "vm")
    power_off.wait()
    let_be_taken_over(lab, action)
    sequence = order_of(lab, action).sequence
    wait_until(lambda: (action.id, sequence) in lab.cluster.computes["host1"]._work.orders(), "the newer order")
    power_off.open()
    lab.succeed(action)
    work = [each for each in lab.api.list_action_events(lab.ctxt, action.id) if each.hop is Hop.WORK]
    assert len(work) == 1


def test_question_is_asked_again_if_the_conductor_died_over_it(lab: Lab, gate: Callable[[str], Gate]) -> None:
    converge(lab)
    lab.boot(host="host1")
    check = gate("check_can_live_migrate_source")
    action = live_migrate(lab)
    check.wait()
    crash_conductor(lab, lab.cluster.conductors[0])
    lab.cluster.add_conductor()
    check.open()
    let_lease_run_out(lab, action)
    lab.succeed(action)
    assert lab.instance().host == "host2"


def test_undo_goes_on_if_the_conductor_dies_in_the_middle_of_it(lab: Lab, gate: Callable[[str], Gate]) -> None:
    uuid = lab.boot(host="host1").uuid
    move = gate("live_migration")
    lab.set("fake", failures=["live_migration"])
    action = live_migrate(lab)
    move.wait()
    first = lab.cluster.conductors[0]
    lame(first)
    move.open()
    wait_until(lambda: row_of(lab, action).status is ActionStatus.UNDOING, "the undo")
    crash_conductor(lab, first)
    lab.cluster.add_conductor()
    assert row_of(lab, action).status is ActionStatus.UNDOING
    let_lease_run_out(lab, action)
    lab.fail(action)
    assert lab.migration(action).status is MigrationStatus.FAILED
    assert (lab.instance().host, lab.instance().vm_state) == ("host1", VmState.ACTIVE)
    assert hosts_of(lab, uuid) == ["host1"]
    [takeover] = takeovers(lab, action)
    assert takeover.step == "prepare_destination"


def test_lost_order_of_an_undo_is_sent_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.boot(host="host1")
    lab.set("fake", failures=["live_migration"])
    name = "minova.compute.rpcapi.ComputeAPI.rollback_live_migration_at_destination"
    lost: list[object] = []
    with monkeypatch.context() as patch:
        patch.setattr(name, lambda *args: lost.append(args))
        action = live_migrate(lab)
        wait_until(lambda: lost, "the order")
    lab.fail(action)
    assert lab.instance().vm_state is VmState.ACTIVE


def test_cancel_outlives_the_conductor_that_took_it(lab: Lab) -> None:
    lab.boot(host="host1")
    action = start_endless(lab)
    first = lab.cluster.conductors[0]
    first.engine.abort = lambda task: None  # type: ignore[method-assign]
    lab.api.cancel_action(lab.ctxt, action.id)
    crash_conductor(lab, first)
    lab.cluster.add_conductor()
    assert lab.end_of(action).status is ActionStatus.CANCELLED
    assert lab.instance().host == "host1"


def test_live_migration_does_not_notice_the_death_of_a_conductor(lab: Lab) -> None:
    lab.boot(host="host1")
    action = start_endless(lab)
    crash_conductor(lab, lab.cluster.conductors[0])
    lab.cluster.add_conductor()
    before = lab.migration(action).progress.elapsed
    wait_until(lambda: lab.migration(action).progress.elapsed > before, "more progress")
    lab.api.force_complete_migration(lab.ctxt, str(lab.migration(action).uuid))
    lab.succeed(action)
    assert takeovers(lab, action) == []


# A conductor is stopped.


def test_conductor_that_is_stopped_hands_over_at_once(
    conf: cfg.ConfigOpts, make_lab: Callable[..., Lab], gate: Callable[[str], Gate], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "minova.conductor.service")
    conf.set_override("lease", NEVER, "conductor")
    lab = make_lab("host1", "host2")
    converge(lab)
    lab.boot(host="host1")
    check = gate("check_can_live_migrate_source")
    action = live_migrate(lab)
    check.wait()
    second = lab.cluster.add_conductor()
    first = lab.cluster.conductors.pop(0)
    stopping = threading.Thread(target=first.stop)
    stopping.start()
    # It waits for the answer itself, but nobody waits for it.
    wait_until(lambda: row_of(lab, action).owner == second.engine.owner, "the takeover")
    assert stopping.is_alive()
    check.open()
    stopping.join()
    lab.succeed(action)
    assert row_of(lab, action).owner == second.engine.owner
    [takeover] = takeovers(lab, action)
    assert takeover.step == "check_source"
    asked = [each for each in lab.api.list_action_events(lab.ctxt, action.id) if each.hop is Hop.CALL]
    assert [each.service for each in asked if each.step == takeover.step] == [second.engine.name]
    assert f"Conductor {first.engine.owner} stops: 1 of its actions handed over" in caplog.messages
    assert f"Conductor {first.engine.owner} has stopped" in caplog.messages


def test_what_a_conductor_that_stops_still_takes_is_handed_over_too(
    conf: cfg.ConfigOpts, make_lab: Callable[..., Lab]
) -> None:
    conf.set_override("lease", NEVER, "conductor")
    lab = make_lab("host1", "host2")
    lab.boot(host="host1")
    first = lab.cluster.conductors.pop(0)
    first.engine.close()
    action = lab.api.stop_instance(lab.ctxt, "vm")
    second = lab.cluster.add_conductor()
    first.stop()
    lab.succeed(action)
    [takeover] = takeovers(lab, action)
    assert takeover.service == second.engine.name


def test_cluster_that_is_stopped_in_mid_operation_goes_on_where_it_was(lab: Lab) -> None:
    lab.boot(host="host1")
    action = start_endless(lab)
    for host in ("host1", "host2"):
        lab.stop_compute(host)
    lab.cluster.conductors.pop().stop()
    lab.cluster.add_conductor()
    for host in ("host1", "host2"):
        lab.return_host(host)
    before = lab.migration(action).progress.elapsed
    wait_until(lambda: lab.migration(action).progress.elapsed > before, "more progress")
    lab.api.force_complete_migration(lab.ctxt, str(lab.migration(action).uuid))
    lab.succeed(action)
    assert lab.instance().host == "host2"


# Reports are lost, doubled, late.


def test_report_is_made_until_it_arrives(lab: Lab) -> None:
    lab.boot(host="host1")
    compute = lab.cluster.computes["host1"]
    arrive = lose_reports(compute)
    action = lab.api.stop_instance(lab.ctxt, "vm")
    wait_for_outcome(compute)
    before = row_of(lab, action)
    # As long as the compute has something to tell, its order is not sent again.
    wait_until(lambda: row_of(lab, action).lease_expires_at > before.lease_expires_at, "a renewal")
    assert lab.instance().task_state is not None
    arrive()
    lab.succeed(action)
    assert takeovers(lab, action) == []


def test_order_whose_outcome_never_arrived_is_not_done_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    real = FakeDriver.migrate_disk_and_power_off
    monkeypatch.setattr(
        FakeDriver, "migrate_disk_and_power_off", lambda *args: (calls.append("called"), real(*args))[1]
    )
    lab.boot(host="host1")
    compute = lab.cluster.computes["host1"]
    arrive = lose_reports(compute)
    action = lab.api.migrate_instance(lab.ctxt, "vm", None)
    wait_for_outcome(compute)
    compute._outbox._pending.clear()
    let_lease_run_out(lab, action)
    arrive()
    lab.succeed(action)
    assert len(calls) == 1
    assert lab.instance().host == "host2"


def stale(lab: Lab, action: Action, result: Result, sequence: int) -> Outcome:
    now = utcnow()
    fault = Fault(code="OperationRefused", message="made up") if result is Result.FAILED else None
    order = replace(order_of(lab, action), sequence=sequence)
    return Outcome(
        order=order, host="host1", result=result, received_at=now, started_at=now, finished_at=now, fault=fault
    )


@pytest.mark.parametrize("result", [Result.FAILED, Result.SUCCEEDED, Result.CANCELLED])
@pytest.mark.parametrize("offset", [-1, 1])
def test_report_of_another_order_than_the_newest_changes_nothing(lab: Lab, result: Result, offset: int) -> None:
    lab.boot(host="host1")
    action = start_endless(lab)
    events = lab.api.list_action_events(lab.ctxt, action.id)
    outcome = stale(lab, action, result, order_of(lab, action).sequence + offset)
    lab.api.report_outcome(lab.ctxt, outcome)
    assert lab.api.get_action(lab.ctxt, action.id).status is ActionStatus.RUNNING
    assert lab.api.list_action_events(lab.ctxt, action.id) == events
    assert lab.migration(action).status is MigrationStatus.RUNNING
    lab.api.cancel_action(lab.ctxt, action.id)


def test_doubled_report_changes_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.boot(host="host1")
    compute = lab.cluster.computes["host1"]
    arrive = lose_reports(compute)
    action = lab.api.stop_instance(lab.ctxt, "vm")
    wait_for_outcome(compute)
    [(_ctxt, outcome)] = compute._outbox._pending
    arrive()
    ended = lab.succeed(action)
    events = lab.api.list_action_events(lab.ctxt, action.id)
    lab.api.report_outcome(lab.ctxt, outcome)
    lab.api.report_outcome(lab.ctxt, replace(outcome, result=Result.FAILED))
    assert lab.api.get_action(lab.ctxt, action.id) == ended
    assert lab.api.list_action_events(lab.ctxt, action.id) == events
    assert (lab.instance().vm_state, lab.instance().task_state) == (VmState.STOPPED, None)


def test_report_of_an_action_that_nobody_knows_is_dropped(lab: Lab) -> None:
    lab.boot(host="host1")
    action = lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    outcome = stale(lab, action, Result.SUCCEEDED, 1)
    lab.api.report_outcome(lab.ctxt, replace(outcome, order=replace(outcome.order, action_id="1234")))


# Orders are late, or doubled.


def test_order_older_than_the_newest_is_refused(
    lab: Lab, gate: Callable[[str], Gate], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "minova.compute.work")
    uuid = lab.boot(host="host1").uuid
    power_off = gate("power_off")
    action = lab.api.stop_instance(lab.ctxt, "vm")
    power_off.wait()
    order = order_of(lab, action)
    for sequence in (order.sequence, order.sequence - 1):
        older = replace(order, sequence=sequence)
        compute_api(lab).terminate_instance(lab.ctxt, "host1", older, lab.instance())
    wait_until(lambda: caplog.text.count("is stale, and dropped") == 2, "two refusals")
    power_off.open()
    lab.succeed(action)
    assert lab.guest("host1", uuid) is not None


def test_order_that_comes_after_its_deadline_is_not_begun(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    uuid = lab.boot(host="host1").uuid
    action = lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    late = replace(order_of(lab, action), sequence=1000, deadline=utcnow())
    compute_api(lab).terminate_instance(lab.ctxt, "host1", late, lab.instance())
    wait_until(lambda: "came too late, and is dropped" in caplog.text, "the refusal")
    assert lab.guest("host1", uuid) is not None


def test_order_that_is_sent_again_does_not_outlive_the_patience_of_conductors(
    lab: Lab, gate: Callable[[str], Gate]
) -> None:
    """Else a compute might begin what was given up meanwhile."""
    power_off = gate("power_off")
    lab.boot(host="host1")
    action = lab.api.stop_instance(lab.ctxt, "vm")
    power_off.wait()
    job = lab.cluster.computes["host1"]._work.current(action.instance_uuid)
    assert job is not None
    first = job.order
    let_be_taken_over(lab, action)
    wait_until(lambda: job.order.sequence > first.sequence, "the newer order")
    patience = timedelta(seconds=lab.conf.conductor.unresponsive_timeout)
    assert first.deadline <= job.order.deadline < job.order.sent_at + patience
    power_off.open()
    lab.succeed(action)
