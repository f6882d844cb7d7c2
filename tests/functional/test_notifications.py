"""What listeners are told of operations, migrations, services and accidents."""

from collections.abc import Callable, Iterator

import pytest
from oslo_config import cfg

from minova.objects import MigrationOptions
from minova.states import ActionStatus
from minova.virt.fake import FakeDriver
from tests.fixtures.crashes import crash_conductor, let_be_taken_over
from tests.fixtures.ear import Ear
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab

OF_OPERATIONS = ("instance.", "migration.", "compute.")


@pytest.fixture
def ear(conf: cfg.ConfigOpts, make_lab: Callable[..., Lab]) -> Iterator[Ear]:
    """Turn notifications on, and listen; to be asked for before a lab is made."""
    conf.set_override("driver", ["messagingv2"], "oslo_messaging_notifications")
    ear = Ear(conf)
    yield ear
    ear.stop()


@pytest.fixture
def lab(ear: Ear, make_lab: Callable[..., Lab]) -> Lab:
    return make_lab("host1", "host2")


def test_operation_from_start_to_end(lab: Lab, ear: Ear) -> None:
    uuid = lab.boot().uuid
    ear.wait_for("instance.create.end")
    start, end = ear.heard(*OF_OPERATIONS)
    assert [start.event_type, end.event_type] == ["instance.create.start", "instance.create.end"]
    assert start.priority == end.priority == "info"
    assert start.publisher_id == end.publisher_id == f"minova-conductor:{lab.conf.host}"
    assert (start.data["uuid"], start.data["status"], start.data["task_state"]) == (uuid, "running", "spawning")
    assert (end.data["status"], end.data["vm_state"], end.data["task_state"]) == ("succeeded", "active", None)
    assert end.data["host"] == lab.instance().host
    assert (end.data["action_id"], end.data["user"]) == (start.data["action_id"], "tester")
    assert end.payload["minova.object"] == "InstanceActionPayload"
    assert end.payload["minova.version"] == "1.0"


def test_live_migration_with_its_stages(lab: Lab, ear: Ear) -> None:
    lab.boot(host="host1")
    lab.succeed(lab.api.live_migrate_instance(lab.ctxt, "vm", None, MigrationOptions()))
    end = ear.wait_for("instance.live_migration.end")
    told = ear.types(*OF_OPERATIONS)[2:]
    # Whether it was seen waiting for its turn depends on how fast its source is.
    assert [event for event in told if event != "migration.queued"] == [
        "instance.live_migration.start",
        "migration.accepted",
        "migration.preparing",
        "migration.running",
        "migration.completed",
        "instance.live_migration.end",
    ]
    assert end.data["host"] == "host2"
    moves = {(each.data["source_host"], each.data["dest_host"]) for each in ear.heard("migration.")}
    assert moves == {("host1", "host2")}
    assert {each.data["action_id"] for each in ear.heard("migration.")} == {end.data["action_id"]}


def test_operation_that_fails(lab: Lab, ear: Ear) -> None:
    lab.boot(host="host1")
    lab.set("fake", failures=["power_off"])
    action = lab.fail(lab.api.stop_instance(lab.ctxt, "vm"))
    error = ear.wait_for("instance.power_off.error")
    assert ear.types(*OF_OPERATIONS)[2:] == ["instance.power_off.start", "instance.power_off.error"]
    assert error.priority == "error"
    assert (error.data["status"], error.data["error"]) == ("failed", action.error)
    assert error.data["vm_state"] == "active"


def test_operation_that_is_cancelled(lab: Lab, ear: Ear, gate: Callable[[str], Gate]) -> None:
    lab.boot(host="host1")
    held = gate("pre_live_migration")
    action = lab.api.live_migrate_instance(lab.ctxt, "vm", None, MigrationOptions())
    held.wait()
    lab.api.cancel_action(lab.ctxt, action.id)
    held.open()
    assert lab.end_of(action).status is ActionStatus.CANCELLED
    error = ear.wait_for("instance.live_migration.error")
    assert error.data["status"] == "cancelled"
    assert ear.types("migration.")[-1] == "migration.cancelled"


def test_operation_that_is_refused_is_not_told_of(lab: Lab, ear: Ear) -> None:
    lab.boot()
    with pytest.raises(Exception, match="cannot start instance"):
        lab.api.start_instance(lab.ctxt, "vm")
    lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    ear.wait_for("instance.power_off.end")
    assert not ear.types("instance.power_on")


@pytest.mark.meets_errors
def test_error_that_nobody_expected(lab: Lab, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.boot(host="host1")

    def burst(*_: object) -> None:
        raise ZeroDivisionError("oh no")

    monkeypatch.setattr(FakeDriver, "pause", burst)
    action = lab.fail(lab.api.pause_instance(lab.ctxt, "vm"))
    told = ear.wait_for("compute.exception")
    assert told.priority == "error"
    assert told.data["exception"] == "ZeroDivisionError"
    assert "oh no" in told.data["exception_message"]
    assert "host1" in told.data["service"]
    assert told.data["action_id"] == action.id
    ear.wait_for("instance.pause.error")


def test_end_is_told_after_a_takeover(make_lab: Callable[..., Lab], ear: Ear, gate: Callable[[str], Gate]) -> None:
    lab = make_lab("host1")
    lab.boot()
    held = gate("pause")
    action = lab.api.pause_instance(lab.ctxt, "vm")
    held.wait()
    ear.wait_for("instance.pause.start")
    lab.cluster.add_conductor()
    crash_conductor(lab, lab.cluster.conductors[0])
    let_be_taken_over(lab, action)
    held.open()
    lab.succeed(action)
    ear.wait_for("instance.pause.end")
    assert ear.types("instance.pause") == ["instance.pause.start", "instance.pause.end"]


def test_services(lab: Lab, ear: Ear) -> None:
    lab.api.set_service_enabled(lab.ctxt, "host1", False, "maintenance")
    lab.api.set_service_enabled(lab.ctxt, "host1", False, "maintenance")
    lab.api.set_service_enabled(lab.ctxt, "host1", True)
    lab.api.set_service_forced_down(lab.ctxt, "host2", True)
    lab.api.set_service_forced_down(lab.ctxt, "host2", False)
    lab.api.drain_host(lab.ctxt, "host1")
    lab.api.undrain_host(lab.ctxt, "host1")
    lab.stop_compute("host2")
    lab.return_host("host2")
    ear.wait_for("service.update", 7)
    registered = [each.data["host"] for each in ear.heard("service.create")]
    assert sorted(registered) == sorted([lab.conf.host, "host1", "host2"])
    changes = [(each.data["host"], each.data["change"]) for each in ear.heard("service.update")]
    assert changes == [
        ("host1", "disabled"),
        ("host1", "enabled"),
        ("host2", "forced-down"),
        ("host2", "forced-down-unset"),
        ("host1", "drained"),
        ("host1", "undrained"),
        ("host2", "started"),
    ]
    assert ear.heard("service.update")[0].data["disabled_reason"] == "maintenance"


def test_state_that_no_operation_changed(lab: Lab, ear: Ear) -> None:
    instance = lab.boot(host="host1")
    lab.report("host1")
    lab.guest_file("host1", instance.uuid).unlink()
    lab.report("host1")
    lost = ear.wait_for("instance.update")
    assert (lost.data["old_vm_state"], lost.data["vm_state"]) == ("active", "error")
    assert "host1" in lost.data["reason"]
    lab.succeed(lab.api.delete_instance(lab.ctxt, instance.uuid))


def test_only_what_is_wanted_is_sent(conf: cfg.ConfigOpts, ear: Ear, make_lab: Callable[..., Lab]) -> None:
    conf.set_override("event_types", ["*.end", "compute.*"], "notifications")
    lab = make_lab("host1")
    lab.boot()
    lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    ear.wait_for("instance.power_off.end")
    assert ear.types() == ["instance.create.end", "instance.power_off.end"]


def test_nothing_is_sent_by_default(conf: cfg.ConfigOpts, ear: Ear, make_lab: Callable[..., Lab]) -> None:
    conf.clear_override("driver", "oslo_messaging_notifications")
    lab = make_lab("host1")
    lab.boot()
    conf.set_override("driver", ["messagingv2"], "oslo_messaging_notifications")
    conductor = lab.cluster.add_conductor()
    ear.wait_for("service.update")
    assert conductor in lab.cluster.conductors
    assert not ear.types("instance.")
