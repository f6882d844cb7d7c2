"""Moves of which nobody could tell how they ended: nothing makes a second guest before the first one is found."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from minova.exception import HostAlive, HostEvacuating
from minova.exception_moves import PlaceUnclear
from minova.objects import Action
from minova.states import ActionStatus, MigrationStatus, PowerState, VmState
from tests.fixtures.crashes import crash_compute, let_patience_run_out, let_silence_grow
from tests.fixtures.doubts import arrive, fence, give_up, hear, lose_live_migration
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab, wait_until
from tests.fixtures.moves import converge, hosts_of, live_migrate, refused, rooms, start_endless

pytestmark = pytest.mark.every_database


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """A conductor and three computes; an instance on host1."""
    lab = make_lab("host1", "host2", "host3")
    lab.boot(host="host1")
    return lab


@pytest.fixture(params=["live", "cold"])
def doubtful(request: pytest.FixtureRequest, lab: Lab, gate: Callable[[str], Gate]) -> Action:
    """A move from host1 to host2 of which neither could tell how it ended; the guest is still on host1."""
    if request.param == "live":
        action = lose_live_migration(lab)
    else:
        move = gate("migrate_disk_and_power_off")
        action = lab.api.migrate_instance(lab.ctxt, "vm", "host2")
        move.wait()
        crash_compute(lab, "host1")
        crash_compute(lab, "host2")
        move.open()
        give_up(lab, action)
    assert lab.migration(action).unclear_hosts == ("host1", "host2")
    return action


def rebuild(lab: Lab) -> Action:
    return lab.api.rebuild_instance(lab.ctxt, "vm")


def evacuate(lab: Lab) -> Action:
    return lab.api.evacuate_instance(lab.ctxt, "vm", "host3")


def place(lab: Lab) -> tuple[str | None, VmState]:
    return lab.instance().host, lab.instance().vm_state


# Refused, until it is known.

REFUSED: dict[str, Callable[[Lab], Any]] = {
    "rebuild": rebuild,
    "evacuate": evacuate,
    "hard-reboot": lambda lab: lab.api.reboot_instance(lab.ctxt, "vm", True),
    "start": lambda lab: lab.api.start_instance(lab.ctxt, "vm"),
    "unpause": lambda lab: lab.api.unpause_instance(lab.ctxt, "vm"),
    "live-migrate": lambda lab: live_migrate(lab, "host3"),
    "migrate": lambda lab: lab.api.migrate_instance(lab.ctxt, "vm", "host3"),
}
STATES = {
    "start": VmState.STOPPED,
    "unpause": VmState.PAUSED,
    "live-migrate": VmState.ACTIVE,
    "migrate": VmState.ACTIVE,
}


def test_what_might_make_a_second_guest_is_refused_whatever_state_an_operator_sets(lab: Lab, doubtful: Action) -> None:
    for verb, ask in REFUSED.items():
        lab.api.reset_instance_state(lab.ctxt, "vm", STATES.get(verb, VmState.ERROR))
        with refused(
            lab, PlaceUnclear, f"cannot {verb} instance vm: its last move (action {doubtful.id}) ended in doubt"
        ):
            ask(lab)


def test_doubt_is_told_before_what_the_state_does_not_allow(lab: Lab, doubtful: Action) -> None:
    assert lab.instance().vm_state is VmState.ERROR
    for verb, ask in REFUSED.items():
        with refused(lab, PlaceUnclear, f"cannot {verb} instance vm: its last move"):
            ask(lab)


def test_refusal_and_fault_say_which_hosts_have_to_be_heard(lab: Lab, doubtful: Action) -> None:
    let_silence_grow(lab, "host1")
    let_silence_grow(lab, "host2")
    with refused(lab, PlaceUnclear, "host1, host2 have not said yet whether they have the guest: wait for their next"):
        rebuild(lab)
    lab.return_host("host2")
    with refused(lab, PlaceUnclear, "host1 has not said yet whether it has the guest: wait for its next reports"):
        rebuild(lab)
    fault = next(each for each in lab.api.list_faults(lab.ctxt, "vm") if each.code == "PlaceUnclear")
    assert fault.message.endswith("these hosts have to be heard: host1, host2")
    assert fault.action_id == doubtful.id


def test_host_that_is_forced_down_and_was_just_heard_is_no_host_that_is_off(lab: Lab, doubtful: Action) -> None:
    for host in ("host1", "host2"):
        lab.api.set_service_forced_down(lab.ctxt, host, True)
    with refused(lab, HostAlive, "so its guests may still run"):
        evacuate(lab)


def test_instance_can_be_deleted_and_what_is_left_of_it_goes_when_its_host_is_back(lab: Lab, doubtful: Action) -> None:
    arrive(lab, doubtful)
    lab.return_host("host1")
    lab.succeed(lab.api.delete_instance(lab.ctxt, "vm"))
    lab.return_host("host2")
    lab.report("host2")
    assert hosts_of(lab, doubtful.instance_uuid) == []
    assert lab.migration(doubtful).unclear_hosts == ()


# The hosts come back.


def test_guest_that_stayed_is_found_though_its_destination_never_comes_back(lab: Lab, doubtful: Action) -> None:
    lab.return_host("host1")
    hear(lab, doubtful)
    assert place(lab) == ("host1", VmState.ACTIVE)
    lab.succeed(rebuild(lab))
    assert hosts_of(lab, doubtful.instance_uuid) == ["host1"]


def test_guest_that_arrived_is_found_there(lab: Lab, doubtful: Action) -> None:
    arrive(lab, doubtful)
    lab.return_host("host1")
    hear(lab, doubtful, "host2")
    with refused(lab, PlaceUnclear, "host2 has not said yet whether it has the guest"):
        rebuild(lab)
    lab.return_host("host2")
    hear(lab, doubtful)
    assert place(lab) == ("host2", VmState.ACTIVE)
    assert rooms(lab) == {"host1": [], "host2": ["vm"], "host3": []}
    lab.succeed(rebuild(lab))
    assert hosts_of(lab, doubtful.instance_uuid) == ["host2"]


def test_destination_that_has_it_not_says_nothing_as_long_as_it_may_still_come(lab: Lab, doubtful: Action) -> None:
    lab.return_host("host2")
    lab.report("host2")
    assert lab.migration(doubtful).unclear_hosts == ("host1", "host2")
    arrive(lab, doubtful)
    lab.return_host("host1")
    hear(lab, doubtful)
    assert place(lab) == ("host2", VmState.ACTIVE)


def test_source_that_is_still_moving_it_is_told_to_stop_before_anything_else(lab: Lab) -> None:
    action = start_endless(lab, "host2")
    crash_compute(lab, "host1")
    give_up(lab, action)
    assert lab.migration(action).status is MigrationStatus.FAILED, "the destination said that it has not arrived"
    lab.set("fake", failures=["live_migration_abort"])
    lab.return_host("host1")
    lab.report("host1")
    with refused(lab, PlaceUnclear, "host1, host2 have not said yet"):
        rebuild(lab)
    lab.set("fake", failures=[])
    hear(lab, action)
    converge(lab)
    lab.succeed(live_migrate(lab, "host3"))
    assert hosts_of(lab, action.instance_uuid) == ["host3"]


@pytest.mark.parametrize("doubtful", ["live"], indirect=True)
def test_guest_that_was_shut_down_and_not_moved_is_believed_once_the_destination_says_so(
    lab: Lab, doubtful: Action
) -> None:
    """The source may have kept a remainder of it."""
    file = lab.guest_file("host1", doubtful.instance_uuid)
    file.write_text(json.dumps({**json.loads(file.read_text()), "power_state": "shutdown", "migration": None}))
    lab.return_host("host1")
    hear(lab, doubtful, "host2")
    assert place(lab) == ("host1", VmState.STOPPED)
    with refused(lab, PlaceUnclear, "host2 has not said yet"):
        lab.api.start_instance(lab.ctxt, "vm")
    lab.return_host("host2")
    hear(lab, doubtful)
    lab.succeed(lab.api.start_instance(lab.ctxt, "vm"))
    assert hosts_of(lab, doubtful.instance_uuid) == ["host1"]


# One of them is off for good.


def test_guest_that_arrived_lives_there_once_its_source_is_fenced(lab: Lab, doubtful: Action) -> None:
    arrive(lab, doubtful)
    fence(lab, "host1")
    with refused(lab, PlaceUnclear, "host2 has not said yet"):
        evacuate(lab)
    lab.return_host("host2")
    hear(lab, doubtful)
    assert place(lab) == ("host2", VmState.ACTIVE)
    assert rooms(lab) == {"host1": [], "host2": ["vm"], "host3": []}
    fence(lab, "host1", False)
    lab.return_host("host1")
    lab.report("host1")
    assert hosts_of(lab, doubtful.instance_uuid) == ["host2"]


def test_remainder_at_a_source_that_was_fenced_is_destroyed_on_its_return(lab: Lab, doubtful: Action) -> None:
    there = lab.guest_file("host1", doubtful.instance_uuid)
    copy = json.dumps({**json.loads(there.read_text()), "migration": None})
    lab.guest_file("host2", doubtful.instance_uuid).write_text(copy)
    fence(lab, "host1")
    lab.return_host("host2")
    hear(lab, doubtful)
    assert place(lab) == ("host2", VmState.ACTIVE)
    fence(lab, "host1", False)
    lab.return_host("host1")
    lab.report("host1")
    assert hosts_of(lab, doubtful.instance_uuid) == ["host2"]


def test_guest_that_stayed_on_a_fenced_source_is_evacuated_once_the_destination_is_heard(
    lab: Lab, doubtful: Action
) -> None:
    fence(lab, "host1")
    lab.return_host("host2")
    hear(lab, doubtful)
    assert lab.instance().host == "host1"
    lab.succeed(evacuate(lab))
    lab.return_host("host1")
    lab.report("host1")
    assert hosts_of(lab, doubtful.instance_uuid) == ["host3"]


@pytest.mark.parametrize("before", ["it is rebuilt", "nothing", "it is reset"])
def test_guest_that_arrived_on_a_fenced_host_counts_unless_another_was_made(
    lab: Lab, doubtful: Action, before: str
) -> None:
    arrive(lab, doubtful)
    fence(lab, "host2")
    lab.return_host("host1")
    hear(lab, doubtful)
    assert (lab.instance().host, lab.instance().power_state) == ("host1", PowerState.NOSTATE)
    if before == "it is rebuilt":
        lab.succeed(rebuild(lab))
    elif before == "it is reset":
        lab.api.reset_instance_state(lab.ctxt, "vm", VmState.ACTIVE)
    fence(lab, "host2", False)
    lab.return_host("host2")
    lab.report("host2")
    counts = "host1" if before == "it is rebuilt" else "host2"
    assert hosts_of(lab, doubtful.instance_uuid) == [counts]
    assert place(lab) == (counts, VmState.ACTIVE)


def test_instance_whose_hosts_are_both_fenced_is_evacuated_and_neither_copy_survives(
    lab: Lab, doubtful: Action
) -> None:
    arrive(lab, doubtful)
    fence(lab, "host1")
    fence(lab, "host2")
    lab.succeed(evacuate(lab))
    assert lab.migration(doubtful).unclear_hosts == ()
    for host in ("host1", "host2"):
        lab.return_host(host)
        lab.report(host)
    assert hosts_of(lab, doubtful.instance_uuid) == ["host3"]


@pytest.mark.parametrize("heard", [False, True])
def test_host_that_may_have_the_guest_stays_fenced_while_that_is_made_anew(
    lab: Lab, doubtful: Action, gate: Callable[[str], Gate], heard: bool
) -> None:
    arrive(lab, doubtful)
    fence(lab, "host2")
    if heard:
        lab.return_host("host1")
        hear(lab, doubtful)
        lab.kill_host("host1")
    fence(lab, "host1")
    spawn = gate("spawn")
    action = evacuate(lab)
    spawn.wait()
    with refused(lab, HostEvacuating, f"a guest of host host2 is being made anew elsewhere (action {action.id})"):
        fence(lab, "host2", False)
    spawn.open()
    lab.succeed(action)
    fence(lab, "host2", False)
    lab.return_host("host2")
    lab.report("host2")
    assert hosts_of(lab, doubtful.instance_uuid) == ["host3"]


def test_guest_that_both_hosts_of_a_failed_migration_say_to_have_is_left_to_one(
    lab: Lab, gate: Callable[[str], Gate]
) -> None:
    lab.set("fake", failures=["host1:live_migration"])
    rollback = gate("rollback_live_migration_at_destination")
    action = live_migrate(lab, "host2")
    rollback.wait()
    here, there = (lab.guest_file(host, action.instance_uuid) for host in ("host1", "host2"))
    there.write_bytes(here.read_bytes())
    rollback.open()
    lab.fail(action)
    assert place(lab) == ("host1", VmState.ERROR)
    with refused(lab, PlaceUnclear, "cannot start instance vm: its last move"):
        REFUSED["start"](lab)
    hear(lab, action)
    wait_until(lambda: lab.report("host2") or hosts_of(lab, action.instance_uuid) == ["host1"], "one guest")
    assert place(lab) == ("host1", VmState.ACTIVE)


@pytest.mark.parametrize("lost", [False, True])
def test_host_that_may_have_the_guest_stays_fenced_while_that_is_rebuilt(
    lab: Lab, doubtful: Action, gate: Callable[[str], Gate], lost: bool
) -> None:
    arrive(lab, doubtful)
    lab.return_host("host1")
    hear(lab, doubtful, "host2")
    fence(lab, "host2")
    if lost:
        hear(lab, doubtful)
        assert lab.instance().power_state is PowerState.NOSTATE
    spawn = gate("spawn")
    action = rebuild(lab)
    spawn.wait()
    with refused(lab, HostEvacuating, f"a guest of host host2 is being made anew elsewhere (action {action.id})"):
        fence(lab, "host2", False)
    spawn.open()
    lab.succeed(action)
    fence(lab, "host2", False)
    lab.return_host("host2")
    lab.report("host2")
    assert hosts_of(lab, doubtful.instance_uuid) == ["host1"]


def test_host_whose_fence_is_taken_back_is_heard_before_a_lost_guest_is_made_anew(lab: Lab, doubtful: Action) -> None:
    arrive(lab, doubtful)
    fence(lab, "host2")
    lab.return_host("host1")
    hear(lab, doubtful)
    fence(lab, "host2", False)
    with refused(lab, PlaceUnclear, "host2 has not said yet whether it has the guest"):
        rebuild(lab)
    lab.return_host("host2")
    hear(lab, doubtful)
    assert place(lab) == ("host2", VmState.ACTIVE)
    assert hosts_of(lab, doubtful.instance_uuid) == ["host2"]


def test_copy_survives_if_what_was_to_replace_it_was_not_made(lab: Lab, doubtful: Action) -> None:
    arrive(lab, doubtful)
    fence(lab, "host1")
    fence(lab, "host2")
    lab.set("fake", failures=["spawn"])
    lab.fail(evacuate(lab))
    lab.set("fake", failures=[])
    fence(lab, "host2", False)
    lab.return_host("host2")
    hear(lab, doubtful)
    assert place(lab) == ("host2", VmState.ACTIVE)
    assert hosts_of(lab, doubtful.instance_uuid) == ["host2"]


# A cold migration that is handed back.


def test_disks_that_were_to_be_handed_back_are_found_where_they_are(lab: Lab, gate: Callable[[str], Gate]) -> None:
    there = gate("migrate_disk_and_power_off")
    action = lab.api.migrate_instance(lab.ctxt, "vm", "host2")
    there.wait()
    lab.api.cancel_action(lab.ctxt, action.id)
    back = gate("migrate_disk_and_power_off")
    there.open()
    back.wait()
    crash_compute(lab, "host2")
    back.open()
    let_patience_run_out(lab, action)
    assert lab.end_of(action).status is ActionStatus.CANCELLED
    assert (lab.instance().vm_state, lab.migration(action).unclear_hosts) == (VmState.ERROR, ("host1", "host2"))
    with refused(lab, PlaceUnclear, "ended in doubt"):
        rebuild(lab)
    lab.return_host("host2")
    hear(lab, action)
    assert place(lab) == ("host2", VmState.STOPPED)
    lab.succeed(lab.api.start_instance(lab.ctxt, "vm"))
