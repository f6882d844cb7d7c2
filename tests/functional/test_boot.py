"""Boot: a host is chosen, and another one if it refuses."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from oslo_config import cfg

from minova.exception import (
    AmbiguousName,
    HostNotFound,
    HostUnusable,
    InstanceNotFound,
    InvalidInput,
    InvalidState,
    NoGuest,
    NotCancellable,
    NoValidHost,
)
from minova.objects import Action, Hop, Result
from minova.states import ActionStatus, PowerState, TaskState, Verb, VmState
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab


def submit(lab: Lab, name: str = "vm", **more: Any) -> Action:
    return lab.api.boot_instance(lab.ctxt, lab.request(name, **more))


def hosts_with_guest(lab: Lab, uuid: str) -> list[str]:
    return [host for host in ("host1", "host2") if lab.guest(host, uuid) is not None]


def assert_nothing_was_booted(lab: Lab) -> None:
    assert lab.api.list_instances(lab.ctxt, deleted=True) == []
    assert lab.api.list_actions(lab.ctxt) == []
    assert [host.vcpus_used for host in lab.api.list_hosts(lab.ctxt)] == [0, 0]


def test_instance_runs_and_has_its_room(lab: Lab) -> None:
    instance = lab.boot(vcpus=2, memory_mb=512, disk_gb=3)
    assert (instance.vm_state, instance.power_state, instance.task_state) == (
        VmState.ACTIVE,
        PowerState.RUNNING,
        None,
    )
    assert (instance.vcpus, instance.memory_mb, instance.disk_gb) == (2, 512, 3)
    host = lab.api.get_host(lab.ctxt, str(instance.host))
    assert (host.vcpus_used, host.memory_mb_used, host.disk_gb_used, host.instances) == (2, 512, 3, 1)
    assert hosts_with_guest(lab, instance.uuid) == [instance.host]


def test_instance_shows_that_it_is_being_built(lab: Lab, gate: Callable[[str], Gate]) -> None:
    spawn = gate("spawn")
    action = submit(lab)
    spawn.wait()
    instance = lab.instance()
    assert (instance.vm_state, instance.task_state) == (VmState.BUILDING, TaskState.SPAWNING)
    spawn.open()
    lab.succeed(action)


def test_instances_spread_over_hosts(lab: Lab) -> None:
    assert {lab.boot(name).host for name in ("vm1", "vm2")} == {"host1", "host2"}


def test_instance_boots_on_the_host_that_was_asked_for(lab: Lab) -> None:
    assert [lab.boot(f"vm{number}", host="host2").host for number in range(3)] == ["host2"] * 3


def test_action_tells_who_asked(lab: Lab) -> None:
    action = lab.succeed(submit(lab))
    assert (action.user, action.request_id) == ("tester", lab.ctxt.request_id)
    assert action.finished_at
    assert action.finished_at > action.submitted_at


def test_another_host_is_tried_when_one_refuses(lab: Lab) -> None:
    lab.set("fake", failures=["host1:spawn"])
    lab.boot("other", host="host2")
    action = submit(lab)
    lab.succeed(action)
    assert lab.instance().host == "host2"
    work = [event for event in lab.api.list_action_events(lab.ctxt, action.id) if event.hop is Hop.WORK]
    tried = [(event.service, event.result) for event in work if event.step == "spawn"]
    assert tried == [("compute:host1", Result.FAILED), ("compute:host2", Result.SUCCEEDED)]
    assert lab.api.get_host(lab.ctxt, "host1").vcpus_used == 0


def test_instance_that_all_hosts_refuse_is_in_error_and_takes_no_room(lab: Lab) -> None:
    lab.set("fake", failures=["spawn"])
    action = lab.fail(submit(lab))
    instance = lab.instance()
    assert (instance.vm_state, instance.task_state, instance.host) == (VmState.ERROR, None, None)
    assert instance.power_state is PowerState.NOSTATE
    assert hosts_with_guest(lab, instance.uuid) == []
    assert [host.memory_mb_used for host in lab.api.list_hosts(lab.ctxt)] == [0, 0]
    codes = [fault.code for fault in lab.api.list_faults(lab.ctxt, "vm")]
    assert codes == ["NoValidHost", "InsufficientResources", "InsufficientResources"]
    assert action.error == lab.fault().message
    assert "another host refused 2" in action.error


def test_no_more_hosts_are_tried_than_configured(lab: Lab) -> None:
    lab.set("scheduler", max_attempts=1)
    lab.set("fake", failures=["host1:spawn"])
    lab.boot("other", host="host2")
    assert lab.fail(submit(lab)).error == "host host1 refuses the guest: injected failure"
    assert lab.instance("vm").vm_state is VmState.ERROR


def test_host_that_was_asked_for_is_the_only_one_tried(lab: Lab) -> None:
    lab.set("fake", failures=["host2:spawn"])
    action = lab.fail(submit(lab, host="host2"))
    assert action.error == "host host2 refuses the guest: injected failure"
    events = lab.api.list_action_events(lab.ctxt, action.id)
    assert {event.service for event in events if event.hop is Hop.WORK} == {"compute:host2"}
    assert (lab.instance().vm_state, lab.instance().host) == (VmState.ERROR, None)


def test_without_room_each_filter_tells_what_it_refused(lab: Lab) -> None:
    with pytest.raises(NoValidHost) as refusal:
        submit(lab, vcpus=1000)
    assert refusal.value.refusals == {"enough vCPUs": 2}
    assert refusal.value.message == ("no host for instance vm (1000 vCPUs, 256 MiB, 1 GiB): enough vCPUs refused 2")
    assert_nothing_was_booted(lab)


def test_each_host_is_refused_by_the_first_filter_that_it_fails(lab: Lab) -> None:
    lab.api.set_service_enabled(lab.ctxt, "host1", False, "repair")
    with pytest.raises(NoValidHost) as refusal:
        submit(lab, memory_mb=10**6, disk_gb=10**6)
    assert refusal.value.refusals == {"enabled": 1, "enough memory": 1}
    assert_nothing_was_booted(lab)


def test_without_any_host_that_is_what_is_said(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab()
    with pytest.raises(NoValidHost, match="no compute host is registered"):
        submit(lab)
    assert lab.api.list_instances(lab.ctxt, deleted=True) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"vcpus": 0}, "0 vCPUs is not between 1 and 4096"),
        ({"vcpus": -1}, "-1 vCPUs"),
        ({"memory_mb": 0}, "0 MiB of memory"),
        ({"memory_mb": 10**15}, "MiB of memory is not between"),
        ({"disk_gb": -1}, "-1 GiB of disk"),
        ({"name": ""}, "1 to 255 characters"),
        ({"name": "a/b"}, "no slashes"),
        ({"name": "x" * 256}, "1 to 255 characters"),
        ({"name": "00000000-0000-0000-0000-000000000000"}, "look like a UUID"),
    ],
)
def test_senseless_request_is_refused(lab: Lab, more: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        submit(lab, **more)
    assert_nothing_was_booted(lab)


def test_host_that_does_not_exist_is_refused(lab: Lab) -> None:
    with pytest.raises(HostNotFound, match="no such host: host9"):
        submit(lab, host="host9")
    assert_nothing_was_booted(lab)


def test_host_that_was_asked_for_and_is_too_small_is_refused(lab: Lab) -> None:
    with pytest.raises(HostUnusable, match="host host2 cannot be used: it has fewer than 33 vCPUs free"):
        submit(lab, host="host2", vcpus=33)
    assert_nothing_was_booted(lab)


def test_name_that_two_bear_is_ambiguous_and_the_candidates_are_told(lab: Lab) -> None:
    uuids = sorted(lab.end_of(submit(lab)).instance_uuid for _ in range(2))
    with pytest.raises(AmbiguousName) as refusal:
        lab.api.stop_instance(lab.ctxt, "vm")
    assert refusal.value.candidates == uuids
    for uuid in uuids:
        assert uuid in refusal.value.message
    lab.succeed(lab.api.delete_instance(lab.ctxt, uuids[0]))
    assert lab.instance("vm").uuid == uuids[1]


def test_cancelled_boot_leaves_no_guest_anywhere(lab: Lab, gate: Callable[[str], Gate]) -> None:
    spawn = gate("spawn")
    action = submit(lab)
    spawn.wait()
    assert lab.api.cancel_action(lab.ctxt, action.id).cancel_requested
    spawn.open()
    assert lab.end_of(action).status is ActionStatus.CANCELLED
    instance = lab.instance()
    assert (instance.vm_state, instance.host, instance.task_state) == (VmState.ERROR, None, None)
    assert hosts_with_guest(lab, instance.uuid) == []
    assert lab.api.list_faults(lab.ctxt, "vm") == []


def test_boot_that_has_ended_cannot_be_cancelled(lab: Lab) -> None:
    action = lab.succeed(submit(lab))
    with pytest.raises(NotCancellable, match="it has succeeded"):
        lab.api.cancel_action(lab.ctxt, action.id)
    assert lab.instance().vm_state is VmState.ACTIVE


def test_instance_without_a_guest_can_only_be_deleted(lab: Lab) -> None:
    lab.set("fake", failures=["spawn"])
    lab.fail(submit(lab))
    with pytest.raises(NoGuest):
        lab.api.reboot_instance(lab.ctxt, "vm", True)
    with pytest.raises(NoGuest):
        lab.api.rebuild_instance(lab.ctxt, "vm")
    with pytest.raises(InvalidState):
        lab.api.start_instance(lab.ctxt, "vm")
    lab.succeed(lab.api.delete_instance(lab.ctxt, "vm"))
    with pytest.raises(InstanceNotFound):
        lab.instance()


def test_boots_at_once_never_oversell_a_host(conf: cfg.ConfigOpts, make_lab: Callable[..., Lab]) -> None:
    conf.set_override("vcpus", 3, "fake")
    conf.set_override("cpu_allocation_ratio", 1.0, "compute")
    lab = make_lab("host1", "host2")
    lab.cluster.add_conductor()
    together = threading.Barrier(12)

    def boot_with_the_others(number: int) -> Action | NoValidHost:
        together.wait()
        try:
            return submit(lab, f"vm{number}")
        except NoValidHost as refusal:
            return refusal

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(boot_with_the_others, range(12)))
    accepted = [answer for answer in answers if isinstance(answer, Action)]
    refused = [answer for answer in answers if isinstance(answer, NoValidHost)]
    assert (len(accepted), len(refused)) == (6, 6)
    assert all(refusal.refusals == {"enough vCPUs": 2} for refusal in refused)
    for action in accepted:
        lab.succeed(action)
    assert [host.vcpus_used for host in lab.api.list_hosts(lab.ctxt)] == [3, 3]
    assert len(lab.api.list_instances(lab.ctxt, deleted=True)) == 6


def test_list_shows_the_boot_among_the_actions(lab: Lab) -> None:
    lab.boot()
    lab.boot("other")
    assert [action.instance_name for action in lab.api.list_actions(lab.ctxt)] == ["other", "vm"]
    assert [action.verb for action in lab.api.list_actions(lab.ctxt, "vm")] == [Verb.BOOT]
