"""Computes that do not come back: what they were to do fails in the end, and it is told what is left where."""

from collections.abc import Callable

import pytest
from oslo_config import cfg

from minova.exception import HostUnusable
from minova.exception_moves import PlaceUnclear
from minova.objects import Action, Result
from minova.states import ActionStatus, MigrationStatus, PowerState, VmState
from tests.fixtures.crashes import (
    crash_compute,
    gag,
    let_lease_run_out,
    let_patience_run_out,
    let_silence_grow,
    lose_reports,
    row_of,
    wait_for_outcome,
)
from tests.fixtures.doubts import hear
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab, wait_until
from tests.fixtures.moves import converge, driver_of, hosts_of, live_migrate, refused, rooms, start_endless

SILENT = "compute on {} did not answer within 300 s"


def lose(lab: Lab, host: str) -> None:
    """Kill the compute of a host; it does not come back, and its guests live on."""
    crash_compute(lab, host)


def lose_after(lab: Lab, host: str, held: Gate) -> None:
    """Kill the compute of a host once it has done what it is held at, and before it can tell."""
    compute = lab.cluster.computes[host]
    lose_reports(compute)
    held.open()
    wait_for_outcome(compute)
    crash_compute(lab, host)


def let_it_fail(lab: Lab, action: Action) -> None:
    """Let the patience with a silent compute run out, and wait for what the conductors do then."""
    before, seen = row_of(lab, action), 0

    def is_given_up() -> bool:
        nonlocal seen
        now = row_of(lab, action)
        if (now.step, now.status) != (before.step, before.status):
            return True
        if now.sequence > seen:
            # Or once more: something that was still on its way has been heard, and it was only sent again.
            seen = now.sequence
            let_patience_run_out(lab, action)
        return False

    wait_until(is_given_up, "the end of all patience")


def migrate(lab: Lab) -> Action:
    return lab.api.migrate_instance(lab.ctxt, "vm", None)


def faults(lab: Lab) -> list[tuple[str, str]]:
    return [(fault.code, fault.message) for fault in lab.api.list_faults(lab.ctxt, "vm")]


# One host.


def test_compute_whose_hypervisor_hangs_is_not_waited_for_once_it_is_forced_down(
    lab: Lab, gate: Callable[[str], Gate]
) -> None:
    """It lives, and says for ever that it works on the order."""
    converge(lab)
    lab.boot(host="host1")
    held = gate("power_off")
    action = lab.api.stop_instance(lab.ctxt, "vm")
    held.wait()
    lab.cluster.computes["host1"].reporter.renew()
    lab.api.set_service_forced_down(lab.ctxt, "host1", True)
    assert "it was forced down" in lab.fail(action).error
    held.open()


def test_compute_whose_hypervisor_hangs_keeps_no_other_waiting(
    conf: cfg.ConfigOpts, make_lab: Callable[..., Lab], gate: Callable[[str], Gate]
) -> None:
    conf.set_override("threads", 1, group="conductor")
    lab = make_lab("host1", "host2")
    lab.boot("stuck", host="host1")
    lab.boot("free", host="host1")
    held = gate("check_can_live_migrate_source")
    action = live_migrate(lab, name="stuck")
    held.wait()
    lab.succeed(lab.api.stop_instance(lab.ctxt, "free"))
    held.open()
    lab.succeed(action)


def test_power_operation_fails_and_the_next_report_of_the_host_tells_the_truth(
    lab: Lab, gate: Callable[[str], Gate]
) -> None:
    power_off = gate("power_off")
    lab.boot(host="host1")
    action = lab.api.stop_instance(lab.ctxt, "vm")
    power_off.wait()
    lose_after(lab, "host1", power_off)
    let_it_fail(lab, action)
    assert lab.fail(action).error == SILENT.format("host1")
    assert (lab.instance().vm_state, lab.instance().task_state) == (VmState.ACTIVE, None)
    failed = [each for each in lab.api.list_action_events(lab.ctxt, action.id) if each.result is Result.FAILED]
    assert [(each.step, each.message) for each in failed] == [("power_off", SILENT.format("host1"))]
    lab.return_host("host1")
    lab.report("host1")
    assert (lab.instance().vm_state, lab.instance().power_state) == (VmState.STOPPED, PowerState.SHUTDOWN)


def test_nothing_fails_as_long_as_there_is_patience(lab: Lab, gate: Callable[[str], Gate]) -> None:
    """A host that is silent is unknown, and not down."""
    power_off = gate("power_off")
    lab.boot(host="host1")
    action = lab.api.stop_instance(lab.ctxt, "vm")
    power_off.wait()
    lose(lab, "host1")
    power_off.open()
    let_silence_grow(lab, "host1")
    before = row_of(lab, action)
    for _ in range(3):
        let_lease_run_out(lab, action)
        wait_until(lambda: row_of(lab, action).lease_expires_at > before.lease_expires_at, "a longer lease")
    after = row_of(lab, action)
    # Nothing is sent to a host that is not there: it would only pile up.
    assert (after.sequence, after.attempt) == (before.sequence, before.attempt)
    lab.return_host("host1")
    lab.succeed(action)


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done"])
def test_boot_ends_in_error_and_the_returned_host_destroys_what_was_made(
    lab: Lab, gate: Callable[[str], Gate], done: bool
) -> None:
    spawn = gate("spawn")
    action = lab.api.boot_instance(lab.ctxt, lab.request(host="host1"))
    spawn.wait()
    if done:
        lose_after(lab, "host1", spawn)
    else:
        lose(lab, "host1")
        spawn.open()
    assert (lab.guest("host1", action.instance_uuid) is not None) == done
    let_it_fail(lab, action)
    assert row_of(lab, action).status is ActionStatus.UNDOING
    let_it_fail(lab, action)
    failed = lab.fail(action)
    left = f"destroy on host host1 was not done: {SILENT.format('host1')}"
    assert failed.error == f"{SILENT.format('host1')}; {left}"
    assert faults(lab)[0] == ("LeftBehind", left)
    assert (lab.instance().vm_state, lab.instance().host) == (VmState.ERROR, None)
    assert rooms(lab) == {"host1": [], "host2": []}
    lab.return_host("host1")
    lab.report("host1")
    assert hosts_of(lab, action.instance_uuid) == []


# Two hosts.


def test_live_migration_fails_if_the_destination_is_lost_and_the_guest_runs_on(
    lab: Lab, gate: Callable[[str], Gate]
) -> None:
    converge(lab)
    uuid = lab.boot(host="host1").uuid
    prepare = gate("pre_live_migration")
    action = live_migrate(lab)
    prepare.wait()
    lose(lab, "host2")
    prepare.open()
    let_it_fail(lab, action)
    let_it_fail(lab, action)
    failed = lab.fail(action)
    left = f"rollback_destination on host host2 was not done: {SILENT.format('host2')}"
    assert failed.error == f"{SILENT.format('host2')}; {left}"
    assert lab.migration(action).status is MigrationStatus.ERROR
    assert hosts_of(lab, uuid) == ["host1"]
    assert rooms(lab) == {"host1": ["vm"], "host2": []}
    hear(lab, action)
    assert (lab.instance().host, lab.instance().vm_state) == ("host1", VmState.ACTIVE)


def test_live_migration_goes_forward_if_the_source_is_lost_and_the_guest_has_arrived(
    lab: Lab, gate: Callable[[str], Gate]
) -> None:
    converge(lab)
    uuid = lab.boot(host="host1").uuid
    move = gate("live_migration")
    action = live_migrate(lab)
    move.wait()
    lose_after(lab, "host1", move)
    assert hosts_of(lab, uuid) == ["host2"]
    let_it_fail(lab, action)
    lab.succeed(action)
    assert lab.migration(action).status is MigrationStatus.COMPLETED
    assert (lab.instance().host, lab.instance().vm_state) == ("host2", VmState.ACTIVE)
    assert rooms(lab) == {"host1": [], "host2": ["vm"]}
    assert faults(lab) == [("PeerSilent", SILENT.format("host1"))]


def test_live_migration_goes_forward_though_it_was_cancelled_if_the_guest_has_arrived(
    lab: Lab, gate: Callable[[str], Gate]
) -> None:
    converge(lab)
    lab.boot(host="host1")
    move = gate("live_migration")
    action = live_migrate(lab)
    move.wait()
    lose_after(lab, "host1", move)
    lab.api.cancel_action(lab.ctxt, action.id)
    let_it_fail(lab, action)
    lab.succeed(action)
    assert lab.instance().host == "host2"


def test_live_migration_is_undone_if_the_source_is_lost_and_the_guest_has_not_arrived(
    make_lab: Callable[..., Lab],
) -> None:
    lab = make_lab("host1", "host2", "host3")
    uuid = lab.boot(host="host1").uuid
    action = start_endless(lab, "host2")
    lose(lab, "host1")
    let_it_fail(lab, action)
    failed = lab.fail(action)
    assert failed.error.startswith(f"{SILENT.format('host1')}; ")
    assert lab.migration(action).status is MigrationStatus.FAILED
    assert (lab.instance().host, lab.instance().vm_state) == ("host1", VmState.ACTIVE)
    assert rooms(lab) == {"host1": ["vm"], "host2": [], "host3": []}
    # The hypervisor is still at it when the compute comes back, and is told to stop.
    converge(lab)
    lab.return_host("host1")
    hear(lab, action)
    assert hosts_of(lab, uuid) == ["host1"]
    lab.succeed(live_migrate(lab, "host3"))
    assert lab.instance().host == "host3"


def test_order_for_a_migration_that_was_given_up_is_not_begun_by_the_returned_source(
    lab: Lab, gate: Callable[[str], Gate], caplog: pytest.LogCaptureFixture
) -> None:
    """It has been in the queue of the source all the time."""
    lab.set("conductor", unresponsive_timeout=1)
    converge(lab)
    uuid = lab.boot(host="host1").uuid
    prepare = gate("pre_live_migration")
    action = live_migrate(lab)
    prepare.wait()
    lose(lab, "host1")
    prepare.open()
    lab.fail(action)
    lab.return_host("host1")
    wait_until(lambda: "Order migrate" in caplog.text and "came too late" in caplog.text, "the refusal")
    assert hosts_of(lab, uuid) == ["host1"]
    assert (lab.instance().host, lab.instance().vm_state) == ("host1", VmState.ACTIVE)


@pytest.mark.parametrize("arrived", [False, True], ids=["not moved", "moved"])
def test_cold_migration_without_its_source_ends_where_the_disks_are(
    lab: Lab, gate: Callable[[str], Gate], arrived: bool
) -> None:
    uuid = lab.boot(host="host1").uuid
    move = gate("migrate_disk_and_power_off")
    action = migrate(lab)
    move.wait()
    if arrived:
        lose_after(lab, "host1", move)
        let_it_fail(lab, action)
        lab.succeed(action)
        assert (lab.instance().host, lab.instance().vm_state) == ("host2", VmState.ACTIVE)
        assert rooms(lab) == {"host1": [], "host2": ["vm"]}
        return
    lose(lab, "host1")
    move.open()
    let_it_fail(lab, action)
    lab.wait_for_step(action, "begin_moving")
    let_it_fail(lab, action)
    failed = lab.fail(action)
    assert f"restart_at_source on host host1 was not done: {SILENT.format('host1')}" in failed.error
    assert (lab.instance().host, lab.instance().vm_state) == ("host1", VmState.ERROR)
    assert hosts_of(lab, uuid) == ["host1"]


def test_evacuation_that_lost_its_destination_is_not_tried_again_before_that_one_is_heard(
    make_lab: Callable[..., Lab], gate: Callable[[str], Gate]
) -> None:
    lab = make_lab("host1", "host2", "host3")
    uuid = lab.boot(host="host1").uuid
    lab.kill_host("host1")
    lab.api.set_service_forced_down(lab.ctxt, "host1", True)
    spawn = gate("spawn")
    action = lab.api.evacuate_instance(lab.ctxt, "vm", "host2")
    spawn.wait()
    lose_after(lab, "host2", spawn)
    let_it_fail(lab, action)
    let_it_fail(lab, action)
    lab.fail(action)
    assert (lab.instance().host, lab.instance().vm_state) == ("host1", VmState.ERROR)
    with refused(lab, PlaceUnclear, "host2 has not said yet whether it has the guest"):
        lab.api.evacuate_instance(lab.ctxt, "vm", "host3")
    lab.return_host("host2")
    lab.report("host2")
    assert hosts_of(lab, uuid) == ["host1"]
    lab.succeed(lab.api.evacuate_instance(lab.ctxt, "vm", "host3"))
    lab.return_host("host1")
    assert hosts_of(lab, uuid) == ["host3"]


def test_source_that_comes_back_with_a_migration_that_was_given_up_is_told_to_abort_it(lab: Lab) -> None:
    """It was cut off, and not dead: it went on all the time."""
    uuid = lab.boot(host="host1").uuid
    action = start_endless(lab)
    heal = gag(lab.cluster.computes["host1"])
    let_it_fail(lab, action)
    lab.fail(action)
    assert driver_of(lab, "host1").get_guest(uuid) is not None
    heal()
    lab.wait_until_idle("host1")
    guest = lab.guest("host1", uuid)
    assert guest is not None
    assert guest["migration"] is None
    converge(lab)
    hear(lab, action)
    lab.succeed(live_migrate(lab))


# Forced down meanwhile.


def test_operation_on_a_host_that_is_forced_down_fails_without_any_patience(
    lab: Lab, gate: Callable[[str], Gate]
) -> None:
    power_off = gate("power_off")
    lab.boot(host="host1")
    action = lab.api.stop_instance(lab.ctxt, "vm")
    power_off.wait()
    lose(lab, "host1")
    power_off.open()
    lab.dead_hosts.add("host1")
    lab.api.set_service_forced_down(lab.ctxt, "host1", True)
    let_silence_grow(lab, "host1")
    let_lease_run_out(lab, action)
    assert lab.fail(action).error == "host host1 cannot be used: it was forced down"
    lab.succeed(lab.api.evacuate_instance(lab.ctxt, "vm", None))
    assert lab.instance().host == "host2"


def test_live_migration_whose_source_is_forced_down_asks_the_destination(lab: Lab, gate: Callable[[str], Gate]) -> None:
    converge(lab)
    lab.boot(host="host1")
    move = gate("live_migration")
    action = live_migrate(lab)
    move.wait()
    lose_after(lab, "host1", move)
    lab.api.set_service_forced_down(lab.ctxt, "host1", True)
    let_lease_run_out(lab, action)
    lab.succeed(action)
    assert lab.instance().host == "host2"


def test_live_migration_whose_destination_is_forced_down_leaves_the_guest_there_for_an_evacuation(
    make_lab: Callable[..., Lab], gate: Callable[[str], Gate]
) -> None:
    lab = make_lab("host1", "host2", "host3")
    converge(lab)
    lab.boot(host="host1")
    finish = gate("post_live_migration_at_destination")
    action = live_migrate(lab, "host2")
    finish.wait()
    lose(lab, "host2")
    finish.open()
    lab.dead_hosts.add("host2")
    lab.api.set_service_forced_down(lab.ctxt, "host2", True)
    let_silence_grow(lab, "host2")
    let_lease_run_out(lab, action)
    failed = lab.fail(action)
    assert "finish_at_destination on host host2 was not done: host host2 cannot be used" in failed.error
    assert (lab.instance().host, lab.instance().vm_state) == ("host2", VmState.ERROR)
    assert rooms(lab) == {"host1": [], "host2": ["vm"], "host3": []}
    lab.succeed(lab.api.evacuate_instance(lab.ctxt, "vm", "host3"))
    assert (lab.instance().host, lab.instance().vm_state) == ("host3", VmState.ACTIVE)


def test_host_that_is_forced_down_and_lives_refuses_what_it_has_not_begun(lab: Lab) -> None:
    lab.boot(host="host1")
    lab.api.set_service_forced_down(lab.ctxt, "host1", True)
    lab.report("host1")
    with pytest.raises(HostUnusable, match="it is forced down"):
        lab.api.stop_instance(lab.ctxt, "vm")
    assert lab.instance().vm_state is VmState.ACTIVE


def test_host_that_is_forced_down_no_longer_does_what_it_is_sent(lab: Lab) -> None:
    """Without waiting for its next heartbeat."""
    lab.boot(host="host1")
    lab.api.set_service_forced_down(lab.ctxt, "host1", True)
    lab.report("host1")
    lab.api.set_service_forced_down(lab.ctxt, "host1", False)
    lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
