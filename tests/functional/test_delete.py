"""Delete: the guest is gone for good, even where its host cannot be asked."""

from collections.abc import Callable

import pytest

from minova.exception import HostUnusable, InstanceBusy, InstanceNotFound, NotCancellable
from minova.objects import Instance
from minova.states import PowerState, TaskState, VmState
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab, wait_until


def delete(lab: Lab, reference: str = "vm") -> None:
    lab.succeed(lab.api.delete_instance(lab.ctxt, reference))


def assert_gone(lab: Lab, before: Instance) -> None:
    with pytest.raises(InstanceNotFound):
        lab.instance(before.name)
    after = lab.instance(before.uuid)
    assert (after.vm_state, after.task_state, after.host) == (VmState.DELETED, None, None)
    assert after.power_state is PowerState.NOSTATE
    assert [host.vcpus_used for host in lab.api.list_hosts(lab.ctxt)] == [0, 0]


@pytest.mark.parametrize("state", [VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.ERROR])
def test_instance_in_any_state_is_deleted(lab: Lab, state: VmState) -> None:
    before = lab.boot()
    if state is VmState.STOPPED:
        lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    elif state is VmState.PAUSED:
        lab.succeed(lab.api.pause_instance(lab.ctxt, "vm"))
    elif state is VmState.ERROR:
        lab.api.reset_instance_state(lab.ctxt, "vm", state)
    assert lab.instance().vm_state is state
    delete(lab)
    assert_gone(lab, before)
    assert lab.guest(str(before.host), before.uuid) is None


def test_deleted_instance_is_listed_only_when_asked_for(lab: Lab) -> None:
    uuid = lab.boot().uuid
    delete(lab)
    assert lab.api.list_instances(lab.ctxt) == []
    assert [instance.uuid for instance in lab.api.list_instances(lab.ctxt, deleted=True)] == [uuid]


def test_deleted_instance_keeps_its_history_and_takes_no_more_orders(lab: Lab) -> None:
    uuid = lab.boot().uuid
    delete(lab)
    assert [action.verb for action in lab.api.list_actions(lab.ctxt, uuid)] == ["delete", "boot"]
    for reference in ("vm", uuid):
        with pytest.raises(InstanceNotFound):
            lab.api.delete_instance(lab.ctxt, reference)


def test_name_of_a_deleted_instance_is_free(lab: Lab) -> None:
    first = lab.boot()
    delete(lab)
    assert lab.boot().uuid != first.uuid


def test_instance_that_never_got_a_host_is_deleted(lab: Lab) -> None:
    lab.set("fake", failures=["spawn"])
    lab.fail(lab.api.boot_instance(lab.ctxt, lab.request()))
    before = lab.instance()
    delete(lab)
    assert_gone(lab, before)


def test_guest_that_is_gone_already_is_no_hindrance(lab: Lab) -> None:
    before = lab.boot()
    lab.guest_file(str(before.host), before.uuid).unlink()
    delete(lab)
    assert_gone(lab, before)


def test_failed_delete_puts_the_instance_in_error_and_can_be_repeated(lab: Lab) -> None:
    before = lab.boot()
    lab.set("fake", failures=["destroy"])
    action = lab.fail(lab.api.delete_instance(lab.ctxt, "vm"))
    failed = lab.instance()
    assert (failed.vm_state, failed.task_state, failed.host) == (VmState.ERROR, None, before.host)
    fault = lab.fault()
    assert (fault.code, fault.action_id) == ("OperationRefused", action.id)
    assert lab.guest(str(before.host), before.uuid) is not None
    lab.set("fake", failures=[])
    delete(lab)
    assert_gone(lab, before)


def test_delete_keeps_others_out_and_cannot_be_cancelled(lab: Lab, gate: Callable[[str], Gate]) -> None:
    lab.boot()
    destroy = gate("destroy")
    action = lab.api.delete_instance(lab.ctxt, "vm")
    destroy.wait()
    assert lab.instance().task_state is TaskState.DELETING
    with pytest.raises(InstanceBusy):
        lab.api.delete_instance(lab.ctxt, "vm")
    with pytest.raises(NotCancellable, match="cannot be cancelled half-way"):
        lab.api.cancel_action(lab.ctxt, action.id)
    destroy.open()
    lab.succeed(action)


def test_host_that_is_silent_is_waited_for_not_guessed_about(lab: Lab) -> None:
    before = lab.boot()
    lab.silence(str(before.host))
    with pytest.raises(HostUnusable, match="not heard from"):
        lab.api.delete_instance(lab.ctxt, "vm")
    assert lab.instance() == before


def test_guest_of_a_fenced_host_is_destroyed_when_the_host_is_back(lab: Lab) -> None:
    before = lab.boot()
    host = str(before.host)
    lab.silence(host)
    lab.api.set_service_forced_down(lab.ctxt, host, True)
    lab.dead_hosts.add(host)
    delete(lab)
    assert_gone(lab, before)
    assert lab.guest(host, before.uuid) is not None
    lab.return_host(host)
    assert lab.guest(host, before.uuid) is None
    lab.api.set_service_forced_down(lab.ctxt, host, False)


def test_host_that_is_fenced_while_it_destroys_ends_the_delete(lab: Lab, gate: Callable[[str], Gate]) -> None:
    before = lab.boot()
    host = str(before.host)
    destroy = gate("destroy")
    action = lab.api.delete_instance(lab.ctxt, "vm")
    destroy.wait()
    lab.api.set_service_forced_down(lab.ctxt, host, True)
    destroy.open()
    lab.succeed(action)
    assert_gone(lab, before)
    wait_until(lambda: lab.guest(host, before.uuid) is None, "the end of the guest")
