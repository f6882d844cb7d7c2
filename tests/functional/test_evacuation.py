"""Evacuation: guests of a host that is off, and known to be, are made anew elsewhere."""

from collections.abc import Callable

import pytest

from minova.exception import (
    HostAlive,
    HostEvacuating,
    HostNotFenced,
    HostNotFound,
    HostUnusable,
    InvalidInput,
    MinovaError,
    NoValidHost,
)
from minova.objects import Action
from minova.states import ActionStatus, MigrationStatus, MigrationType, PowerState, TaskState, VmState
from tests.fixtures.crashes import crash_compute, let_silence_grow
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab, wait_until
from tests.fixtures.moves import hosts_of, refused, rooms


def evacuate(lab: Lab, to: str | None = None) -> Action:
    return lab.api.evacuate_instance(lab.ctxt, "vm", to)


def fence(lab: Lab, fenced: bool = True) -> None:
    lab.api.set_service_forced_down(lab.ctxt, "host1", fenced)


def kill_and_fence(lab: Lab) -> None:
    lab.kill_host("host1")
    fence(lab)


def boot_and_lose(lab: Lab) -> str:
    """Boot an instance on host1, turn host1 off, and return the instance's UUID."""
    uuid = lab.boot(host="host1").uuid
    kill_and_fence(lab)
    return uuid


def test_guest_is_made_anew_on_another_host(lab: Lab) -> None:
    uuid = boot_and_lose(lab)
    action = lab.succeed(evacuate(lab))
    after = lab.instance()
    assert (after.host, after.vm_state, after.power_state) == ("host2", VmState.ACTIVE, PowerState.RUNNING)
    assert lab.guest("host2", uuid) is not None
    assert rooms(lab) == {"host1": [], "host2": ["vm"]}
    migration = lab.migration(action)
    assert (migration.migration_type, migration.status) == (MigrationType.EVACUATION, MigrationStatus.COMPLETED)
    assert (migration.source_host, migration.dest_host) == ("host1", "host2")


def test_guest_is_made_on_the_host_that_was_asked_for(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("host1", "host2", "host3")
    boot_and_lose(lab)
    lab.succeed(evacuate(lab, "host3"))
    assert lab.instance().host == "host3"


@pytest.mark.parametrize(
    ("state", "after"),
    [
        (VmState.STOPPED, (VmState.STOPPED, PowerState.SHUTDOWN)),
        (VmState.PAUSED, (VmState.ACTIVE, PowerState.RUNNING)),
        (VmState.ERROR, (VmState.ACTIVE, PowerState.RUNNING)),
    ],
)
def test_stopped_guest_stays_stopped_and_any_other_runs(
    lab: Lab, state: VmState, after: tuple[VmState, PowerState]
) -> None:
    lab.boot(host="host1")
    if state is VmState.STOPPED:
        lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    else:
        lab.api.reset_instance_state(lab.ctxt, "vm", state)
    kill_and_fence(lab)
    lab.succeed(evacuate(lab))
    instance = lab.instance()
    assert (instance.vm_state, instance.power_state) == after
    assert instance.host == "host2"


def test_another_host_is_tried_if_one_refuses(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("host1", "host2", "host3")
    lab.boot("other", host="host3")
    boot_and_lose(lab)
    lab.set("fake", failures=["host2:spawn"])
    action = lab.succeed(evacuate(lab))
    assert lab.instance().host == "host3"
    assert lab.migration(action).dest_host == "host3"
    assert rooms(lab) == {"host1": [], "host2": [], "host3": ["other", "vm"]}


def test_instance_stays_as_it_was_if_all_hosts_refuse(lab: Lab) -> None:
    uuid = boot_and_lose(lab)
    lab.set("fake", failures=["spawn"])
    failed = lab.fail(evacuate(lab))
    assert "another host refused 2" in failed.error
    assert lab.migration(failed).status is MigrationStatus.FAILED
    instance = lab.instance()
    assert (instance.host, instance.vm_state, instance.task_state) == ("host1", VmState.ACTIVE, None)
    assert rooms(lab) == {"host1": ["vm"], "host2": []}
    assert hosts_of(lab, uuid) == ["host1"]


def test_cancelled_evacuation_leaves_no_copy(lab: Lab, gate: Callable[[str], Gate]) -> None:
    uuid = boot_and_lose(lab)
    spawn = gate("spawn")
    action = evacuate(lab)
    spawn.wait()
    assert lab.instance().task_state is TaskState.EVACUATING
    lab.api.cancel_action(lab.ctxt, action.id)
    spawn.open()
    assert lab.end_of(action).status is ActionStatus.CANCELLED
    assert lab.migration(action).status is MigrationStatus.CANCELLED
    assert lab.instance().host == "host1"
    assert hosts_of(lab, uuid) == ["host1"]


# The host that was off comes back.


def test_returned_host_destroys_its_copy_before_it_does_anything_else(lab: Lab, gate: Callable[[str], Gate]) -> None:
    uuid = boot_and_lose(lab)
    lab.succeed(evacuate(lab))
    fence(lab, False)
    destroy, spawn = gate("destroy"), gate("spawn")
    lab.dead_hosts.discard("host1")
    lab.cluster.add_compute("host1", wait=False)
    destroy.wait()
    assert lab.guest("host1", uuid) is not None
    boot = lab.api.boot_instance(lab.ctxt, lab.request("new", host="host1"))
    wait_until(lambda: lab.activity("host1").tasks, "the order for the returned host")
    assert not spawn.was_reached()
    destroy.open()
    spawn.wait()
    assert lab.guest("host1", uuid) is None
    spawn.open()
    lab.succeed(boot)
    assert hosts_of(lab, uuid) == ["host2"]


def test_order_that_has_waited_for_the_returned_host_does_not_keep_its_copy_from_being_destroyed(
    lab: Lab, gate: Callable[[str], Gate]
) -> None:
    """It is not given up by its age yet, but what it was for lives elsewhere."""
    uuid = lab.boot(host="host1").uuid
    lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    crash_compute(lab, "host1")
    start = lab.api.start_instance(lab.ctxt, "vm")
    let_silence_grow(lab, "host1")
    fence(lab)
    lab.fail(start)
    lab.succeed(evacuate(lab))
    lab.succeed(lab.api.start_instance(lab.ctxt, "vm"))
    fence(lab, False)
    power_on = gate("power_on")
    lab.return_host("host1")
    assert hosts_of(lab, uuid) == ["host2"]
    lab.boot("new", host="host1")
    assert not power_on.was_reached()


def test_returned_host_that_is_still_fenced_destroys_its_copy_and_refuses_work(lab: Lab) -> None:
    uuid = boot_and_lose(lab)
    lab.succeed(evacuate(lab))
    lab.return_host("host1")
    assert hosts_of(lab, uuid) == ["host2"]
    with pytest.raises(HostUnusable):
        lab.boot("new", host="host1")


def test_copy_that_the_returned_host_cannot_destroy_yet_is_destroyed_later(lab: Lab) -> None:
    uuid = boot_and_lose(lab)
    lab.succeed(evacuate(lab))
    fence(lab, False)
    lab.set("fake", failures=["host1:destroy"])
    lab.return_host("host1")
    assert hosts_of(lab, uuid) == ["host1", "host2"]
    lab.boot("new", host="host1")
    lab.set("fake", failures=[])
    lab.report("host1")
    assert hosts_of(lab, uuid) == ["host2"]


def test_copy_is_not_destroyed_before_the_evacuation_has_ended(lab: Lab, gate: Callable[[str], Gate]) -> None:
    """Until then it may be undone, and the copy the only one."""
    uuid = boot_and_lose(lab)
    spawn = gate("spawn")
    action = evacuate(lab)
    spawn.wait()
    lab.return_host("host1")
    lab.report("host1")
    assert hosts_of(lab, uuid) == ["host1"]
    spawn.open()
    lab.succeed(action)
    lab.report("host1")
    assert hosts_of(lab, uuid) == ["host2"]


def test_returned_host_keeps_guests_whose_evacuation_failed(lab: Lab) -> None:
    uuid = boot_and_lose(lab)
    lab.set("fake", failures=["spawn"])
    lab.fail(evacuate(lab))
    lab.set("fake", failures=[])
    fence(lab, False)
    lab.return_host("host1")
    lab.report("host1")
    assert hosts_of(lab, uuid) == ["host1"]
    assert lab.instance().vm_state is VmState.ACTIVE
    lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))


def test_instance_can_move_back_to_the_host_that_it_was_evacuated_from(lab: Lab) -> None:
    uuid = boot_and_lose(lab)
    lab.succeed(evacuate(lab))
    fence(lab, False)
    lab.return_host("host1")
    lab.succeed(lab.api.migrate_instance(lab.ctxt, "vm", "host1"))
    lab.report("host1")
    lab.report("host2")
    assert hosts_of(lab, uuid) == ["host1"]
    assert lab.instance().vm_state is VmState.ACTIVE


# Refused.


def test_silence_is_no_reason_to_evacuate(lab: Lab) -> None:
    lab.boot(host="host1")
    lab.silence("host1")
    with refused(lab, HostNotFenced, "host host1 is not fenced: make sure that it is off"):
        evacuate(lab)


def test_guests_of_a_host_that_is_up_are_not_evacuated(lab: Lab) -> None:
    lab.boot(host="host1")
    with refused(lab, HostNotFenced, "service force-down host1"):
        evacuate(lab)


def test_host_that_is_heard_is_not_evacuated_whatever_was_said_of_it(lab: Lab) -> None:
    """Its guests still run: there would be two of each."""
    lab.boot(host="host1")
    lab.api.set_service_forced_down(lab.ctxt, "host1", True)
    with refused(lab, HostAlive, "so its guests may still run"):
        evacuate(lab)


def test_host_cannot_come_back_while_it_is_evacuated(lab: Lab, gate: Callable[[str], Gate]) -> None:
    boot_and_lose(lab)
    spawn = gate("spawn")
    action = evacuate(lab)
    spawn.wait()
    with pytest.raises(HostEvacuating, match=action.id):
        lab.api.set_service_forced_down(lab.ctxt, "host1", False)
    spawn.open()
    lab.succeed(action)
    assert not lab.api.set_service_forced_down(lab.ctxt, "host1", False).forced_down


@pytest.mark.parametrize(
    ("before", "to", "kind", "words"),
    [
        (lambda lab: None, "host1", InvalidInput, "is on host host1 already"),
        (lambda lab: None, "host9", HostNotFound, "no such host: host9"),
        (lambda lab: lab.silence("host2"), "host2", HostUnusable, "it is down, or was not heard from"),
        (lambda lab: lab.silence("host2"), None, NoValidHost, "up refused 1"),
    ],
    ids=["same host", "no such host", "destination silent", "no host"],
)
def test_evacuation_is_refused(
    lab: Lab, before: Callable[[Lab], object], to: str | None, kind: type[MinovaError], words: str
) -> None:
    boot_and_lose(lab)
    before(lab)
    with refused(lab, kind, words):
        evacuate(lab, to)
    assert lab.api.list_migrations(lab.ctxt, "vm") == []
