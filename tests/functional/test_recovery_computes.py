"""No operation is lost when a compute dies with an order in hand: back again, it is told once more."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from oslo_config import cfg

from minova.objects import Action, Hop
from minova.states import MigrationStatus, VmState
from minova.virt.fake import FakeDriver
from tests.fixtures.crashes import crash_compute, lose_reports, wait_for_outcome
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab, wait_until
from tests.fixtures.moves import converge, hosts_of, live_migrate, start_endless

NEVER = 3600
"""A lease, in seconds, that does not run out during a test: what is sent again, is sent because the host is back."""


@pytest.fixture
def lab(conf: cfg.ConfigOpts, make_lab: Callable[..., Lab]) -> Lab:
    """A conductor and two computes; no lease runs out."""
    conf.set_override("lease", NEVER, "conductor")
    lab = make_lab("host1", "host2")
    converge(lab)
    return lab


@dataclass(frozen=True)
class Case:
    """An operation, and at which host and which of its driver's methods that host dies."""

    name: str
    host: str
    method: str
    request: Callable[[Lab], Action]
    before: VmState = VmState.ACTIVE
    after: tuple[str | None, VmState] = ("host1", VmState.ACTIVE)

    def __str__(self) -> str:
        return f"{self.name}-{self.method}"


def evacuate(lab: Lab) -> Action:
    lab.kill_host("host1")
    lab.api.set_service_forced_down(lab.ctxt, "host1", True)
    return lab.api.evacuate_instance(lab.ctxt, "vm", None)


def boot(lab: Lab) -> Action:
    lab.succeed(lab.api.delete_instance(lab.ctxt, "vm"))
    return lab.api.boot_instance(lab.ctxt, lab.request(host="host1"))


def reboot_hard(lab: Lab) -> Action:
    return lab.api.reboot_instance(lab.ctxt, "vm", True)


def migrate(lab: Lab) -> Action:
    return lab.api.migrate_instance(lab.ctxt, "vm", None)


MOVED = ("host2", VmState.ACTIVE)
CASES = (
    Case("boot", "host1", "spawn", boot),
    Case(
        "delete", "host1", "destroy", lambda lab: lab.api.delete_instance(lab.ctxt, "vm"), after=(None, VmState.DELETED)
    ),
    Case("start", "host1", "power_on", lambda lab: lab.api.start_instance(lab.ctxt, "vm"), before=VmState.STOPPED),
    Case(
        "stop",
        "host1",
        "power_off",
        lambda lab: lab.api.stop_instance(lab.ctxt, "vm"),
        after=("host1", VmState.STOPPED),
    ),
    Case(
        "pause", "host1", "pause", lambda lab: lab.api.pause_instance(lab.ctxt, "vm"), after=("host1", VmState.PAUSED)
    ),
    Case("unpause", "host1", "unpause", lambda lab: lab.api.unpause_instance(lab.ctxt, "vm"), before=VmState.PAUSED),
    Case("reboot", "host1", "reboot", reboot_hard),
    Case("rebuild", "host1", "spawn", lambda lab: lab.api.rebuild_instance(lab.ctxt, "vm")),
    Case("live", "host2", "pre_live_migration", live_migrate, after=MOVED),
    Case("live", "host1", "live_migration", live_migrate, after=MOVED),
    Case("live", "host2", "post_live_migration_at_destination", live_migrate, after=MOVED),
    Case("cold", "host1", "migrate_disk_and_power_off", migrate, after=MOVED),
    Case("cold", "host2", "finish_migration", migrate, after=MOVED),
    Case("evacuate", "host2", "spawn", evacuate, after=MOVED),
)

every_case = pytest.mark.parametrize("case", CASES, ids=str)


def prepare(lab: Lab, case: Case) -> None:
    lab.boot(host="host1")
    if case.before is VmState.STOPPED:
        lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    elif case.before is VmState.PAUSED:
        lab.succeed(lab.api.pause_instance(lab.ctxt, "vm"))


def assert_done_once(lab: Lab, case: Case, action: Action) -> None:
    """Check that the action has succeeded, and that all is as if nobody had died."""
    lab.succeed(action)
    instance = lab.api.get_instance(lab.ctxt, action.instance_uuid)
    assert (instance.host, instance.vm_state) == case.after
    left = {"host1"} & lab.dead_hosts if instance.host != "host1" else set()
    assert set(hosts_of(lab, action.instance_uuid)) - left == {instance.host} - {None}
    again = [each for each in lab.api.list_action_events(lab.ctxt, action.id) if each.hop is Hop.TAKEOVER]
    assert [each.attempt for each in again] == [2]


@every_case
def test_order_that_died_with_its_compute_is_done_on_its_return(
    lab: Lab, gate: Callable[[str], Gate], case: Case
) -> None:
    prepare(lab, case)
    held = gate(case.method)
    action = case.request(lab)
    held.wait()
    crash_compute(lab, case.host)
    held.open()
    lab.return_host(case.host)
    assert_done_once(lab, case, action)


@every_case
def test_order_that_was_done_and_never_reported_is_done_once_in_effect(
    lab: Lab, gate: Callable[[str], Gate], case: Case
) -> None:
    prepare(lab, case)
    held = gate(case.method)
    action = case.request(lab)
    held.wait()
    lose_reports(lab.cluster.computes[case.host])
    held.open()
    wait_for_outcome(lab.cluster.computes[case.host])
    crash_compute(lab, case.host)
    lab.return_host(case.host)
    assert_done_once(lab, case, action)


def test_undo_that_died_with_its_compute_is_done_on_its_return(lab: Lab, gate: Callable[[str], Gate]) -> None:
    lab.boot(host="host1")
    lab.set("fake", failures=["live_migration"])
    rollback = gate("rollback_live_migration_at_destination")
    action = live_migrate(lab)
    rollback.wait()
    crash_compute(lab, "host2")
    rollback.open()
    lab.return_host("host2")
    lab.fail(action)
    assert lab.migration(action).status is MigrationStatus.FAILED
    assert lab.instance().vm_state is VmState.ACTIVE


def test_order_that_reached_nobody_is_waiting_when_the_compute_comes(lab: Lab) -> None:
    """It is still in the queue, and sent once more: it is done once."""
    lab.boot(host="host1")
    crash_compute(lab, "host1")
    action = lab.api.stop_instance(lab.ctxt, "vm")
    lab.return_host("host1")
    lab.succeed(action)
    work = [each for each in lab.api.list_action_events(lab.ctxt, action.id) if each.hop is Hop.WORK]
    assert len(work) == 1


def test_compute_joins_the_live_migration_that_went_on_without_it(lab: Lab) -> None:
    uuid = lab.boot(host="host1").uuid
    action = start_endless(lab)
    crash_compute(lab, "host1")
    before = lab.guest("host1", uuid)
    lab.return_host("host1")
    elapsed = lab.migration(action).progress.elapsed
    wait_until(lambda: lab.migration(action).progress.elapsed > elapsed, "more progress")
    now = lab.guest("host1", uuid)
    assert before is not None
    assert now is not None
    assert now["migration"]["started_at"] == before["migration"]["started_at"]
    lab.api.force_complete_migration(lab.ctxt, str(lab.migration(action).uuid))
    lab.succeed(action)
    assert lab.instance().host == "host2"


def test_live_migration_that_is_joined_waits_for_no_other(lab: Lab) -> None:
    """It takes its share of the host's bandwidth anyway, whatever else was begun before it was joined."""
    for name in ("vm1", "vm2"):
        lab.boot(name, host="host1")
    first = start_endless(lab, name="vm1")
    second = live_migrate(lab, name="vm2")
    wait_until(lambda: lab.migration(second).status is MigrationStatus.QUEUED, "the queue")
    crash_compute(lab, "host1")
    lab.return_host("host1")
    elapsed = lab.migration(first).progress.elapsed
    wait_until(lambda: lab.migration(first).progress.elapsed > elapsed, "more progress")
    for action in (first, second):
        lab.api.cancel_action(lab.ctxt, action.id)
        lab.end_of(action)


def test_live_migration_is_forced_to_its_end_though_its_compute_was_away(lab: Lab) -> None:
    lab.boot(host="host1")
    action = start_endless(lab)
    crash_compute(lab, "host1")
    lab.api.force_complete_migration(lab.ctxt, str(lab.migration(action).uuid))
    lab.return_host("host1")
    lab.succeed(action)
    assert lab.instance().host == "host2"


def test_live_migration_is_cancelled_though_its_compute_was_away(lab: Lab) -> None:
    uuid = lab.boot(host="host1").uuid
    action = start_endless(lab)
    crash_compute(lab, "host1")
    lab.api.cancel_action(lab.ctxt, action.id)
    lab.return_host("host1")
    assert lab.end_of(action).status == "cancelled"
    assert hosts_of(lab, uuid) == ["host1"]
    assert (lab.instance().host, lab.instance().vm_state) == ("host1", VmState.ACTIVE)


def test_stopped_compute_finishes_what_it_is_at_and_reports_it(lab: Lab, gate: Callable[[str], Gate]) -> None:
    power_off = gate("power_off")
    lab.boot(host="host1")
    action = lab.api.stop_instance(lab.ctxt, "vm")
    power_off.wait()
    stopping = threading.Thread(target=lab.stop_compute, args=("host1",))
    stopping.start()
    power_off.open()
    lab.succeed(action)
    stopping.join()
    again = [each for each in lab.api.list_action_events(lab.ctxt, action.id) if each.hop is Hop.TAKEOVER]
    assert again == []


def test_compute_that_is_stopped_before_it_began_does_nothing(
    lab: Lab, gate: Callable[[str], Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real = FakeDriver.spawn

    def spawn(driver: FakeDriver, instance: Any, **more: Any) -> None:
        calls.append(instance.name)
        real(driver, instance, **more)

    monkeypatch.setattr(FakeDriver, "spawn", spawn)
    lab.set("rpc", quick_timeout=0.2)
    lab.stop_compute("host1")
    conductor = lab.cluster.conductors[0]
    action = lab.api.boot_instance(lab.ctxt, lab.request(host="host1"))
    wait_until(lambda: not conductor.engine.active_actions(), "the order")
    conductor._server.stop()
    conductor._server.wait()
    compute = lab.cluster.add_compute("host1", wait=False)
    wait_until(compute._work.orders, "the order at the compute")
    lab.stop_compute("host1")
    assert calls == []
    lab.set("rpc", quick_timeout=10.0)
    lab.cluster.conductors.remove(conductor)
    conductor.stop()
    lab.cluster.add_conductor()
    lab.return_host("host1")
    lab.succeed(action)
    assert calls == ["vm"]
