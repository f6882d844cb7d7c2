"""Live migration that goes well: where to, how, and how far it is."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from oslo_config import cfg
from sqlalchemy import event

from minova.db import models
from minova.exception import InstanceBusy
from minova.objects import Hop, MigrationOptions, MigrationProgress
from minova.states import (
    OPEN_MIGRATION,
    ActionStatus,
    MigrationStatus,
    MigrationType,
    PowerState,
    TaskState,
    TimeoutAction,
    VmState,
)
from minova.virt.fake import FakeDriver
from tests.fixtures.crashes import order_of
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab, wait_until
from tests.fixtures.moves import (
    MIB,
    converge,
    hosts_of,
    live_migrate,
    refused,
    report_progress,
    rooms,
    start_endless,
    wait_for_status,
)

Status = MigrationStatus


@pytest.fixture
def statuses() -> Iterator[list[MigrationStatus]]:
    """Return the list of all statuses that any migration gets from now on."""
    seen: list[MigrationStatus] = []

    def note(_row: object, value: MigrationStatus, *_rest: object) -> None:
        if value not in seen:
            seen.append(value)

    event.listen(models.Migration.status, "set", note)
    yield seen
    event.remove(models.Migration.status, "set", note)


def test_guest_moves_to_the_host_that_was_asked_for(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("host1", "host2", "host3")
    converge(lab)
    before = lab.boot(host="host1")
    action = lab.succeed(live_migrate(lab, "host3"))
    after = lab.instance()
    assert (after.host, after.vm_state, after.power_state) == ("host3", VmState.ACTIVE, PowerState.RUNNING)
    assert hosts_of(lab, before.uuid) == ["host3"]
    assert rooms(lab) == {"host1": [], "host2": [], "host3": ["vm"]}
    migration = lab.migration(action)
    assert (migration.migration_type, migration.status) == (MigrationType.LIVE, Status.COMPLETED)
    assert (migration.source_host, migration.dest_host) == ("host1", "host3")
    assert (migration.action_id, migration.instance_name) == (action.id, "vm")


def test_without_a_choice_the_scheduler_chooses(make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("host1", "host2", "host3")
    converge(lab)
    lab.boot(host="host1")
    lab.boot("other", host="host2")
    lab.succeed(live_migrate(lab))
    assert lab.instance().host == "host3"


def test_guest_moves_there_and_back(lab: Lab) -> None:
    converge(lab)
    lab.boot(host="host1")
    lab.succeed(live_migrate(lab, "host2"))
    lab.succeed(live_migrate(lab, "host1"))
    assert lab.instance().host == "host1"
    assert [each.dest_host for each in lab.api.list_migrations(lab.ctxt, "vm")] == ["host1", "host2"]


def test_instance_shows_that_it_is_migrating_and_holds_room_on_both_hosts(lab: Lab) -> None:
    lab.boot(host="host1")
    action = start_endless(lab)
    instance = lab.instance()
    assert (instance.host, instance.vm_state, instance.task_state) == ("host1", VmState.ACTIVE, TaskState.MIGRATING)
    assert rooms(lab) == {"host1": ["vm"], "host2": ["vm"]}
    lab.api.cancel_action(lab.ctxt, action.id)


def test_paused_guest_stays_paused(lab: Lab) -> None:
    converge(lab)
    uuid = lab.boot(host="host1").uuid
    lab.succeed(lab.api.pause_instance(lab.ctxt, "vm"))
    lab.succeed(live_migrate(lab))
    after = lab.instance()
    assert (after.host, after.vm_state, after.power_state) == ("host2", VmState.PAUSED, PowerState.PAUSED)
    guest = lab.guest("host2", uuid)
    assert guest is not None
    assert guest["power_state"] == "paused"


def test_block_migration_copies_the_disk_too(lab: Lab) -> None:
    converge(lab)
    lab.boot(host="host1", disk_gb=2)
    plain = lab.migration(lab.succeed(live_migrate(lab))).progress
    block = lab.migration(lab.succeed(live_migrate(lab, block_migration=True))).progress
    assert plain.total_bytes == 256 * MIB
    assert block.total_bytes > plain.total_bytes


def test_bandwidth_limit_is_kept(lab: Lab) -> None:
    lab.boot(host="host1")
    lab.set("fake", migration_memory_mb=8, migration_dirty_rate=0.0, migration_bandwidth=1000.0)
    unlimited = lab.migration(lab.succeed(live_migrate(lab))).progress
    limited = lab.migration(lab.succeed(live_migrate(lab, bandwidth_mib=40))).progress
    assert (unlimited.bandwidth, limited.bandwidth) == (1000 * MIB, 40 * MIB)
    assert limited.elapsed >= 8 / 40


def test_source_completes_what_was_asked_for_by_its_configuration(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[MigrationOptions] = []
    for method in ("check_can_live_migrate_source", "live_migration"):
        real = getattr(FakeDriver, method)

        def note(driver: FakeDriver, *args: Any, real: Any = real) -> Any:
            seen.append(args[2])
            return real(driver, *args)

        monkeypatch.setattr(FakeDriver, method, note)
    converge(lab)
    lab.set("compute", live_migration_downtime=70, live_migration_permit_auto_converge=True)
    lab.boot(host="host1")
    lab.succeed(live_migrate(lab, timeout=0))
    complete = MigrationOptions(
        max_downtime_ms=70, auto_converge=True, post_copy=False, timeout=0, timeout_action=TimeoutAction.ABORT
    )
    assert seen == [complete, complete]


def test_status_goes_from_accepted_to_completed(
    lab: Lab, gate: Callable[[str], Gate], statuses: list[MigrationStatus]
) -> None:
    converge(lab)
    check, prepare, finish = (
        gate(method)
        for method in ("check_can_live_migrate_source", "pre_live_migration", "post_live_migration_at_destination")
    )
    lab.boot(host="host1")
    action = live_migrate(lab)
    check.wait()
    assert lab.migration(action).status is Status.ACCEPTED
    check.open()
    prepare.wait()
    assert lab.migration(action).status is Status.PREPARING
    prepare.open()
    finish.wait()
    assert lab.migration(action).status is Status.RUNNING
    finish.open()
    lab.succeed(action)
    assert statuses == [Status.ACCEPTED, Status.PREPARING, Status.RUNNING, Status.COMPLETED]


def test_progress_is_plausible_at_each_look(lab: Lab) -> None:
    lab.boot(host="host1")
    lab.set("fake", migration_dirty_rate=200.0, migration_bandwidth=500.0)
    action = live_migrate(lab, max_downtime_ms=10)
    seen: list[MigrationProgress] = []

    def look() -> bool:
        migration = lab.migration(action)
        if migration.progress.total_bytes and migration.progress not in seen:
            seen.append(migration.progress)
        return migration.status not in OPEN_MIGRATION

    wait_until(look, "the end of the migration")
    lab.succeed(action)
    # How many, and how early the first, depends on the machine.
    assert seen
    for progress in seen:
        assert progress.total_bytes == 256 * MIB == progress.done_bytes + progress.remaining_bytes
        assert (progress.bandwidth, progress.dirty_rate) == (500 * MIB, 200 * MIB)
    for before, after in itertools.pairwise(seen):
        assert before.iteration <= after.iteration
        assert before.elapsed <= after.elapsed
        assert before.done_bytes <= after.done_bytes
    assert seen[-1].iteration > 2
    assert seen[-1].remaining_bytes == 0


def test_progress_of_a_completed_migration_is_complete_whatever_was_lost(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minova.conductor.rpcapi.ConductorAPI.report_migration", lambda *_args: None)
    converge(lab)
    lab.boot(host="host1")
    progress = lab.migration(lab.succeed(live_migrate(lab))).progress
    assert progress.total_bytes == progress.done_bytes == 256 * MIB
    assert progress.remaining_bytes == 0
    assert progress.elapsed > 0


def test_progress_that_arrives_late_does_not_go_backwards(lab: Lab) -> None:
    lab.boot(host="host1")
    lab.set("compute", live_migration_progress_interval=60.0)
    action = start_endless(lab)
    order = order_of(lab, action)
    for elapsed in (100.0, 50.0):
        progress = MigrationProgress(total_bytes=10, done_bytes=1, remaining_bytes=9, iteration=7, elapsed=elapsed)
        report_progress(lab, order, progress)
    assert lab.migration(action).progress.elapsed == 100.0
    lab.api.cancel_action(lab.ctxt, action.id)


def test_trace_names_who_did_what(lab: Lab) -> None:
    converge(lab)
    lab.boot(host="host1")
    action = lab.succeed(live_migrate(lab))
    events = lab.api.list_action_events(lab.ctxt, action.id)
    conductor = f"conductor:{lab.conf.host}"
    assert [(each.step, each.service) for each in events if each.hop is Hop.WORK] == [
        ("prepare_destination", "compute:host2"),
        ("migrate", "compute:host1"),
        ("finish_at_destination", "compute:host2"),
    ]
    calls = [(each.step, each.service) for each in events if each.hop is Hop.CALL]
    assert calls == [("check_source", conductor), ("check_destination", conductor)]
    steps = [each.step for each in events if each.hop is Hop.STEP]
    assert steps == ["select_destination", "begin_preparing", "switch_host", "complete"]


# So many at a time.


def test_one_more_than_allowed_is_queued_until_one_ends(lab: Lab, statuses: list[MigrationStatus]) -> None:
    for name in ("vm1", "vm2"):
        lab.boot(name, host="host1")
    first = start_endless(lab, name="vm1")
    converge(lab)
    second = live_migrate(lab, name="vm2")
    wait_for_status(lab, second, Status.QUEUED)
    assert lab.instance("vm2").host == "host1"
    lab.api.force_complete_migration(lab.ctxt, str(lab.migration(first).uuid))
    lab.succeed(first)
    lab.succeed(second)
    assert {lab.instance(name).host for name in ("vm1", "vm2")} == {"host2"}
    assert Status.QUEUED in statuses


def test_two_run_side_by_side_where_two_are_allowed(lab: Lab) -> None:
    lab.set("compute", max_concurrent_live_migrations=2)
    for name in ("vm1", "vm2"):
        lab.boot(name, host="host1")
    actions = [start_endless(lab, name=name) for name in ("vm1", "vm2")]
    for action in actions:
        lab.api.cancel_action(lab.ctxt, action.id)
        assert lab.end_of(action).status is ActionStatus.CANCELLED


def test_migrations_that_leave_different_hosts_do_not_wait_for_each_other(lab: Lab) -> None:
    lab.boot("vm1", host="host1")
    lab.boot("vm2", host="host2")
    endless = start_endless(lab, name="vm1")
    converge(lab)
    lab.succeed(live_migrate(lab, name="vm2"))
    lab.api.cancel_action(lab.ctxt, endless.id)


def test_migration_takes_no_thread_of_other_work(conf: cfg.ConfigOpts, make_lab: Callable[..., Lab]) -> None:
    conf.set_override("max_concurrent_operations", 1, "compute")
    conf.set_override("max_concurrent_live_migrations", 2, "compute")
    lab = make_lab("host1", "host2")
    for name in ("vm1", "vm2", "other"):
        lab.boot(name, host="host1")
    actions = [start_endless(lab, name=name) for name in ("vm1", "vm2")]
    lab.succeed(lab.api.stop_instance(lab.ctxt, "other"))
    for action in actions:
        lab.api.cancel_action(lab.ctxt, action.id)


def test_nothing_else_is_done_to_a_guest_that_migrates(lab: Lab) -> None:
    lab.boot(host="host1")
    action = start_endless(lab)
    with refused(lab, InstanceBusy, f"is busy (migrating, action {action.id})"):
        lab.api.stop_instance(lab.ctxt, "vm")
    lab.api.cancel_action(lab.ctxt, action.id)


def test_guest_that_the_driver_moves_without_progress_arrives(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver need not call back before the guest is there."""
    real = FakeDriver.live_migration

    def silent(driver: FakeDriver, instance, destination, options, data, _on_progress):  # type: ignore[no-untyped-def]
        real(driver, instance, destination, options, data, lambda _progress: None)

    monkeypatch.setattr(FakeDriver, "live_migration", silent)
    converge(lab)
    lab.boot(host="host1")
    action = lab.succeed(live_migrate(lab))
    assert lab.instance().host == "host2"
    assert lab.migration(action).progress.remaining_bytes == 0
