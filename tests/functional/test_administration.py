"""What operators say of services, hosts and instances."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from oslo_config import cfg
from sqlalchemy import update

from minova.conductor.engine import Engine
from minova.db import models
from minova.db.queries import CONDUCTOR
from minova.exception import HostNotFound, HostUnusable, InstanceBusy, InstanceNotFound, InvalidInput, ServiceNotFound
from minova.objects import Action, MigrationOptions, Service, utcnow
from minova.states import ActionStatus, HostState, MigrationStatus, Verb, VmState
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab, wait_until
from tests.fixtures.moves import converge


def service(lab: Lab, host: str) -> Service:
    [found] = [each for each in lab.api.list_services(lab.ctxt) if each.host == host]
    return found


def register_conductor(lab: Lab, host: str, seconds_ago: float) -> None:
    """Let a conductor be registered that was heard last so long ago."""
    seen = utcnow() - timedelta(seconds=seconds_ago)
    row = models.Service(binary=CONDUCTOR, host=host, rpc_version="1.0", started_at=seen, last_seen_at=seen)
    lab.database.write(lambda session: session.add(row))


def drain(lab: Lab, host: str) -> list[Action]:
    """Drain a host, and wait for all that it began."""
    return [lab.end_of(action) for action in lab.api.drain_host(lab.ctxt, host)]


def names_on(lab: Lab, host: str) -> list[str]:
    return [instance.name for instance in lab.api.list_instances(lab.ctxt, host)]


# Services.


def test_all_services_are_listed_and_up(lab: Lab) -> None:
    listed = [(each.binary, each.state, each.enabled) for each in lab.api.list_services(lab.ctxt)]
    assert listed == [
        ("minova-compute", HostState.UP, True),
        ("minova-compute", HostState.UP, True),
        ("minova-conductor", HostState.UP, True),
    ]


def test_silent_service_is_unknown_and_not_down(lab: Lab) -> None:
    lab.silence("host1")
    assert service(lab, "host1").state is HostState.UNKNOWN
    assert lab.api.get_host(lab.ctxt, "host1").state is HostState.UNKNOWN
    lab.return_host("host1")
    assert service(lab, "host1").state is HostState.UP


def test_service_is_down_only_if_the_operator_says_so(lab: Lab) -> None:
    down = lab.api.set_service_forced_down(lab.ctxt, "host1", True)
    assert (down.state, down.forced_down) == (HostState.DOWN, True)
    lab.report("host1")
    assert service(lab, "host1").state is HostState.DOWN
    up = lab.api.set_service_forced_down(lab.ctxt, "host1", False)
    assert (up.state, up.forced_down) == (HostState.UP, False)


def test_host_that_is_forced_down_gets_nothing_and_takes_orders_again_afterwards(lab: Lab) -> None:
    lab.api.set_service_forced_down(lab.ctxt, "host1", True)
    lab.report("host1")
    assert lab.boot("vm1").host == "host2"
    with pytest.raises(HostUnusable, match="it is down"):
        lab.boot("vm2", host="host1")
    lab.api.set_service_forced_down(lab.ctxt, "host1", False)
    lab.report("host1")
    assert lab.boot("vm2", host="host1").vm_state is VmState.ACTIVE


def test_disabled_service_keeps_its_instances_and_gets_no_more(lab: Lab) -> None:
    lab.boot("old", host="host1")
    disabled = lab.api.set_service_enabled(lab.ctxt, "host1", False, "a new disk")
    assert (disabled.enabled, disabled.disabled_reason, disabled.state) == (False, "a new disk", HostState.UP)
    assert [lab.boot(f"new{number}").host for number in range(2)] == ["host2", "host2"]
    lab.succeed(lab.api.stop_instance(lab.ctxt, "old"))
    with pytest.raises(HostUnusable, match="its service is disabled"):
        lab.boot("new2", host="host1")
    enabled = lab.api.set_service_enabled(lab.ctxt, "host1", True)
    assert (enabled.enabled, enabled.disabled_reason) == (True, "")
    assert lab.boot("new2", host="host1").host == "host1"


def test_report_of_a_host_does_not_undo_what_the_operator_said(lab: Lab) -> None:
    lab.api.set_service_enabled(lab.ctxt, "host1", False, "why")
    lab.api.drain_host(lab.ctxt, "host1")
    lab.stop_compute("host1")
    lab.return_host("host1")
    now = service(lab, "host1")
    assert (now.enabled, now.disabled_reason, now.draining) == (False, "why", True)


@pytest.mark.parametrize("host", ["host9", ""])
def test_service_that_does_not_exist_is_refused(lab: Lab, host: str) -> None:
    with pytest.raises(ServiceNotFound, match=f"no such service: minova-compute on {host}"):
        lab.api.set_service_enabled(lab.ctxt, host, False)
    with pytest.raises(ServiceNotFound):
        lab.api.set_service_forced_down(lab.ctxt, host, True)


def test_conductor_that_is_gone_for_good_is_down_if_the_operator_says_so_until_it_is_heard(lab: Lab) -> None:
    gone = lab.conf.service_down_time + 1
    register_conductor(lab, "gone", gone)
    assert service(lab, "gone").state is HostState.UNKNOWN
    down = lab.api.set_service_forced_down(lab.ctxt, "gone", True)
    assert (down.binary, down.state) == ("minova-conductor", HostState.DOWN)
    assert lab.api.set_service_forced_down(lab.ctxt, "gone", False).state is HostState.UNKNOWN
    lab.api.set_service_forced_down(lab.ctxt, "gone", True)
    lab.set("DEFAULT", host="gone")
    lab.cluster.add_conductor()
    assert service(lab, "gone").state is HostState.UP


def test_conductor_that_is_heard_cannot_be_down(lab: Lab) -> None:
    [conductor] = [each for each in lab.api.list_services(lab.ctxt) if each.binary == "minova-conductor"]
    with pytest.raises(ServiceNotFound, match="no such service: minova-compute on"):
        lab.api.set_service_forced_down(lab.ctxt, conductor.host, True)


def test_host_that_is_off_takes_its_conductor_with_it(lab: Lab) -> None:
    register_conductor(lab, "host1", lab.conf.service_down_time + 1)
    lab.silence("host1")
    assert lab.api.set_service_forced_down(lab.ctxt, "host1", True).binary == "minova-compute"
    listed = [each.state for each in lab.api.list_services(lab.ctxt) if each.host == "host1"]
    assert listed == [HostState.DOWN, HostState.DOWN]


# Draining.


def test_drained_host_is_emptied_and_gets_no_more(lab: Lab) -> None:
    lab.boot("running", host="host1")
    lab.boot("paused", host="host1")
    lab.succeed(lab.api.pause_instance(lab.ctxt, "paused"))
    lab.boot("stopped", host="host1")
    lab.succeed(lab.api.stop_instance(lab.ctxt, "stopped"))
    lab.boot("elsewhere", host="host2")
    actions = drain(lab, "host1")
    assert {action.instance_name: action.verb for action in actions} == {
        "running": Verb.LIVE_MIGRATE,
        "paused": Verb.LIVE_MIGRATE,
        "stopped": Verb.MIGRATE,
    }
    assert {action.status for action in actions} == {ActionStatus.SUCCEEDED}
    assert names_on(lab, "host1") == []
    assert names_on(lab, "host2") == ["elsewhere", "paused", "running", "stopped"]
    states = {each.name: each.vm_state for each in lab.api.list_instances(lab.ctxt)}
    assert (states["running"], states["paused"], states["stopped"]) == ("active", "paused", "stopped")
    with pytest.raises(HostUnusable, match="it is being drained"):
        lab.boot("new", host="host1")


def test_undrained_host_gets_instances_again(lab: Lab) -> None:
    drain(lab, "host1")
    assert lab.api.get_host(lab.ctxt, "host1").draining
    assert not lab.api.undrain_host(lab.ctxt, "host1").draining
    assert lab.boot(host="host1").host == "host1"


def test_instance_that_cannot_be_moved_stays_and_gets_a_fault(lab: Lab) -> None:
    lab.boot("broken", host="host1")
    lab.api.reset_instance_state(lab.ctxt, "broken", "error")
    lab.boot("fine", host="host1")
    assert [action.instance_name for action in drain(lab, "host1")] == ["fine"]
    assert (names_on(lab, "host1"), names_on(lab, "host2")) == (["broken"], ["fine"])
    fault = lab.fault("broken")
    assert (fault.code, fault.action_id) == ("NotDrained", None)
    assert fault.message.startswith("it stays on a host that is drained: cannot migrate instance broken: it is error")


def test_nobody_is_moved_when_there_is_no_room_elsewhere(lab: Lab) -> None:
    lab.boot(host="host1")
    lab.api.set_service_enabled(lab.ctxt, "host2", False)
    assert lab.api.drain_host(lab.ctxt, "host1") == []
    assert lab.instance().host == "host1"
    assert "enabled refused 1" in lab.fault().message


def test_instance_that_is_busy_stays_and_gets_a_fault(lab: Lab, gate: Callable[[str], Gate]) -> None:
    lab.boot(host="host1")
    reboot = gate("reboot")
    action = lab.api.reboot_instance(lab.ctxt, "vm", False)
    reboot.wait()
    assert lab.api.drain_host(lab.ctxt, "host1") == []
    assert f"instance vm is busy (rebooting, action {action.id})" in lab.fault().message
    reboot.open()
    lab.succeed(action)
    assert [lab.end_of(each).status for each in lab.api.drain_host(lab.ctxt, "host1")] == [ActionStatus.SUCCEEDED]
    assert lab.instance().host == "host2"


def test_drain_that_comes_twice_is_the_same(lab: Lab, gate: Callable[[str], Gate]) -> None:
    converge(lab)
    for name in ("running", "stopped"):
        lab.boot(name, host="host1")
    lab.succeed(lab.api.stop_instance(lab.ctxt, "stopped"))
    moves = [gate("live_migration"), gate("migrate_disk_and_power_off")]
    first, second = (lab.api.drain_host(lab.ctxt, "host1") for _ in range(2))
    assert len(first) == 2
    assert [each.id for each in second] == [each.id for each in first]
    for move in moves:
        move.open()
    for each in first:
        lab.succeed(each)
    assert [lab.api.list_faults(lab.ctxt, name) for name in ("running", "stopped")] == [[], []]


def test_instance_that_has_left_just_now_does_not_stay(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.boot(host="host1")

    def left(*_args: object) -> None:
        lab.database.write(lambda session: session.execute(update(models.Instance).values(host="host2")))
        raise HostUnusable(host="host2", reason="an accident")

    monkeypatch.setattr(Engine, "submit", left)
    assert lab.api.drain_host(lab.ctxt, "host1") == []
    assert lab.api.list_faults(lab.ctxt, "vm") == []
    lab.database.write(lambda session: session.execute(update(models.Instance).values(host="host1")))


def test_host_that_does_not_exist_is_not_drained(lab: Lab) -> None:
    for request in (lab.api.drain_host, lab.api.undrain_host, lab.api.get_host):
        with pytest.raises(HostNotFound, match="no such host: host9"):
            request(lab.ctxt, "host9")


# Resetting an instance's state.


@pytest.mark.parametrize("state", [VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.ERROR])
def test_state_is_what_the_operator_says(lab: Lab, state: VmState) -> None:
    before = lab.boot()
    reset = lab.api.reset_instance_state(lab.ctxt, "vm", state)
    assert (reset.vm_state, reset.task_state, reset.host) == (state, None, before.host)


@pytest.mark.parametrize("state", ["deleted", "building", "nonsense", "", "ACTIVE"])
def test_state_to_which_nothing_can_be_reset_is_refused(lab: Lab, state: str) -> None:
    before = lab.boot()
    with pytest.raises(InvalidInput, match="choose one of active, paused, stopped, error"):
        lab.api.reset_instance_state(lab.ctxt, "vm", state)
    assert lab.instance() == before


def test_instance_without_a_guest_cannot_be_called_alive(lab: Lab) -> None:
    lab.set("fake", failures=["spawn"])
    lab.fail(lab.api.boot_instance(lab.ctxt, lab.request()))
    with pytest.raises(InvalidInput, match="instance vm has no guest on any host: it cannot be active"):
        lab.api.reset_instance_state(lab.ctxt, "vm", "active")
    assert lab.api.reset_instance_state(lab.ctxt, "vm", "error").vm_state is VmState.ERROR


def test_reset_ends_a_running_action_and_its_late_outcome_changes_nothing(
    lab: Lab, gate: Callable[[str], Gate]
) -> None:
    instance = lab.boot()
    power_off = gate("power_off")
    action = lab.api.stop_instance(lab.ctxt, "vm")
    power_off.wait()
    reset = lab.api.reset_instance_state(lab.ctxt, "vm", "error")
    assert (reset.vm_state, reset.task_state) == (VmState.ERROR, None)
    ended = lab.api.get_action(lab.ctxt, action.id)
    assert (ended.status, ended.error) == (ActionStatus.FAILED, "the operator reset the instance's state")
    power_off.open()
    lab.wait_until_idle(str(instance.host))
    after = lab.instance()
    assert (after.vm_state, after.task_state) == (VmState.ERROR, None)
    assert lab.api.get_action(lab.ctxt, action.id) == ended
    lab.succeed(lab.api.reboot_instance(lab.ctxt, "vm", True))


def test_what_waits_at_its_host_when_the_state_is_reset_is_let_go_of(
    conf: cfg.ConfigOpts, make_lab: Callable[..., Lab], gate: Callable[[str], Gate]
) -> None:
    conf.set_override("max_concurrent_operations", 1, "compute")
    lab = make_lab("host1")
    before, _other = lab.boot(), lab.boot("other")
    power_off = gate("power_off")
    stop = lab.api.stop_instance(lab.ctxt, "other")
    power_off.wait()
    delete, work = lab.api.delete_instance(lab.ctxt, "vm"), lab.cluster.computes["host1"]._work
    wait_until(lambda: work.held_for(before.uuid), "the order at the compute")
    lab.api.reset_instance_state(lab.ctxt, "vm", "active")
    lab.report("host1")
    power_off.open()
    lab.succeed(stop)
    lab.wait_until_idle("host1")
    assert lab.guest("host1", before.uuid) is not None
    assert (lab.instance().vm_state, lab.end_of(delete).status) == (VmState.ACTIVE, ActionStatus.FAILED)


def migrate_slowly(lab: Lab) -> Action:
    """Start a live migration that does not end by itself, and wait until it runs."""
    lab.set("fake", migration_dirty_rate=4000.0, migration_bandwidth=2000.0)
    action = lab.api.live_migrate_instance(lab.ctxt, "vm", None, MigrationOptions())
    wait_until(lambda: lab.migration(action).status is MigrationStatus.RUNNING, "a migration that runs")
    return action


def test_instance_on_its_way_is_not_reset(lab: Lab) -> None:
    lab.boot(host="host1")
    action = migrate_slowly(lab)
    with pytest.raises(InstanceBusy, match=f"migrating, action {action.id}"):
        lab.api.reset_instance_state(lab.ctxt, "vm", "active")
    assert lab.migration(action).status is MigrationStatus.RUNNING
    lab.api.cancel_action(lab.ctxt, action.id)
    assert lab.end_of(action).status is ActionStatus.CANCELLED


def test_instance_whose_guest_is_gone_does_not_stay_what_it_was_reset_to(lab: Lab) -> None:
    before = lab.boot()
    lab.guest_file(str(before.host), before.uuid).unlink()
    lab.report(str(before.host))
    lab.api.reset_instance_state(lab.ctxt, "vm", "active")
    lab.report(str(before.host))
    assert lab.instance().vm_state is VmState.ERROR


def test_unknown_instance_is_not_reset(lab: Lab) -> None:
    with pytest.raises(InstanceNotFound, match="no such instance: vm"):
        lab.api.reset_instance_state(lab.ctxt, "vm", "error")
