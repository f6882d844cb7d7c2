"""The steps of each task, forward and back."""

from datetime import timedelta
from typing import Any

import pytest

from minova.conductor.tasks import TASKS
from minova.conductor.tasks.step import Kind
from minova.db import models
from minova.db.queries import COMPUTE
from minova.exception import HostNotFenced, HostUnusable, InvalidInput, NoGuest
from minova.objects import Fault, utcnow
from minova.states import MigrationStatus, PowerState, Verb, VmState
from tests.unit.conductor.rig import ACCIDENT, INSTANCE, NO_ROOM, REFUSAL, SILENCE, Rig

LIVE_ARGS = {"destination": "host2", "options": {}}

POWER = {
    Verb.START: ("power_on", VmState.STOPPED, VmState.ACTIVE),
    Verb.STOP: ("power_off", VmState.ACTIVE, VmState.STOPPED),
    Verb.REBOOT: ("reboot", VmState.ACTIVE, VmState.ACTIVE),
    Verb.HARD_REBOOT: ("reboot", VmState.ERROR, VmState.ACTIVE),
    Verb.PAUSE: ("pause", VmState.ACTIVE, VmState.PAUSED),
    Verb.UNPAUSE: ("unpause", VmState.PAUSED, VmState.ACTIVE),
}


def turn_off(rig: Rig) -> None:
    """Let host1 be silent, and known to be off."""
    ago = utcnow() - timedelta(seconds=rig.conf.service_down_time + 1)
    rig.change(models.Service, (COMPUTE, "host1"), forced_down=True, last_seen_at=ago)


def begin(rig: Rig, verb: Verb) -> models.Action:
    """Submit an operation that leads from host1 to host2, if it leads anywhere."""
    if verb is Verb.BOOT:
        return rig.boot()
    if verb is Verb.EVACUATE:
        turn_off(rig)
    if verb in (Verb.MIGRATE, Verb.EVACUATE):
        return rig.begin(verb, destination="host2")
    return rig.begin(verb, **(LIVE_ARGS if verb is Verb.LIVE_MIGRATE else {}))


def advance(rig: Rig, action: models.Action, step: str) -> None:
    """Let steps succeed until the action is at one."""
    while not rig.at(action).startswith(f"{step} on "):
        assert " on " in rig.at(action), f"{step} never came"
        rig.succeed(action)


@pytest.mark.parametrize("verb", POWER)
def test_power_operation_is_one_order_to_the_host(rig: Rig, verb: Verb) -> None:
    step, before, after = POWER[verb]
    rig.change(models.Instance, INSTANCE, vm_state=before)
    assert rig.walk(rig.begin(verb)) == [f"{step} on host1", "succeeded"]
    assert (rig.instance.vm_state, rig.instance.task_state) == (after, None)


@pytest.mark.parametrize("verb", POWER)
def test_power_operation_that_fails_leaves_the_state_as_it_was(rig: Rig, verb: Verb) -> None:
    _step, before, _after = POWER[verb]
    rig.change(models.Instance, INSTANCE, vm_state=before)
    action = rig.fail(rig.begin(verb))
    assert (rig.at(action), action.error) == ("failed", REFUSAL.message)
    assert (rig.instance.vm_state, rig.instance.task_state) == (before, None)


FORWARD = {
    Verb.BOOT: ["spawn on host1", "succeeded"],
    Verb.DELETE: ["destroy on host1", "succeeded"],
    Verb.REBUILD: ["check_host on host1", "rebuild on host1", "succeeded"],
    Verb.LIVE_MIGRATE: [
        "check_source on host1",
        "check_destination on host2",
        "prepare_destination on host2",
        "migrate on host1",
        "finish_at_destination on host2",
        "succeeded",
    ],
    Verb.MIGRATE: [
        "check_destination on host2",
        "move_disks on host1",
        "finish_at_destination on host2",
        "succeeded",
    ],
    Verb.EVACUATE: ["rebuild_at_destination on host2", "succeeded"],
}


@pytest.mark.parametrize("verb", FORWARD)
def test_steps_come_in_the_order_in_which_they_are_written(rig: Rig, verb: Verb) -> None:
    assert rig.walk(begin(rig, verb)) == FORWARD[verb]
    place = {Verb.BOOT: "host1", Verb.REBUILD: "host1", Verb.DELETE: None}.get(verb, "host2")
    assert rig.instance.host == place
    assert rig.rooms() == ([place] if place else [])
    assert rig.instance.task_state is None


@pytest.mark.parametrize("verb", [Verb.REBUILD, Verb.MIGRATE])
def test_hosts_that_are_too_old_are_not_asked_whether_they_can_have_a_guest(rig: Rig, verb: Verb) -> None:
    rig.computes.old = True
    assert rig.walk(begin(rig, verb)) == FORWARD[verb][1:]


BACK = {
    (Verb.BOOT, "spawn"): ["destroy on host1", "failed"],
    (Verb.DELETE, "destroy"): ["failed"],
    (Verb.REBUILD, "check_host"): ["failed"],
    (Verb.REBUILD, "rebuild"): ["failed"],
    (Verb.LIVE_MIGRATE, "check_source"): ["failed"],
    (Verb.LIVE_MIGRATE, "check_destination"): ["failed"],
    (Verb.LIVE_MIGRATE, "prepare_destination"): ["rollback_destination on host2", "failed"],
    (Verb.LIVE_MIGRATE, "migrate"): ["rollback_destination on host2", "failed"],
    (Verb.LIVE_MIGRATE, "finish_at_destination"): ["failed"],
    (Verb.MIGRATE, "check_destination"): ["failed"],
    (Verb.MIGRATE, "move_disks"): ["restart_at_source on host1", "failed"],
    (Verb.MIGRATE, "finish_at_destination"): ["failed"],
    (Verb.EVACUATE, "rebuild_at_destination"): ["destroy on host2", "failed"],
}
PAST_PIVOT = {(Verb.LIVE_MIGRATE, "finish_at_destination"), (Verb.MIGRATE, "finish_at_destination")}


@pytest.mark.parametrize(("verb", "step"), BACK, ids="-".join)
def test_undo_goes_back_from_the_step_that_failed(rig: Rig, verb: Verb, step: str) -> None:
    action = begin(rig, verb)
    advance(rig, action, step)
    rig.fail(action)
    assert rig.walk(action) == BACK[verb, step]
    moved = (verb, step) in PAST_PIVOT
    error = verb in (Verb.BOOT, Verb.DELETE) or step == "rebuild" or moved
    assert rig.instance.vm_state is (VmState.ERROR if error else VmState.ACTIVE)
    place = None if verb is Verb.BOOT else "host2" if moved else "host1"
    assert rig.instance.host == place
    assert rig.rooms() == ([place] if place else [])
    if verb in (Verb.LIVE_MIGRATE, Verb.MIGRATE, Verb.EVACUATE):
        assert rig.migration.status is (MigrationStatus.ERROR if moved else MigrationStatus.FAILED)


CANCELLED = {
    (Verb.BOOT, "spawn"): ["destroy on host1", "cancelled"],
    (Verb.LIVE_MIGRATE, "check_source"): ["cancelled"],
    (Verb.LIVE_MIGRATE, "prepare_destination"): ["rollback_destination on host2", "cancelled"],
    (Verb.LIVE_MIGRATE, "migrate"): ["finish_at_destination on host2", "succeeded"],
    (Verb.MIGRATE, "check_destination"): ["cancelled"],
    (Verb.MIGRATE, "move_disks"): ["return_disks on host2", "restart_at_source on host1", "cancelled"],
    (Verb.EVACUATE, "rebuild_at_destination"): ["destroy on host2", "cancelled"],
}


@pytest.mark.parametrize(("verb", "step"), CANCELLED, ids="-".join)
def test_cancel_takes_effect_after_the_step_unless_there_is_no_way_back(rig: Rig, verb: Verb, step: str) -> None:
    action = begin(rig, verb)
    advance(rig, action, step)
    rig.cancel(action)
    rig.succeed(action)
    assert rig.walk(action) == CANCELLED[verb, step]


def test_live_migration_that_was_aborted_is_cancelled(rig: Rig) -> None:
    action = begin(rig, Verb.LIVE_MIGRATE)
    advance(rig, action, "migrate")
    rig.fail(action, Fault(code="MigrationAborted", message="aborted"), cancelled=True)
    assert rig.walk(action) == ["rollback_destination on host2", "cancelled"]
    assert rig.migration.status is MigrationStatus.CANCELLED
    assert rig.faults() == []


def test_guest_that_turns_up_while_it_is_called_back_is_where_it_is(rig: Rig) -> None:
    action = begin(rig, Verb.LIVE_MIGRATE)
    advance(rig, action, "migrate")
    rig.fail(action, SILENCE)
    rig.fail(action, Fault(code="GuestNotFound", message="it is not here"))
    rig.succeed(action, power_state="running")
    assert rig.at(action) == "failed"
    assert (rig.instance.host, rig.rooms(), rig.instance.vm_state) == ("host2", ["host2"], VmState.ERROR)
    assert rig.migration.status is MigrationStatus.ERROR
    with rig.database.read() as session:
        assert session.get_one(models.Action, action.id).error.endswith("; the guest had gone to host host2")


def test_what_is_at_the_destination_is_not_the_guest_if_the_source_has_it(rig: Rig) -> None:
    action = begin(rig, Verb.LIVE_MIGRATE)
    advance(rig, action, "migrate")
    rig.fail(action, REFUSAL)
    rig.succeed(action, power_state="running")
    assert (rig.at(action), rig.instance.host, rig.rooms()) == ("failed", "host1", ["host1"])


LOST = [(Verb.LIVE_MIGRATE, "migrate"), (Verb.MIGRATE, "move_disks")]


@pytest.mark.parametrize(("verb", "step"), LOST, ids="-".join)
@pytest.mark.parametrize("fault", [SILENCE, ACCIDENT], ids=["silence", "accident"])
@pytest.mark.parametrize("cancelled", [False, True])
def test_destination_tells_whether_the_guest_has_arrived_if_the_source_cannot(
    rig: Rig, verb: Verb, step: str, fault: Fault, cancelled: bool
) -> None:
    action = begin(rig, verb)
    advance(rig, action, step)
    if cancelled:
        rig.cancel(action)
    rig.fail(action, fault)
    assert rig.walk(action) == ["finish_at_destination on host2", "succeeded"]
    assert (rig.instance.host, rig.rooms()) == ("host2", ["host2"])
    assert rig.migration.status is MigrationStatus.COMPLETED


@pytest.mark.parametrize(("verb", "step"), LOST, ids="-".join)
def test_all_is_undone_if_the_destination_says_that_the_guest_has_not_arrived(rig: Rig, verb: Verb, step: str) -> None:
    action = begin(rig, verb)
    advance(rig, action, step)
    rig.fail(action, SILENCE)
    rig.fail(action, Fault(code="GuestNotFound", message="it is not here"))
    path = rig.walk(action)
    assert path[-1] == "failed"
    assert not any(each.startswith("return_disks") for each in path)
    assert (rig.instance.host, rig.rooms()) == ("host1", ["host1"])
    with rig.database.read() as session:
        assert session.get_one(models.Action, action.id).error == "nobody answered; it is not here"


def test_next_host_is_tried_if_one_has_no_room_for_a_guest_that_is_to_move(rig: Rig) -> None:
    action = rig.begin(Verb.MIGRATE)
    refusing = rig.at(action).rpartition(" ")[2]
    rig.fail(action, NO_ROOM)
    asked = rig.at(action)
    assert asked.startswith("check_destination on ")
    assert asked.rpartition(" ")[2] not in (refusing, "host1")
    assert rig.walk(action)[-1] == "succeeded"
    assert rig.rooms() == [rig.instance.host]


@pytest.mark.parametrize(("verb", "undo"), [(Verb.BOOT, "destroy"), (Verb.EVACUATE, "destroy")])
def test_next_host_is_tried_if_one_has_no_room(rig: Rig, verb: Verb, undo: str) -> None:
    if verb is Verb.EVACUATE:
        turn_off(rig)
    action = rig.boot() if verb is Verb.BOOT else rig.begin(verb)
    first = rig.at(action)
    refusing = first.rpartition(" ")[2]
    rig.fail(action, NO_ROOM)
    path = rig.walk(action)
    assert path[0] == f"{undo} on {refusing}"
    assert path[1].rpartition(" ")[2] not in (refusing, "host1" if verb is Verb.EVACUATE else None)
    assert path[2:] == ["succeeded"]
    assert rig.rooms() == [rig.instance.host]
    assert rig.instance.host != refusing


def test_room_is_held_on_both_hosts_until_the_end(rig: Rig) -> None:
    action = begin(rig, Verb.LIVE_MIGRATE)
    seen = []
    while " on " in rig.at(action):
        seen.append((rig.instance.host, rig.rooms()))
        rig.succeed(action)
    both = ["host1", "host2"]
    assert seen == [*[("host1", both)] * 4, ("host2", both)]
    assert rig.rooms() == ["host2"]


def test_progress_of_a_completed_migration_is_complete(rig: Rig) -> None:
    action = begin(rig, Verb.LIVE_MIGRATE)
    advance(rig, action, "migrate")
    rig.succeed(action, progress={"total_bytes": 100, "done_bytes": 90, "remaining_bytes": 10, "iteration": 3})
    rig.walk(action)
    assert rig.migration.progress == {"total_bytes": 100, "done_bytes": 100, "remaining_bytes": 0, "iteration": 3}


@pytest.mark.parametrize(
    ("power_state", "vm_state"), [(PowerState.RUNNING, VmState.ACTIVE), (PowerState.SHUTDOWN, VmState.STOPPED)]
)
def test_state_after_a_move_is_the_guests(rig: Rig, power_state: PowerState, vm_state: VmState) -> None:
    rig.change(models.Instance, INSTANCE, power_state=power_state)
    rig.walk(begin(rig, Verb.MIGRATE))
    assert rig.instance.vm_state is vm_state


def test_delete_on_a_fenced_host_sends_nothing(rig: Rig) -> None:
    rig.change(models.Service, (COMPUTE, "host1"), forced_down=True)
    assert rig.at(begin(rig, Verb.DELETE)) == "succeeded"
    assert (rig.instance.vm_state, rig.instance.host, rig.rooms()) == (VmState.DELETED, None, [])


REFUSED: dict[str, tuple[Verb, dict[str, Any], dict[str, Any], type[Exception]]] = {
    "no guest": (Verb.HARD_REBOOT, {"host": None}, {}, NoGuest),
    "no guest to evacuate": (Verb.EVACUATE, {"host": None}, {}, NoGuest),
    "same host": (Verb.MIGRATE, {}, {"destination": "host1"}, InvalidInput),
    "not fenced": (Verb.EVACUATE, {}, {}, HostNotFenced),
}


@pytest.mark.parametrize("case", REFUSED)
def test_senseless_operation_is_refused(rig: Rig, case: str) -> None:
    verb, values, args, kind = REFUSED[case]
    rig.change(models.Instance, INSTANCE, **values)
    with pytest.raises(kind):
        rig.begin(verb, **args)
    assert rig.instance.task_state is None


@pytest.mark.parametrize("verb", sorted(set(Verb) - {Verb.BOOT, Verb.EVACUATE, Verb.HARD_REBOOT}))
def test_operation_on_a_silent_host_is_refused(rig: Rig, verb: Verb) -> None:
    before = {Verb.START: VmState.STOPPED, Verb.UNPAUSE: VmState.PAUSED}.get(verb, VmState.ACTIVE)
    rig.change(models.Instance, INSTANCE, vm_state=before)
    rig.change(models.Service, (COMPUTE, "host1"), last_seen_at=rig.instance.created_at.replace(year=2000))
    with pytest.raises(HostUnusable, match="it was not heard from"):
        begin(rig, verb)


@pytest.mark.parametrize("verb", Verb)
def test_every_order_has_somebody_to_go_to_and_a_name_of_its_own(verb: Verb) -> None:
    steps = [each for step in TASKS[verb].steps for each in (step, step.undone_by) if each is not None]
    assert len({step.name for step in steps}) == len(steps)
    assert all((step.at is None) == (step.kind is Kind.TRANSACTION) for step in steps)
