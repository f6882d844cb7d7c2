"""Live migration that does not go well: aborted, forced, failed, refused; and what is left then, which is nothing."""

from collections.abc import Callable
from typing import Any

import pytest

from minova.exception import (
    HostNotFound,
    HostUnusable,
    InvalidInput,
    InvalidState,
    MinovaError,
    NotCancellable,
    NotForceable,
    NoValidHost,
)
from minova.objects import Action, Hop, Result
from minova.states import ActionStatus, MigrationStatus, PowerState, TimeoutAction, VmState
from minova.virt.fake import FakeDriver
from tests.fixtures.doubts import hear
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab, wait_until
from tests.fixtures.moves import (
    compute_api,
    converge,
    driver_of,
    hosts_of,
    live_migrate,
    never_converge,
    refused,
    rooms,
    start_endless,
    wait_for_status,
)

pytestmark = pytest.mark.every_database


def assert_nothing_has_moved(lab: Lab, name: str = "vm", state: VmState = VmState.ACTIVE) -> None:
    """Check that an instance is as it was on host1, where its guest runs."""
    instance = lab.instance(name)
    assert (instance.host, instance.vm_state, instance.task_state) == ("host1", state, None)
    assert instance.power_state is PowerState.RUNNING
    guest = lab.guest("host1", instance.uuid)
    assert guest is not None
    assert (guest["power_state"], guest["migration"]) == ("running", None)
    assert hosts_of(lab, instance.uuid) == ["host1"]
    assert name not in rooms(lab)["host2"]


# Aborted.


def test_running_migration_can_be_aborted(lab: Lab) -> None:
    lab.boot(host="host1")
    action = start_endless(lab)
    aborted = lab.api.abort_migration(lab.ctxt, str(lab.migration(action).uuid))
    assert (aborted.id, aborted.cancel_requested) == (action.id, True)
    ended = lab.end_of(action)
    assert ended.status is ActionStatus.CANCELLED
    assert "aborted" in ended.error
    assert lab.migration(action).status is MigrationStatus.CANCELLED
    assert_nothing_has_moved(lab)
    assert lab.api.list_faults(lab.ctxt, "vm") == []


def test_aborted_instance_can_be_migrated_again(lab: Lab) -> None:
    lab.boot(host="host1")
    action = start_endless(lab)
    lab.api.cancel_action(lab.ctxt, action.id)
    lab.end_of(action)
    converge(lab)
    lab.succeed(live_migrate(lab, "host2"))
    assert lab.instance().host == "host2"


def test_queued_migration_can_be_aborted_while_the_first_goes_on(lab: Lab) -> None:
    for name in ("vm1", "vm2"):
        lab.boot(name, host="host1")
    first = start_endless(lab, name="vm1")
    second = live_migrate(lab, name="vm2")
    wait_for_status(lab, second, MigrationStatus.QUEUED)
    lab.api.abort_migration(lab.ctxt, str(lab.migration(second).uuid))
    assert lab.end_of(second).status is ActionStatus.CANCELLED
    assert lab.migration(second).status is MigrationStatus.CANCELLED
    assert_nothing_has_moved(lab, "vm2")
    assert lab.migration(first).status is MigrationStatus.RUNNING
    lab.api.abort_migration(lab.ctxt, str(lab.migration(first).uuid))
    assert lab.end_of(first).status is ActionStatus.CANCELLED


def test_abort_that_the_hypervisor_refuses_is_tried_again(lab: Lab) -> None:
    lab.boot(host="host1")
    action = start_endless(lab)
    lab.set("fake", failures=["live_migration_abort"])
    lab.api.cancel_action(lab.ctxt, action.id)
    before = lab.migration(action).progress.elapsed
    wait_until(lambda: lab.migration(action).progress.elapsed > before, "more progress")
    lab.set("fake", failures=[])
    assert lab.end_of(action).status is ActionStatus.CANCELLED
    assert_nothing_has_moved(lab)


def test_abort_that_comes_too_late_leaves_the_guest_where_it_is_by_then(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.boot(host="host1")
    action = start_endless(lab)
    monkeypatch.setattr(FakeDriver, "live_migration_abort", lambda *_: None)
    lab.api.cancel_action(lab.ctxt, action.id)
    lab.api.force_complete_migration(lab.ctxt, str(lab.migration(action).uuid))
    lab.succeed(action)
    assert lab.migration(action).status is MigrationStatus.COMPLETED
    assert lab.instance().host == "host2"


def test_late_abort_does_not_hit_the_next_migration(lab: Lab) -> None:
    lab.boot(host="host1")
    first = start_endless(lab)
    lab.api.cancel_action(lab.ctxt, first.id)
    lab.end_of(first)
    second = start_endless(lab)
    compute_api(lab).live_migration_abort(lab.ctxt, "host1", first.id, first.instance_uuid)
    before = lab.migration(second).progress.elapsed
    wait_until(lambda: lab.migration(second).progress.elapsed > before + 0.1, "more progress")
    assert lab.migration(second).status is MigrationStatus.RUNNING
    lab.api.cancel_action(lab.ctxt, second.id)


def test_migration_that_somebody_aborts_at_the_hypervisor_is_cancelled(lab: Lab) -> None:
    uuid = lab.boot(host="host1").uuid
    action = start_endless(lab)
    driver_of(lab, "host1").live_migration_abort(uuid)
    assert lab.end_of(action).status is ActionStatus.CANCELLED
    assert_nothing_has_moved(lab)


# Forced, or out of time.


def test_migration_that_does_not_converge_can_be_forced_to_its_end(lab: Lab) -> None:
    lab.boot(host="host1")
    action = start_endless(lab)
    assert lab.api.force_complete_migration(lab.ctxt, str(lab.migration(action).uuid)).id == action.id
    lab.succeed(action)
    after = lab.instance()
    assert (after.host, after.vm_state, after.power_state) == ("host2", VmState.ACTIVE, PowerState.RUNNING)


def test_migration_that_copies_nothing_yet_cannot_be_forced(lab: Lab, gate: Callable[[str], Gate]) -> None:
    prepare = gate("pre_live_migration")
    converge(lab)
    lab.boot(host="host1")
    action = live_migrate(lab)
    prepare.wait()
    with pytest.raises(NotForceable, match="it is preparing"):
        lab.api.force_complete_migration(lab.ctxt, str(lab.migration(action).uuid))
    prepare.open()
    lab.succeed(action)


def test_migration_that_takes_too_long_fails_and_the_guest_runs_on(lab: Lab) -> None:
    lab.set("compute", live_migration_completion_timeout=1)
    # The limit counts for each GiB, and at least for two.
    lab.boot(host="host1")
    action = start_endless(lab)
    failed = lab.fail(action)
    verdict = "it does not converge: dirty rate 4000 MiB/s, bandwidth 2000 MiB/s"
    assert failed.error == f"the migration of {failed.instance_uuid} failed: it did not end within 2 s: {verdict}"
    assert lab.fault().message == failed.error
    assert failed.error in [event.message for event in lab.api.list_action_events(lab.ctxt, action.id)]
    assert lab.migration(action).status is MigrationStatus.FAILED
    assert_nothing_has_moved(lab)


def test_migration_that_takes_too_long_is_forced_if_the_policy_says_so(lab: Lab) -> None:
    lab.set("compute", live_migration_completion_timeout=1, live_migration_timeout_action="force_complete")
    lab.boot(host="host1")
    action = lab.succeed(start_endless(lab))
    after = lab.instance()
    assert (after.host, after.vm_state, after.power_state) == ("host2", VmState.ACTIVE, PowerState.RUNNING)
    assert [event.message for event in lab.api.list_action_events(lab.ctxt, action.id) if event.message] == [
        "it did not end within 2 s: it does not converge: dirty rate 4000 MiB/s, bandwidth 2000 MiB/s, "
        "and was forced to its end"
    ]
    assert lab.api.list_faults(lab.ctxt, "vm") == []


def test_guest_that_may_be_slowed_down_converges(lab: Lab) -> None:
    lab.boot(host="host1")
    never_converge(lab)
    lab.set("compute", live_migration_permit_auto_converge=True)
    action = lab.succeed(live_migrate(lab))
    progress = lab.migration(action).progress
    assert progress.throttle >= 20
    assert progress.dirty_rate < progress.bandwidth
    assert lab.instance().host == "host2"


def start_slow(lab: Lab, **options: Any) -> Action:
    """Boot a guest whose memory takes 4 s to be copied, which would not end, and start a migration with post-copy."""
    lab.boot(host="host1")
    lab.set("fake", migration_memory_mb=800, migration_dirty_rate=400.0, migration_bandwidth=200.0)
    lab.set("compute", live_migration_progress_interval=0.05)
    return live_migrate(lab, post_copy=True, **options)


def wait_for_post_copy(lab: Lab, action: Action) -> None:
    wait_until(lambda: lab.migration(action).progress.post_copy, "post-copy")


def test_guest_that_goes_on_by_post_copy_is_at_the_destination_and_is_not_called_back(lab: Lab) -> None:
    action = start_slow(lab)
    wait_for_status(lab, action, MigrationStatus.RUNNING)
    lab.api.force_complete_migration(lab.ctxt, action.id)
    wait_for_post_copy(lab, action)
    assert hosts_of(lab, action.instance_uuid) == ["host2"]
    for call_back in (lab.api.abort_migration, lab.api.cancel_action):
        with pytest.raises(NotCancellable, match="its guest runs at the destination already, in post-copy"):
            call_back(lab.ctxt, action.id)
    for host in ("host1", "host2"):
        lab.report(host)
    lab.succeed(action)
    assert (lab.instance().host, lab.instance().power_state) == ("host2", PowerState.RUNNING)
    assert lab.migration(action).progress.post_copy


def test_migration_that_takes_too_long_goes_on_by_post_copy_where_that_is_permitted(lab: Lab) -> None:
    action = start_slow(lab, timeout=1, timeout_action=TimeoutAction.FORCE_COMPLETE)
    wait_for_post_copy(lab, action)
    lab.succeed(action)
    messages = [event.message for event in lab.api.list_action_events(lab.ctxt, action.id)]
    assert "it did not end within 1 s, and was forced to its end" in messages


# Failed.

_FAILING = {
    "check_can_live_migrate_source": "check_source",
    "host2:check_can_live_migrate_destination": "check_destination",
    "host2:pre_live_migration": "prepare_destination",
    "live_migration": "migrate",
}


@pytest.mark.parametrize("failure", _FAILING)
def test_migration_that_fails_before_the_guest_has_left_is_undone(lab: Lab, failure: str) -> None:
    converge(lab)
    lab.boot(host="host1")
    lab.set("fake", failures=[failure])
    failed = lab.fail(live_migrate(lab))
    assert "injected failure" in failed.error
    assert lab.migration(failed).status is MigrationStatus.FAILED
    assert_nothing_has_moved(lab)
    [fault] = lab.api.list_faults(lab.ctxt, "vm")
    assert (fault.message, fault.action_id) == (failed.error, failed.id)
    events = lab.api.list_action_events(lab.ctxt, failed.id)
    assert _FAILING[failure] in {each.step for each in events if each.result is Result.FAILED}
    rolled_back = "rollback_destination" in {each.step for each in events if each.hop is Hop.WORK}
    assert rolled_back == ("check_can" not in failure)
    lab.set("fake", failures=[])
    lab.succeed(live_migrate(lab))


def test_failure_after_the_guest_has_left_leaves_it_at_the_destination(lab: Lab) -> None:
    converge(lab)
    uuid = lab.boot(host="host1").uuid
    lab.set("fake", failures=["host2:post_live_migration_at_destination"])
    failed = lab.fail(live_migrate(lab))
    assert "finish_at_destination on host host2 was not done" in failed.error
    assert lab.migration(failed).status is MigrationStatus.ERROR
    instance = lab.instance()
    assert (instance.host, instance.vm_state, instance.task_state) == ("host2", VmState.ERROR, None)
    assert hosts_of(lab, uuid) == ["host2"]
    assert rooms(lab) == {"host1": [], "host2": ["vm"]}
    assert {"LeftBehind", "OperationRefused"} < {fault.code for fault in lab.api.list_faults(lab.ctxt, "vm")}
    lab.set("fake", failures=[])
    hear(lab, failed)
    assert (lab.instance().host, lab.instance().vm_state) == ("host2", VmState.ACTIVE), "the guest is seen there"


def test_undo_that_fails_is_told_and_the_rest_is_undone(lab: Lab) -> None:
    converge(lab)
    uuid = lab.boot(host="host1").uuid
    lab.set("fake", failures=["live_migration", "rollback_live_migration_at_destination"])
    failed = lab.fail(live_migrate(lab))
    assert "rollback_destination on host host2 was not done: " in failed.error
    assert lab.migration(failed).status is MigrationStatus.ERROR
    assert hosts_of(lab, uuid) == ["host1"]
    assert rooms(lab)["host2"] == []
    hear(lab, failed)
    assert (lab.instance().host, lab.instance().vm_state) == ("host1", VmState.ACTIVE)
    assert "LeftBehind" in [fault.code for fault in lab.api.list_faults(lab.ctxt, "vm")]


def test_undo_waits_for_a_hypervisor_that_is_still_at_the_move(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    real, looks = FakeDriver.rollback_live_migration_at_destination, iter((False, True))

    def roll_back(driver: FakeDriver, uuid: str) -> None:
        if not next(looks):
            raise HostUnusable(host="host2", reason="the guest is still arriving")
        real(driver, uuid)

    monkeypatch.setattr(FakeDriver, "rollback_live_migration_at_destination", roll_back)
    converge(lab)
    lab.boot(host="host1")
    lab.set("fake", failures=["live_migration"])
    failed = lab.fail(live_migrate(lab))
    assert lab.migration(failed).status is MigrationStatus.FAILED
    assert_nothing_has_moved(lab)
    assert next(looks, None) is None


@pytest.mark.meets_errors
def test_accident_at_the_source_is_cleared_up_by_what_the_destination_says(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody expected does not tell whether the guest has left: here it has."""
    real = FakeDriver.live_migration

    def trip_at_the_end(driver: FakeDriver, *args: object) -> None:
        real(driver, *args)  # type: ignore[arg-type]
        raise RuntimeError("tripped")

    monkeypatch.setattr(FakeDriver, "live_migration", trip_at_the_end)
    converge(lab)
    lab.boot(host="host1")
    lab.succeed(live_migrate(lab))
    assert lab.instance().host == "host2"
    assert "tripped" in lab.fault().message


# Refused.


def stop(lab: Lab) -> None:
    lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))


def fill_host2(lab: Lab) -> None:
    lab.boot("big", host="host2", memory_mb=lab.conf.fake.memory_mb - 100)


@pytest.mark.parametrize(
    ("before", "to", "kind", "words"),
    [
        (stop, None, InvalidState, "it is stopped"),
        (lambda lab: lab.silence("host1"), None, HostUnusable, "host1 cannot be used: it was not heard from"),
        (
            lambda lab: lab.api.set_service_forced_down(lab.ctxt, "host1", True),
            None,
            HostUnusable,
            "host1 cannot be used: it is forced down",
        ),
        (lambda lab: None, "host1", InvalidInput, "is on host host1 already"),
        (lambda lab: None, "host9", HostNotFound, "no such host: host9"),
        (lambda lab: lab.silence("host2"), "host2", HostUnusable, "it is down, or was not heard from"),
        (
            lambda lab: lab.api.set_service_forced_down(lab.ctxt, "host2", True),
            "host2",
            HostUnusable,
            "it is down, or was not heard from",
        ),
        (
            lambda lab: lab.api.set_service_enabled(lab.ctxt, "host2", False, "repair"),
            "host2",
            HostUnusable,
            "its service is disabled",
        ),
        (lambda lab: lab.api.drain_host(lab.ctxt, "host2"), "host2", HostUnusable, "it is being drained"),
        (fill_host2, "host2", HostUnusable, "it has less than 256 MiB of memory free"),
        (fill_host2, None, NoValidHost, "enough memory refused 1"),
    ],
    ids=[
        "stopped",
        "source silent",
        "source down",
        "same host",
        "no such host",
        "destination silent",
        "destination down",
        "destination disabled",
        "destination draining",
        "destination too small",
        "no room anywhere",
    ],
)
def test_migration_is_refused(
    lab: Lab, before: Callable[[Lab], object], to: str | None, kind: type[MinovaError], words: str
) -> None:
    lab.boot(host="host1")
    before(lab)
    with refused(lab, kind, words):
        live_migrate(lab, to)
    assert lab.api.list_migrations(lab.ctxt, "vm") == []
