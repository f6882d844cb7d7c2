"""Cancelling actions: which can be, when, and what is left then."""

from collections.abc import Callable

import pytest

from minova.exception import ActionNotFound, NotCancellable
from minova.objects import Action, Hop
from minova.states import OPERATIONS, ActionStatus, MigrationStatus, Verb, VmState
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab, wait_until
from tests.fixtures.moves import converge, hosts_of, live_migrate, rooms, start_endless

REQUESTS: dict[Verb, Callable[[Lab], Action]] = {
    Verb.BOOT: lambda lab: lab.api.boot_instance(lab.ctxt, lab.request("new")),
    Verb.DELETE: lambda lab: lab.api.delete_instance(lab.ctxt, "vm"),
    Verb.START: lambda lab: lab.api.start_instance(lab.ctxt, "vm"),
    Verb.STOP: lambda lab: lab.api.stop_instance(lab.ctxt, "vm"),
    Verb.REBOOT: lambda lab: lab.api.reboot_instance(lab.ctxt, "vm", False),
    Verb.HARD_REBOOT: lambda lab: lab.api.reboot_instance(lab.ctxt, "vm", True),
    Verb.PAUSE: lambda lab: lab.api.pause_instance(lab.ctxt, "vm"),
    Verb.UNPAUSE: lambda lab: lab.api.unpause_instance(lab.ctxt, "vm"),
    Verb.LIVE_MIGRATE: live_migrate,
    Verb.MIGRATE: lambda lab: lab.api.migrate_instance(lab.ctxt, "vm", None),
    Verb.EVACUATE: lambda lab: lab.api.evacuate_instance(lab.ctxt, "vm", None),
    Verb.REBUILD: lambda lab: lab.api.rebuild_instance(lab.ctxt, "vm"),
}
METHODS = {
    Verb.BOOT: "spawn",
    Verb.DELETE: "destroy",
    Verb.START: "power_on",
    Verb.STOP: "power_off",
    Verb.REBOOT: "reboot",
    Verb.HARD_REBOOT: "reboot",
    Verb.PAUSE: "pause",
    Verb.UNPAUSE: "unpause",
    Verb.LIVE_MIGRATE: "pre_live_migration",
    Verb.MIGRATE: "migrate_disk_and_power_off",
    Verb.EVACUATE: "spawn",
    Verb.REBUILD: "destroy",
}
"""The driver's method at which an action of each verb is stopped for a while."""


def prepare(lab: Lab, verb: Verb) -> None:
    """Boot an instance on host1, and bring it into a state from which a verb is allowed."""
    converge(lab)
    lab.boot(host="host1")
    if verb is Verb.START:
        lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    elif verb is Verb.UNPAUSE:
        lab.succeed(lab.api.pause_instance(lab.ctxt, "vm"))
    elif verb is Verb.EVACUATE:
        lab.kill_host("host1")
        lab.api.set_service_forced_down(lab.ctxt, "host1", True)


def start_and_hold(lab: Lab, gate: Callable[[str], Gate], verb: Verb) -> tuple[Action, Gate]:
    """Start an action, and return it and the gate that it stands at."""
    prepare(lab, verb)
    held = gate(METHODS[verb])
    action = REQUESTS[verb](lab)
    held.wait()
    return action, held


def cancel(lab: Lab, action: Action) -> Action:
    return lab.api.cancel_action(lab.ctxt, action.id)


def assert_cannot(lab: Lab, action: Action, words: str) -> None:
    before = lab.api.get_action(lab.ctxt, action.id)
    with pytest.raises(NotCancellable) as refusal:
        cancel(lab, action)
    assert refusal.value.message.startswith(f"cannot cancel action {action.id}: ")
    assert words in refusal.value.message
    assert lab.api.get_action(lab.ctxt, action.id).cancel_requested == before.cancel_requested


CANCELLABLE = sorted(verb for verb in Verb if OPERATIONS[verb].cancellable)
OTHERS = sorted(set(Verb) - set(CANCELLABLE))


@pytest.mark.parametrize("verb", OTHERS)
def test_verb_that_ends_by_itself_cannot_be_cancelled(lab: Lab, gate: Callable[[str], Gate], verb: Verb) -> None:
    action, held = start_and_hold(lab, gate, verb)
    assert_cannot(lab, action, f"a {verb} cannot be cancelled half-way; it ends by itself")
    held.open()
    lab.succeed(action)


@pytest.mark.parametrize("verb", CANCELLABLE)
def test_cancelled_action_is_undone_and_leaves_its_instance_free(
    lab: Lab, gate: Callable[[str], Gate], verb: Verb
) -> None:
    action, held = start_and_hold(lab, gate, verb)
    before = lab.instance()
    now = cancel(lab, action)
    assert (now.id, now.status, now.cancel_requested) == (action.id, ActionStatus.RUNNING, True)
    held.open()
    ended = lab.end_of(action)
    assert (ended.status, ended.error) == (ActionStatus.CANCELLED, "cancelled")
    after = lab.instance()
    assert (after.host, after.vm_state, after.task_state) == ("host1", VmState.ACTIVE, None)
    assert after.host == before.host
    assert rooms(lab) == {"host1": ["vm"], "host2": []}
    if action.migration_uuid:
        assert lab.migration(action).status is MigrationStatus.CANCELLED
    if verb is Verb.BOOT:
        assert (lab.instance("new").vm_state, lab.instance("new").host) == (VmState.ERROR, None)


@pytest.mark.parametrize("method", ["check_can_live_migrate_source", "pre_live_migration"])
def test_live_migration_can_be_cancelled_between_its_steps(lab: Lab, gate: Callable[[str], Gate], method: str) -> None:
    converge(lab)
    uuid = lab.boot(host="host1").uuid
    held = gate(method)
    action = live_migrate(lab)
    held.wait()
    cancel(lab, action)
    held.open()
    assert lab.end_of(action).status is ActionStatus.CANCELLED
    assert hosts_of(lab, uuid) == ["host1"]
    done = [each.step for each in lab.api.list_action_events(lab.ctxt, action.id) if each.hop is Hop.WORK]
    assert "migrate" not in done


@pytest.mark.parametrize(
    ("verb", "method"),
    [(Verb.LIVE_MIGRATE, "post_live_migration_at_destination"), (Verb.MIGRATE, "finish_migration")],
)
def test_past_the_point_of_no_return_it_goes_on(lab: Lab, gate: Callable[[str], Gate], verb: Verb, method: str) -> None:
    prepare(lab, verb)
    held = gate(method)
    action = REQUESTS[verb](lab)
    held.wait()
    assert_cannot(lab, action, "it is past the point of no return")
    held.open()
    lab.succeed(action)
    assert lab.instance().host == "host2"


def test_cancelling_twice_is_no_mistake(lab: Lab, gate: Callable[[str], Gate]) -> None:
    action, held = start_and_hold(lab, gate, Verb.MIGRATE)
    cancel(lab, action)
    cancel(lab, action)
    held.open()
    assert lab.end_of(action).status is ActionStatus.CANCELLED
    undone = [each.step for each in lab.api.list_action_events(lab.ctxt, action.id) if each.hop is Hop.WORK]
    assert undone.count("restart_at_source") == 1


def test_action_that_is_being_undone_cannot_be_cancelled_once_more(lab: Lab, gate: Callable[[str], Gate]) -> None:
    lab.boot(host="host1")
    rollback = gate("rollback_live_migration_at_destination")
    action = start_endless(lab)
    cancel(lab, action)
    rollback.wait()
    assert_cannot(lab, action, "it is being undone already")
    rollback.open()
    assert lab.end_of(action).status is ActionStatus.CANCELLED


def test_boot_can_be_cancelled_on_its_way_from_one_host_to_the_next(lab: Lab, gate: Callable[[str], Gate]) -> None:
    lab.set("fake", failures=["spawn"])
    destroy = gate("destroy")
    action = REQUESTS[Verb.BOOT](lab)
    destroy.wait()
    lab.set("fake", failures=[])
    cancel(lab, action)
    destroy.open()
    assert lab.end_of(action).status is ActionStatus.CANCELLED
    instance = lab.instance("new")
    assert (instance.vm_state, instance.host) == (VmState.ERROR, None)
    assert hosts_of(lab, instance.uuid) == []


def test_step_that_fails_after_the_cancel_makes_no_failure_of_it(lab: Lab, gate: Callable[[str], Gate]) -> None:
    action, held = start_and_hold(lab, gate, Verb.LIVE_MIGRATE)
    cancel(lab, action)
    lab.set("fake", failures=["pre_live_migration"])
    held.open()
    assert lab.end_of(action).status is ActionStatus.CANCELLED
    assert lab.fault().message == "pre_live_migration on host host2: injected failure"


@pytest.mark.parametrize("verb", CANCELLABLE)
def test_action_that_has_ended_cannot_be_cancelled(lab: Lab, verb: Verb) -> None:
    prepare(lab, verb)
    action = lab.succeed(REQUESTS[verb](lab))
    assert_cannot(lab, action, "it has succeeded")


def test_cancelled_action_cannot_be_cancelled_again(lab: Lab) -> None:
    lab.boot(host="host1")
    action = start_endless(lab)
    cancel(lab, action)
    lab.end_of(action)
    assert_cannot(lab, action, "it was cancelled")


@pytest.mark.parametrize("unknown", ["1234", "", "vm"])
def test_action_that_does_not_exist(lab: Lab, unknown: str) -> None:
    with pytest.raises(ActionNotFound, match=f"no such action: {unknown}"):
        lab.api.cancel_action(lab.ctxt, unknown)


def test_cancel_is_asked_for_again_if_it_got_lost(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.boot(host="host1")
    action = start_endless(lab)
    sent: list[str] = []
    real = lab.cluster.conductors[0].engine.abort

    def lose_the_first(task: object) -> None:
        sent.append("abort")
        if len(sent) > 1:
            real(task)  # type: ignore[arg-type]

    monkeypatch.setattr(lab.cluster.conductors[0].engine, "abort", lose_the_first)
    cancel(lab, action)
    assert lab.end_of(action).status is ActionStatus.CANCELLED
    wait_until(lambda: len(sent) > 1, "the second abort")
