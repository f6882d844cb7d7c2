"""Start, stop, reboot, pause and unpause; and guests whose power changes by itself."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from minova.exception import HostUnusable, InstanceBusy, InvalidState
from minova.objects import Action, Instance
from minova.states import OPERATIONS, ActionStatus, PowerState, TaskState, Verb, VmState
from minova.virt.fake import FakeDriver
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab


@dataclass(frozen=True)
class Case:
    """One operation: from which state to which, and the driver's method that does it."""

    verb: Verb
    before: VmState
    after: VmState
    method: str

    def __str__(self) -> str:
        return f"{self.verb}-{self.before}"


CASES = (
    Case(Verb.START, VmState.STOPPED, VmState.ACTIVE, "power_on"),
    Case(Verb.STOP, VmState.ACTIVE, VmState.STOPPED, "power_off"),
    Case(Verb.REBOOT, VmState.ACTIVE, VmState.ACTIVE, "reboot"),
    Case(Verb.HARD_REBOOT, VmState.ACTIVE, VmState.ACTIVE, "reboot"),
    Case(Verb.HARD_REBOOT, VmState.PAUSED, VmState.ACTIVE, "reboot"),
    Case(Verb.HARD_REBOOT, VmState.STOPPED, VmState.ACTIVE, "reboot"),
    Case(Verb.HARD_REBOOT, VmState.ERROR, VmState.ACTIVE, "reboot"),
    Case(Verb.PAUSE, VmState.ACTIVE, VmState.PAUSED, "pause"),
    Case(Verb.UNPAUSE, VmState.PAUSED, VmState.ACTIVE, "unpause"),
)
POWER_VERBS = sorted({case.verb for case in CASES})
RESTING = (VmState.ACTIVE, VmState.PAUSED, VmState.STOPPED, VmState.ERROR)
POWER = {VmState.ACTIVE: "running", VmState.PAUSED: "paused", VmState.STOPPED: "shutdown"}
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def ask(lab: Lab, verb: Verb) -> Action:
    """Ask for an operation."""
    requests: dict[Verb, Callable[[], Action]] = {
        Verb.START: lambda: lab.api.start_instance(lab.ctxt, "vm"),
        Verb.STOP: lambda: lab.api.stop_instance(lab.ctxt, "vm"),
        Verb.REBOOT: lambda: lab.api.reboot_instance(lab.ctxt, "vm", False),
        Verb.HARD_REBOOT: lambda: lab.api.reboot_instance(lab.ctxt, "vm", True),
        Verb.PAUSE: lambda: lab.api.pause_instance(lab.ctxt, "vm"),
        Verb.UNPAUSE: lambda: lab.api.unpause_instance(lab.ctxt, "vm"),
    }
    return requests[verb]()


def boot_into(lab: Lab, state: VmState) -> Instance:
    """Boot an instance and bring it into a state."""
    lab.boot()
    if state is VmState.ERROR:
        lab.api.reset_instance_state(lab.ctxt, "vm", state)
    elif state is not VmState.ACTIVE:
        lab.succeed(ask(lab, Verb.STOP if state is VmState.STOPPED else Verb.PAUSE))
    return lab.instance()


def timeless(instance: Instance) -> Instance:
    return replace(instance, updated_at=LONG_AGO)


def change_guest(lab: Lab, instance: Instance, power_state: PowerState) -> None:
    """Change a guest's power behind minova's back."""
    assert instance.host
    guest = lab.guest(instance.host, instance.uuid)
    assert guest
    file = lab.guest_file(instance.host, instance.uuid)
    file.write_text(json.dumps({**guest, "power_state": power_state}))


@every_case
def test_operation_leads_to_its_state(lab: Lab, case: Case) -> None:
    before = boot_into(lab, case.before)
    action = lab.succeed(ask(lab, case.verb))
    after = lab.instance()
    assert (after.vm_state, after.power_state) == (case.after, POWER[case.after])
    assert (after.host, after.task_state) == (before.host, None)
    guest = lab.guest(str(after.host), after.uuid)
    assert guest
    assert guest["power_state"] == POWER[case.after]
    assert (action.verb, action.error) == (case.verb, "")
    assert lab.api.list_faults(lab.ctxt, "vm") == []


@pytest.mark.parametrize("state", RESTING)
def test_wrong_state_is_refused_and_the_right_ones_are_told(lab: Lab, state: VmState) -> None:
    before = boot_into(lab, state)
    actions = lab.api.list_actions(lab.ctxt)
    allowed = sorted(verb for verb, operation in OPERATIONS.items() if state in operation.allowed)
    refused = [verb for verb in POWER_VERBS if verb not in allowed]
    assert refused
    for verb in refused:
        with pytest.raises(InvalidState) as refusal:
            ask(lab, verb)
        told = f"cannot {verb} instance vm: it is {state}; allowed now: {', '.join(allowed)}"
        assert refusal.value.message == told
        assert refusal.value.allowed == allowed
    assert lab.instance() == before
    assert lab.api.list_actions(lab.ctxt) == actions


@every_case
def test_failure_leaves_the_instance_as_it_was_and_a_fault(lab: Lab, case: Case) -> None:
    before = boot_into(lab, case.before)
    lab.set("fake", failures=[case.method])
    action = lab.fail(ask(lab, case.verb))
    assert action.error == f"{case.method} on host {before.host}: injected failure"
    assert timeless(lab.instance()) == timeless(before)
    [fault] = lab.api.list_faults(lab.ctxt, "vm")
    assert (fault.code, fault.message, fault.action_id) == ("OperationRefused", action.error, action.id)
    assert (fault.host, fault.details) == (f"compute:{before.host}", "")


def test_operation_that_failed_can_be_asked_for_again(lab: Lab) -> None:
    lab.boot()
    lab.set("fake", failures=["power_off"])
    lab.fail(ask(lab, Verb.STOP))
    lab.set("fake", failures=[])
    lab.succeed(ask(lab, Verb.STOP))
    assert lab.instance().vm_state is VmState.STOPPED


@pytest.mark.meets_errors
def test_unexpected_error_of_a_driver_is_a_fault_with_its_traceback(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_driver: FakeDriver, uuid: str) -> None:
        raise RuntimeError(f"boom of {uuid}")

    before = lab.boot()
    with monkeypatch.context() as patch:
        patch.setattr(FakeDriver, "power_off", crash)
        action = lab.fail(ask(lab, Verb.STOP))
    fault = lab.fault()
    assert (fault.code, fault.message) == ("RuntimeError", f"unexpected error: boom of {before.uuid}")
    assert action.error == fault.message
    assert fault.details.startswith("Traceback (most recent call last):")
    assert "in crash" in fault.details
    assert timeless(lab.instance()) == timeless(before)
    lab.succeed(ask(lab, Verb.STOP))


def test_busy_instance_tells_what_runs_on_it(lab: Lab, gate: Callable[[str], Gate]) -> None:
    lab.boot()
    power_off = gate("power_off")
    stop = ask(lab, Verb.STOP)
    power_off.wait()
    assert lab.instance().task_state is TaskState.POWERING_OFF
    with pytest.raises(InstanceBusy) as refusal:
        ask(lab, Verb.PAUSE)
    assert (refusal.value.task_state, refusal.value.action) == ("powering-off", stop.id)
    assert stop.id in refusal.value.message
    power_off.open()
    lab.succeed(stop)
    assert lab.instance().vm_state is VmState.STOPPED


def test_of_operations_asked_for_at_once_exactly_one_is_accepted(lab: Lab, gate: Callable[[str], Gate]) -> None:
    lab.cluster.add_conductor()
    lab.boot()
    gates = [gate(method) for method in ("power_off", "pause", "reboot")]
    verbs = (Verb.STOP, Verb.PAUSE, Verb.REBOOT, Verb.HARD_REBOOT)
    together = threading.Barrier(len(verbs))

    def ask_with_the_others(verb: Verb) -> Action | InstanceBusy:
        together.wait()
        try:
            return ask(lab, verb)
        except InstanceBusy as refusal:
            return refusal

    with ThreadPoolExecutor(len(verbs)) as pool:
        answers = list(pool.map(ask_with_the_others, verbs))
    [accepted] = [answer for answer in answers if isinstance(answer, Action)]
    refusals = [answer for answer in answers if isinstance(answer, InstanceBusy)]
    assert [refusal.action for refusal in refusals] == [accepted.id] * 3
    for each in gates:
        each.open()
    lab.succeed(accepted)


def test_host_that_is_not_up_is_refused_and_nothing_changes(lab: Lab) -> None:
    before = lab.boot()
    lab.silence(str(before.host))
    with pytest.raises(HostUnusable, match="not heard from") as refusal:
        ask(lab, Verb.STOP)
    assert refusal.value.host == before.host
    assert lab.instance() == before
    assert [action.verb for action in lab.api.list_actions(lab.ctxt)] == [Verb.BOOT]


def test_host_that_is_fenced_is_refused(lab: Lab) -> None:
    before = lab.boot()
    lab.api.set_service_forced_down(lab.ctxt, str(before.host), True)
    with pytest.raises(HostUnusable, match="it is forced down"):
        ask(lab, Verb.STOP)
    assert lab.instance() == before


@pytest.mark.parametrize(
    ("power_state", "vm_state"),
    [
        (PowerState.SHUTDOWN, VmState.STOPPED),
        (PowerState.PAUSED, VmState.PAUSED),
        (PowerState.CRASHED, VmState.ERROR),
    ],
)
def test_guest_whose_power_changed_by_itself_is_noticed(lab: Lab, power_state: PowerState, vm_state: VmState) -> None:
    instance = lab.boot()
    change_guest(lab, instance, power_state)
    lab.report(str(instance.host))
    after = lab.instance()
    assert (after.vm_state, after.power_state) == (vm_state, power_state)
    assert [action.verb for action in lab.api.list_actions(lab.ctxt)] == [Verb.BOOT]


def test_guest_that_came_back_by_itself_is_noticed(lab: Lab) -> None:
    instance = boot_into(lab, VmState.STOPPED)
    change_guest(lab, instance, PowerState.RUNNING)
    lab.report(str(instance.host))
    assert lab.instance().vm_state is VmState.ACTIVE


def test_power_is_not_corrected_while_an_operation_runs(lab: Lab, gate: Callable[[str], Gate]) -> None:
    instance = lab.boot()
    pause = gate("pause")
    action = ask(lab, Verb.PAUSE)
    pause.wait()
    change_guest(lab, instance, PowerState.SHUTDOWN)
    lab.report(str(instance.host))
    during = lab.instance()
    assert (during.vm_state, during.task_state) == (VmState.ACTIVE, TaskState.PAUSING)
    pause.open()
    assert lab.end_of(action).status is ActionStatus.FAILED


def test_guest_that_vanished_puts_its_instance_in_error(lab: Lab) -> None:
    instance = lab.boot()
    lab.guest_file(str(instance.host), instance.uuid).unlink()
    lab.report(str(instance.host))
    after = lab.instance()
    assert (after.vm_state, after.power_state, after.host) == (VmState.ERROR, PowerState.NOSTATE, instance.host)
    [fault] = lab.api.list_faults(lab.ctxt, "vm")
    assert (fault.code, fault.host, fault.action_id) == ("GuestNotFound", instance.host, None)
    lab.report(str(instance.host))
    assert lab.api.list_faults(lab.ctxt, "vm") == [fault]
