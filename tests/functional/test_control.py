"""What every service says of itself, what can be called at all, and how errors come back."""

import logging
import re
from collections.abc import Callable
from importlib.metadata import version as installed_version
from typing import Any, ClassVar

import pytest

from minova.compute import rpcapi as compute_rpcapi
from minova.conductor import rpcapi as conductor_rpcapi
from minova.conductor.queries import Queries
from minova.exception import InstanceNotFound, InvalidInput, PeerSilent, ServiceFault
from minova.objects import Instance, MigrationOptions
from minova.rpc.client import RPCAPI, Timeout
from minova.rpc.rollcall import listen
from minova.rpc.versions import History, Pins, Release
from minova.states import Verb, VmState
from minova.virt.fake import FakeDriver
from tests.fixtures.gate import Gate
from tests.fixtures.lab import PATIENCE, Lab, wait_until


class Stranger(RPCAPI):
    """A client that sends whatever it is told."""

    HISTORY: ClassVar[History] = History((Release(version="1.0", summary=""),))

    def __init__(self, lab: Lab, topic: str, namespace: str | None = None) -> None:
        self.TOPIC, self.NAMESPACE = topic, namespace  # type: ignore[misc]
        super().__init__(lab.conf, lab.cluster.transport, Pins(lab.conf, lambda _topic: None))
        self._ctxt = lab.ctxt

    def send(self, method: str, version: str = "1.0", **args: Any) -> Any:
        self.HISTORY = History((Release(version=version, summary=""),))  # type: ignore[misc]
        return self._call(self._ctxt, Timeout.QUICK, None, method, version, **args)


def conductor_host(lab: Lab) -> str:
    return str(lab.conf.host)


def test_ping_is_answered_by_the_host_that_was_asked(lab: Lab) -> None:
    compute = lab.cluster.control("compute")
    for host in ("host1", "host2"):
        pong = compute.ping(lab.ctxt, host)
        assert (pong.service, pong.host) == ("minova-compute", host)
        assert pong.uptime >= 0
    pong = lab.cluster.control("conductor").ping(lab.ctxt, None)
    assert (pong.service, pong.host) == ("minova-conductor", conductor_host(lab))


def test_service_that_is_not_there_is_silent(lab: Lab) -> None:
    lab.stop_compute("host2")
    lab.set("rpc", ping_timeout=0.2)
    with pytest.raises(PeerSilent, match=re.escape("compute on host2 did not answer within 0.2 s")):
        lab.cluster.control("compute").ping(lab.ctxt, "host2")


def test_roll_call_finds_every_service_in_one_round(lab: Lab) -> None:
    with listen(lab.cluster.transport) as roll:
        for topic in ("conductor", "compute"):
            lab.cluster.control(topic).announce(lab.ctxt, roll.round_id)
        answers = roll.collect(lambda answers: len(answers) == 3, PATIENCE)
    assert sorted((each.presence.service, each.presence.host) for each in answers) == [
        ("minova-compute", "host1"),
        ("minova-compute", "host2"),
        ("minova-conductor", conductor_host(lab)),
    ]


def test_reset_by_fanout_makes_every_service_resolve_its_pins_again(lab: Lab) -> None:
    lab.set("upgrade_levels", conductor="1.0")
    control = lab.cluster.control("compute")
    control.reset(lab.ctxt)

    def reasons() -> set[str]:
        for host in ("host1", "host2"):
            lab.report(host)
        return {pin.reason for host in ("host1", "host2") for pin in control.get_versions(lab.ctxt, host).pins}

    wait_until(lambda: reasons() == {"[upgrade_levels] conductor = 1.0"}, "new pins on both hosts")


def test_versions_and_pins_are_told(lab: Lab) -> None:
    versions = lab.cluster.control("compute").get_versions(lab.ctxt, "host1")
    assert (versions.release, versions.rpc_version) == (installed_version("minova"), compute_rpcapi.HISTORY.version)
    assert [(pin.topic, pin.version) for pin in versions.pins] == [("conductor", conductor_rpcapi.HISTORY.version)]
    conductor = lab.cluster.control("conductor")
    assert conductor.get_versions(lab.ctxt, None).pins == ()
    lab.boot()
    [pin] = conductor.get_versions(lab.ctxt, None).pins
    assert (pin.topic, pin.version, pin.reason) == (
        "compute",
        compute_rpcapi.HISTORY.version,
        "all live services are as new",
    )


def test_activity_of_a_compute_is_what_it_works_on(lab: Lab, gate: Callable[[str], Gate]) -> None:
    instance = lab.boot(host="host1")
    assert lab.activity("host1").tasks == ()
    power_off = gate("power_off")
    action = lab.api.stop_instance(lab.ctxt, "vm")
    power_off.wait()
    [task] = lab.activity("host1").tasks
    assert (task.what, task.subject) == ("power_off", instance.uuid)
    assert task.since >= action.submitted_at
    assert lab.activity("host2").tasks == ()
    power_off.open()
    lab.succeed(action)
    lab.wait_until_idle("host1")


def test_activity_of_a_conductor_is_the_question_that_it_waits_for(lab: Lab, gate: Callable[[str], Gate]) -> None:
    lab.boot()
    check = gate("check_can_live_migrate_source")
    action = lab.api.live_migrate_instance(lab.ctxt, "vm", None, MigrationOptions())
    check.wait()
    control = lab.cluster.control("conductor")
    [task] = control.get_activity(lab.ctxt, None).tasks
    assert (task.what, task.subject) == ("live-migrate check_source", action.id)
    check.open()
    lab.succeed(action)
    wait_until(lambda: not control.get_activity(lab.ctxt, None).tasks, "the end of the conductor's work")


def test_conductor_has_nothing_to_do_after_an_action_was_undone(lab: Lab) -> None:
    lab.set("fake", failures=["spawn"])
    lab.fail(lab.api.boot_instance(lab.ctxt, lab.request()))
    control = lab.cluster.control("conductor")
    wait_until(lambda: not control.get_activity(lab.ctxt, None).tasks, "the end of the conductor's work")


@pytest.mark.meets_errors
@pytest.mark.parametrize(
    ("topic", "method"),
    [
        ("conductor", "_submit"),
        ("conductor", "__init__"),
        ("conductor", "nothing_such"),
        ("conductor", "target"),
        ("compute", "_do"),
        ("compute", "drain"),
    ],
)
def test_what_is_not_exposed_cannot_be_called(lab: Lab, topic: str, method: str) -> None:
    with pytest.raises(ServiceFault) as refusal:
        Stranger(lab, topic).send(method, instance="vm")
    assert (refusal.value.kind, refusal.value.method) == ("NoSuchMethod", method)
    lab.boot()


@pytest.mark.meets_errors
def test_unknown_namespace_is_refused(lab: Lab) -> None:
    with pytest.raises(ServiceFault) as refusal:
        Stranger(lab, "conductor", "nonsense").send("ping")
    assert refusal.value.kind == "UnsupportedVersion"


@pytest.mark.meets_errors
def test_control_is_out_of_reach_without_its_namespace(lab: Lab) -> None:
    with pytest.raises(ServiceFault) as refusal:
        Stranger(lab, "conductor").send("ping")
    assert refusal.value.kind == "NoSuchMethod"


@pytest.mark.meets_errors
def test_message_of_a_newer_version_is_refused(lab: Lab) -> None:
    with pytest.raises(ServiceFault) as refusal:
        Stranger(lab, "conductor").send("list_services", "1.99")
    assert refusal.value.kind == "UnsupportedVersion"


@pytest.mark.meets_errors
def test_argument_of_a_wrong_type_is_the_callers_mistake(lab: Lab) -> None:
    bad = {"minova.object": "BootRequest", "minova.version": "1.0", "minova.data": {"name": "vm", "vcpus": "many"}}
    with pytest.raises(InvalidInput, match="the message holds a bad BootRequest"):
        Stranger(lab, "conductor").send("boot_instance", request=bad)


@pytest.mark.meets_errors
def test_unexpected_error_tells_where_to_look_and_keeps_its_traceback_at_home(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(_queries: Queries, _reference: str) -> Instance:
        raise RuntimeError("boom")

    with monkeypatch.context() as patch:
        patch.setattr(Queries, "instance", crash)
        with pytest.raises(ServiceFault) as refusal:
            lab.instance()
    fault = refusal.value
    assert type(fault) is ServiceFault
    where = f"conductor:{conductor_host(lab)} failed in get_instance"
    assert fault.message == f"{where}: RuntimeError: boom (its log has {lab.ctxt.request_id})"
    assert (fault.request_id, fault.kind) == (lab.ctxt.request_id, "RuntimeError")
    assert str(fault) == fault.message
    assert (fault.__cause__, fault.__suppress_context__) == (None, True)
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info
    lab.boot()


@pytest.mark.meets_errors
def test_unexpected_error_of_a_compute_that_was_asked_fails_the_action(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_args: Any) -> None:
        raise RuntimeError("boom")

    before = lab.boot()
    with monkeypatch.context() as patch:
        patch.setattr(FakeDriver, "check_can_live_migrate_source", crash)
        action = lab.fail(lab.api.live_migrate_instance(lab.ctxt, "vm", None, MigrationOptions()))
    fault = lab.fault()
    assert (fault.code, fault.details) == ("ServiceFault", "")
    assert action.error == fault.message
    assert f"compute:{before.host} failed in check_can_live_migrate_source: RuntimeError: boom" in fault.message
    after = lab.instance()
    assert (after.host, after.vm_state, after.task_state) == (before.host, VmState.ACTIVE, None)


def test_expected_error_comes_as_its_own_type_and_message(lab: Lab) -> None:
    with pytest.raises(InstanceNotFound) as refusal:
        lab.instance("nobody")
    assert type(refusal.value) is InstanceNotFound
    assert refusal.value.kwargs == {"name": "nobody"}
    assert str(refusal.value) == refusal.value.message == "no such instance: nobody"


def test_error_of_a_driver_crosses_two_services_unchanged(lab: Lab) -> None:
    before = lab.boot()
    lab.set("fake", failures=["check_can_live_migrate_source"])
    action = lab.fail(lab.api.live_migrate_instance(lab.ctxt, "vm", None, MigrationOptions()))
    assert action.error == f"check_can_live_migrate_source on host {before.host}: injected failure"
    assert (lab.fault().code, lab.fault().message) == ("OperationRefused", action.error)
    assert (action.verb, lab.instance().host) == (Verb.LIVE_MIGRATE, before.host)


def test_stray_file_among_the_guests_does_not_silence_the_host(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.boot(host="host1")
    lab.guest_file("host1", "notes").write_text("{}")
    with caplog.at_level(logging.WARNING):
        assert lab.cluster.computes["host1"].reporter.report()
    assert "No conductor took the report" not in caplog.text
    lab.guest_file("host1", "notes").unlink(missing_ok=True)
