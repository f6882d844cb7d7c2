"""Rebuild: a guest is made anew where it is."""

from collections.abc import Callable

import pytest

from minova.exception import HostUnusable, InvalidState, NotCancellable
from minova.states import PowerState, TaskState, VmState
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab


def test_guest_is_thrown_away_and_made_anew(lab: Lab, gate: Callable[[str], Gate]) -> None:
    before = lab.boot()
    spawn = gate("spawn")
    action = lab.api.rebuild_instance(lab.ctxt, "vm")
    spawn.wait()
    assert lab.guest(str(before.host), before.uuid) is None
    assert lab.instance().task_state is TaskState.REBUILDING
    spawn.open()
    lab.succeed(action)
    after = lab.instance()
    assert (after.uuid, after.host, after.vm_state) == (before.uuid, before.host, VmState.ACTIVE)
    assert after.power_state is PowerState.RUNNING
    assert lab.guest(str(before.host), before.uuid) is not None


def test_stopped_instance_stays_stopped(lab: Lab) -> None:
    lab.boot()
    lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    lab.succeed(lab.api.rebuild_instance(lab.ctxt, "vm"))
    after = lab.instance()
    assert (after.vm_state, after.power_state) == (VmState.STOPPED, PowerState.SHUTDOWN)


def test_instance_whose_guest_vanished_runs_again(lab: Lab) -> None:
    before = lab.boot()
    lab.guest_file(str(before.host), before.uuid).unlink()
    lab.report(str(before.host))
    assert lab.instance().vm_state is VmState.ERROR
    lab.succeed(lab.api.rebuild_instance(lab.ctxt, "vm"))
    assert lab.instance().vm_state is VmState.ACTIVE


def test_paused_instance_is_refused(lab: Lab) -> None:
    lab.boot()
    lab.succeed(lab.api.pause_instance(lab.ctxt, "vm"))
    with pytest.raises(InvalidState, match="it is paused"):
        lab.api.rebuild_instance(lab.ctxt, "vm")
    assert lab.instance().vm_state is VmState.PAUSED


def test_host_that_is_not_up_is_refused(lab: Lab) -> None:
    before = lab.boot()
    lab.silence(str(before.host))
    with pytest.raises(HostUnusable):
        lab.api.rebuild_instance(lab.ctxt, "vm")
    assert lab.instance() == before


def test_failure_before_anything_was_thrown_away_is_an_error_too(lab: Lab) -> None:
    before = lab.boot()
    lab.set("fake", failures=["destroy"])
    lab.fail(lab.api.rebuild_instance(lab.ctxt, "vm"))
    after = lab.instance()
    assert (after.vm_state, after.host, after.task_state) == (VmState.ERROR, before.host, None)
    assert lab.fault().message == f"destroy on host {before.host}: injected failure"


def test_guest_whose_image_cannot_be_had_any_more_is_not_thrown_away(lab: Lab) -> None:
    before = lab.boot()
    lab.set("fake", failures=["check_can_spawn"])
    lab.fail(lab.api.rebuild_instance(lab.ctxt, "vm"))
    assert lab.fault().message == f"check_can_spawn on host {before.host}: injected failure"
    assert lab.guest(str(before.host), before.uuid) is not None
    after = lab.instance()
    assert (after.vm_state, after.power_state, after.task_state) == (VmState.ACTIVE, PowerState.RUNNING, None)


def test_failed_rebuild_can_be_repeated(lab: Lab) -> None:
    before = lab.boot()
    lab.set("fake", failures=["spawn"])
    action = lab.fail(lab.api.rebuild_instance(lab.ctxt, "vm"))
    assert action.error.endswith("; its disks may be gone: rebuild it once more, or delete it")
    failed = lab.instance()
    assert (failed.vm_state, failed.host, failed.task_state) == (VmState.ERROR, before.host, None)
    assert (lab.fault().code, lab.fault().action_id) == ("InsufficientResources", action.id)
    assert lab.api.get_host(lab.ctxt, str(before.host)).vcpus_used == 1
    lab.set("fake", failures=[])
    lab.succeed(lab.api.rebuild_instance(lab.ctxt, "vm"))
    assert lab.instance().vm_state is VmState.ACTIVE


def test_rebuild_cannot_be_cancelled(lab: Lab, gate: Callable[[str], Gate]) -> None:
    lab.boot()
    spawn = gate("spawn")
    action = lab.api.rebuild_instance(lab.ctxt, "vm")
    spawn.wait()
    with pytest.raises(NotCancellable, match="cannot be cancelled half-way"):
        lab.api.cancel_action(lab.ctxt, action.id)
    spawn.open()
    lab.succeed(action)
