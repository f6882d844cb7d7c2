"""What hosts report is compared with what the database says, and nothing is guessed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from sqlalchemy import text

from minova.conductor.leases import Leases
from minova.conductor.reconcile import Reconciler
from minova.db import models
from minova.db.queries import COMPUTE
from minova.objects import HostDirective, HostReport, utcnow
from minova.states import (
    MigrationStatus,
    MigrationType,
    PowerState,
    TaskState,
    Verb,
    VmState,
)
from tests.unit.conductor.rig import INSTANCE, Rig, a_guest, a_report
from tests.unit.rows import an_instance

KEEP: tuple[str, ...] = ()
DESTROY = (INSTANCE,)
LIVE, COLD, EVACUATION = MigrationType.LIVE, MigrationType.COLD, MigrationType.EVACUATION
COMPLETED, FAILED, ERROR = MigrationStatus.COMPLETED, MigrationStatus.FAILED, MigrationStatus.ERROR


class Noted:
    """Stands in for the leases, and notes what it is told."""

    def __init__(self) -> None:
        self.renewed: list[tuple[str, int]] = []
        self.returned: list[tuple[str, tuple[tuple[str, int], ...]]] = []

    def renew_orders(self, orders: Sequence[tuple[str, int]]) -> None:
        self.renewed.extend(orders)

    def host_returned(self, host: str, held: Sequence[tuple[str, int]]) -> None:
        self.returned.append((host, tuple(held)))


@pytest.fixture
def leases() -> Noted:
    return Noted()


@pytest.fixture
def reconciler(rig: Rig, leases: Noted) -> Reconciler:
    rig.settle()
    return Reconciler(rig.conf, rig.database, rig.services.scheduler, cast("Leases", leases))


def decided(reconciler: Reconciler, report: HostReport) -> HostDirective:
    """Return what a host has to do; when that was decided is another matter."""
    return replace(reconciler.take(report), decided_at=None)


def state(rig: Rig) -> tuple[VmState, PowerState]:
    return rig.instance.vm_state, rig.instance.power_state


def moved(rig: Rig, kind: MigrationType, status: MigrationStatus, source: str, dest: str, *, age: int = 0) -> None:
    """Let there have been a migration of the instance, so many minutes ago."""

    def work(session: Any) -> None:
        when = utcnow() - timedelta(minutes=age)
        uuid = f"migration-{age}"
        action = models.Action(
            id=uuid,
            verb=Verb.MIGRATE,
            instance_uuid=INSTANCE,
            status="succeeded",
            step="complete",
            owner="",
            lease_expires_at=when,
            heard_at=when,
            previous_vm_state=VmState.ACTIVE,
            cancel_requested=False,
            args={},
            data={},
            request_id="",
            user="",
            submitted_at=when,
        )
        session.add(action)
        session.flush()
        session.add(
            models.Migration(
                uuid=uuid,
                instance_uuid=INSTANCE,
                action_id=uuid,
                migration_type=kind,
                status=status,
                source_host=source,
                dest_host=dest,
                progress={},
                created_at=when,
                updated_at=when,
            )
        )

    rig.database.write(work)


# The host itself.


def test_report_registers_a_host_that_is_new(rig: Rig, reconciler: Reconciler) -> None:
    assert decided(reconciler, a_report("new", started=True)) == HostDirective()
    with rig.database.read() as session:
        service = session.get_one(models.Service, (COMPUTE, "new"))
        node = session.get_one(models.ComputeNode, "new")
    assert (service.enabled, service.forced_down, service.draining) == (True, False, False)
    assert (node.vcpus, node.memory_mb, node.disk_gb, node.vcpus_used) == (8, 8192, 100, 0)


def test_report_is_the_heartbeat(rig: Rig, reconciler: Reconciler) -> None:
    rig.change(models.Service, (COMPUTE, "host2"), last_seen_at=utcnow() - timedelta(days=1))
    reconciler.take(a_report("host2"))
    with rig.database.read() as session:
        assert session.get_one(models.Service, (COMPUTE, "host2")).last_seen_at > utcnow() - timedelta(minutes=1)


@pytest.mark.parametrize("same_process", [True, False])
def test_report_that_was_overtaken_is_no_heartbeat(rig: Rig, reconciler: Reconciler, same_process: bool) -> None:
    now, gone = utcnow(), utcnow() - timedelta(days=1)
    reconciler.take(a_report("host2", started_at=now, made_at=now, started=True, rpc_version="1.1"))
    rig.change(models.Service, (COMPUTE, "host2"), last_seen_at=gone)
    started = now if same_process else now - timedelta(hours=1)
    late = a_report("host2", started_at=started, made_at=now - timedelta(seconds=1), rpc_version="1.0")
    reconciler.take(replace(late, capacity=replace(late.capacity, vcpus=1)))
    with rig.database.read() as session:
        service = session.get_one(models.Service, (COMPUTE, "host2"))
        node = session.get_one(models.ComputeNode, "host2")
    assert (service.last_seen_at, service.rpc_version, node.vcpus) == (gone, "1.1", 8)


def test_orders_in_hand_are_renewed(reconciler: Reconciler, leases: Noted) -> None:
    reconciler.take(a_report("host1", a_guest(), orders=(("action", 3),)))
    assert (leases.renewed, leases.returned) == ([("action", 3)], [])


def test_host_is_told_which_of_its_orders_are_of_actions_that_are_over(rig: Rig, reconciler: Reconciler) -> None:
    ended, open_ = rig.succeed(rig.begin(Verb.STOP)), rig.begin(Verb.START)
    report = a_report("host1", orders=((ended.id, 1), (ended.id, 2), (open_.id, 1), ("of no action", 1)))
    over = tuple(sorted((ended.id, "of no action")))
    assert reconciler.take(report).over == over
    strange = text("update actions set status = 'of_tomorrow' where finished_at is null")
    rig.database.write(lambda session: session.execute(strange))
    assert reconciler.take(replace(report, made_at=utcnow())).over == over


def test_host_that_has_just_started_is_sent_what_it_does_not_hold(reconciler: Reconciler, leases: Noted) -> None:
    reconciler.take(a_report("host1", a_guest(), started=True, orders=(("action", 3),)))
    assert leases.returned == [("host1", (("action", 3),))]


def test_host_that_is_fenced_is_told_so_and_sent_nothing(rig: Rig, reconciler: Reconciler, leases: Noted) -> None:
    rig.change(models.Service, (COMPUTE, "host1"), forced_down=True)
    assert decided(reconciler, a_report("host1", a_guest(), started=True)) == HostDirective(fenced=True)
    assert leases.returned == []


# Guests that are where they should be.


def test_nothing_is_corrected_where_all_is_well(rig: Rig, reconciler: Reconciler) -> None:
    before = rig.instance.updated_at
    assert decided(reconciler, a_report("host1", a_guest())) == HostDirective()
    assert rig.instance.updated_at == before
    assert rig.faults() == []


@pytest.mark.parametrize(
    ("power_state", "vm_state"),
    [
        (PowerState.SHUTDOWN, VmState.STOPPED),
        (PowerState.PAUSED, VmState.PAUSED),
        (PowerState.CRASHED, VmState.ERROR),
    ],
)
def test_power_state_is_what_the_host_says(
    rig: Rig, reconciler: Reconciler, power_state: PowerState, vm_state: VmState
) -> None:
    reconciler.take(a_report("host1", a_guest(power_state)))
    assert state(rig) == (vm_state, power_state)


def test_guest_that_is_gone_leaves_its_instance_in_error(rig: Rig, reconciler: Reconciler) -> None:
    reconciler.take(a_report("host1"))
    assert state(rig) == (VmState.ERROR, PowerState.NOSTATE)
    assert rig.instance.host == "host1"
    assert rig.faults() == [("GuestNotFound", "host host1 reports no such guest")]
    rig.settle()
    reconciler.take(a_report("host1"))
    assert len(rig.faults()) == 1


def test_guest_that_reappears_is_counted_on_again(rig: Rig, reconciler: Reconciler) -> None:
    reconciler.take(a_report("host1"))
    rig.settle()
    reconciler.take(a_report("host1", a_guest()))
    assert state(rig) == (VmState.ACTIVE, PowerState.RUNNING)


def test_instance_that_is_being_worked_on_is_left_alone(rig: Rig, reconciler: Reconciler) -> None:
    rig.change(models.Instance, INSTANCE, task_state=TaskState.REBOOTING)
    reconciler.take(a_report("host1"))
    assert state(rig) == (VmState.ACTIVE, PowerState.RUNNING)


def test_report_that_may_be_older_than_the_last_change_is_not_believed(rig: Rig, reconciler: Reconciler) -> None:
    rig.change(models.Instance, INSTANCE, updated_at=utcnow())
    reconciler.take(a_report("host1"))
    assert state(rig) == (VmState.ACTIVE, PowerState.RUNNING)
    reconciler.take(a_report("host1"))
    assert state(rig) == (VmState.ERROR, PowerState.NOSTATE)


def test_report_that_was_overtaken_by_a_newer_one_is_not_believed(rig: Rig, reconciler: Reconciler) -> None:
    started, now = utcnow() - timedelta(hours=1), utcnow()
    reconciler.take(a_report("host1", a_guest(), started_at=started, made_at=now))
    late = a_report("host1", started_at=started, made_at=now - timedelta(seconds=1))
    assert decided(reconciler, late) == HostDirective()
    assert state(rig) == (VmState.ACTIVE, PowerState.RUNNING)


def test_report_of_a_process_that_is_no_more_is_not_believed(rig: Rig, reconciler: Reconciler) -> None:
    now = utcnow()
    before = now - timedelta(hours=1)
    reconciler.take(a_report("host1", a_guest(), started_at=now, made_at=now, started=True))
    late = a_report("host1", started_at=before, made_at=before + timedelta(minutes=1))
    assert decided(reconciler, late) == HostDirective()
    assert state(rig) == (VmState.ACTIVE, PowerState.RUNNING)


def test_host_that_is_answered_twice_is_told_the_same(rig: Rig, reconciler: Reconciler) -> None:
    moved(rig, EVACUATION, COMPLETED, "host2", "host1")
    report = a_report("host2", a_guest(), started=True)
    assert [reconciler.take(report).destroy for _ in range(2)] == [DESTROY, DESTROY]


def test_host_whose_clock_was_set_back_is_told_what_to_destroy(rig: Rig, reconciler: Reconciler) -> None:
    moved(rig, EVACUATION, COMPLETED, "host2", "host1")
    report = a_report("host2", started=True)
    reconciler.take(report)
    earlier = replace(report, made_at=report.made_at - timedelta(hours=1), guests=(a_guest(),))
    assert reconciler.take(earlier).destroy == DESTROY


def test_report_that_comes_again_is_no_evidence(rig: Rig, reconciler: Reconciler) -> None:
    rig.change(models.Instance, INSTANCE, updated_at=utcnow())
    report = a_report("host1")
    for _ in range(2):
        reconciler.take(report)
    assert state(rig) == (VmState.ACTIVE, PowerState.RUNNING)


def test_guest_is_not_adopted_by_a_report_that_comes_again(rig: Rig, reconciler: Reconciler) -> None:
    report = a_report("host2", a_guest())
    reconciler.take(report)
    rig.change(models.Instance, INSTANCE, vm_state=VmState.ERROR, power_state=PowerState.NOSTATE)
    reconciler.take(report)
    assert rig.instance.host == "host1"


def test_host_whose_clock_runs_behind_after_its_return_is_believed(rig: Rig, reconciler: Reconciler) -> None:
    moved(rig, EVACUATION, COMPLETED, "host2", "host1")
    reconciler.take(a_report("host2"))
    long_ago = utcnow() - timedelta(days=365)
    back = a_report("host2", a_guest(), started_at=long_ago, made_at=long_ago, started=True)
    assert reconciler.take(back).destroy == DESTROY


def test_first_report_of_a_host_is_not_evidence(rig: Rig, reconciler: Reconciler) -> None:
    rig.change(models.Instance, INSTANCE, host="new")
    reconciler.take(a_report("new", started=True))
    assert state(rig) == (VmState.ACTIVE, PowerState.RUNNING)


def test_fenced_host_is_not_believed(rig: Rig, reconciler: Reconciler) -> None:
    rig.change(models.Service, (COMPUTE, "host1"), forced_down=True)
    reconciler.take(a_report("host1"))
    assert state(rig) == (VmState.ACTIVE, PowerState.RUNNING)


# Live migrations that nobody waits for.


def test_migration_of_an_instance_at_rest_is_aborted(rig: Rig, reconciler: Reconciler) -> None:
    report = a_report("host1", a_guest(migrating_to="host2"))
    assert decided(reconciler, report) == HostDirective(abort=(INSTANCE,))


def test_migration_that_an_action_waits_for_goes_on(rig: Rig, reconciler: Reconciler) -> None:
    rig.change(models.Instance, INSTANCE, task_state=TaskState.MIGRATING)
    assert decided(reconciler, a_report("host1", a_guest(migrating_to="host2"))) == HostDirective()


# Guests that are where they should not be.


@pytest.mark.parametrize(
    ("move", "destroy"),
    [
        ((EVACUATION, COMPLETED, "host2", "host1"), DESTROY),
        ((LIVE, COMPLETED, "host2", "host1"), DESTROY),
        # It may be the only copy: the source was silent when the migration was given up.
        ((LIVE, FAILED, "host1", "host2"), KEEP),
        ((LIVE, ERROR, "host1", "host2"), KEEP),
        ((COLD, ERROR, "host1", "host2"), KEEP),
        # The source said that the guest had left, and the destination that it had not arrived.
        ((LIVE, ERROR, "host2", "host1"), KEEP),
        # What an evacuation has made before it was given up is no more than that.
        ((EVACUATION, FAILED, "host1", "host2"), DESTROY),
        ((EVACUATION, ERROR, "host1", "host2"), DESTROY),
        ((EVACUATION, COMPLETED, "host3", "host1"), KEEP),
    ],
)
def test_copy_on_another_host_is_destroyed_only_if_it_cannot_be_the_one_that_counts(
    rig: Rig,
    reconciler: Reconciler,
    move: tuple[MigrationType, MigrationStatus, str, str],
    destroy: tuple[str, ...],
) -> None:
    moved(rig, *move)
    assert reconciler.take(a_report("host2", a_guest())).destroy == destroy
    assert rig.instance.host == "host1"


def test_latest_migration_of_a_host_counts(rig: Rig, reconciler: Reconciler) -> None:
    moved(rig, EVACUATION, COMPLETED, "host2", "host1", age=10)
    moved(rig, LIVE, ERROR, "host1", "host2", age=5)
    moved(rig, LIVE, COMPLETED, "host3", "host1", age=1)
    assert reconciler.take(a_report("host2", a_guest())).destroy == KEEP


def test_migration_that_was_undone_before_the_guest_arrived_does_not_count(rig: Rig, reconciler: Reconciler) -> None:
    """It may have been refused just because of the copy that is left there."""
    moved(rig, EVACUATION, COMPLETED, "host2", "host1", age=10)
    moved(rig, LIVE, FAILED, "host1", "host2", age=5)
    moved(rig, COLD, MigrationStatus.CANCELLED, "host1", "host2", age=1)
    assert reconciler.take(a_report("host2", a_guest())).destroy == DESTROY


def test_copy_that_does_not_count_is_destroyed_whatever_else_is_being_done(rig: Rig, reconciler: Reconciler) -> None:
    moved(rig, EVACUATION, COMPLETED, "host2", "host1")
    rig.change(models.Instance, INSTANCE, task_state=TaskState.REBUILDING)
    assert reconciler.take(a_report("host2", a_guest())).destroy == DESTROY


@pytest.mark.parametrize(("source", "dest"), [("host2", "host1"), ("host1", "host2")])
def test_copy_on_a_host_from_or_to_which_the_instance_is_moving_is_kept(
    rig: Rig, reconciler: Reconciler, source: str, dest: str
) -> None:
    moved(rig, EVACUATION, COMPLETED, "host2", "host1", age=10)
    moved(rig, LIVE, MigrationStatus.RUNNING, source, dest)
    rig.change(models.Instance, INSTANCE, task_state=TaskState.MIGRATING)
    assert reconciler.take(a_report("host2", a_guest())).destroy == KEEP


def test_guest_of_an_instance_that_is_being_booted_is_kept(rig: Rig, reconciler: Reconciler) -> None:
    rig.change(models.Instance, INSTANCE, host=None, task_state=TaskState.SPAWNING)
    assert reconciler.take(a_report("host2", a_guest())).destroy == KEEP


@pytest.mark.parametrize(
    "values", [{"vm_state": VmState.DELETED, "host": None}, {"vm_state": VmState.ERROR, "host": None}]
)
def test_guest_of_a_deleted_or_never_booted_instance_is_destroyed(
    rig: Rig, reconciler: Reconciler, values: dict[str, Any]
) -> None:
    rig.change(models.Instance, INSTANCE, **values)
    assert reconciler.take(a_report("host2", a_guest())).destroy == DESTROY


def test_host_is_told_when_it_was_decided_what_it_has_to_do(reconciler: Reconciler) -> None:
    before = utcnow()
    decided_at = reconciler.take(a_report("host1")).decided_at
    assert decided_at is not None
    assert before <= decided_at <= utcnow()


def test_fenced_host_has_to_destroy_what_lives_elsewhere(rig: Rig, reconciler: Reconciler) -> None:
    moved(rig, EVACUATION, COMPLETED, "host2", "host1")
    rig.change(models.Service, (COMPUTE, "host2"), forced_down=True)
    assert decided(reconciler, a_report("host2", a_guest())) == HostDirective(fenced=True, destroy=DESTROY)


def test_guest_that_is_no_instance_is_left_alone(reconciler: Reconciler, caplog: pytest.LogCaptureFixture) -> None:
    stranger = a_guest()
    object.__setattr__(stranger, "uuid", "stranger")
    assert reconciler.take(a_report("host2", stranger)).destroy == KEEP
    assert "stranger" in caplog.text


def test_guest_that_its_own_host_has_lost_is_adopted_where_it_turns_up(rig: Rig, reconciler: Reconciler) -> None:
    moved(rig, LIVE, FAILED, "host1", "host2")
    assert reconciler.take(a_report("host2", a_guest())).destroy == KEEP
    assert rig.instance.host == "host1"
    reconciler.take(a_report("host1"))
    assert reconciler.take(a_report("host2", a_guest())).destroy == KEEP
    assert (rig.instance.host, *state(rig)) == ("host2", VmState.ACTIVE, PowerState.RUNNING)
    assert rig.rooms() == ["host2"]


def test_fenced_host_adopts_nothing(rig: Rig, reconciler: Reconciler) -> None:
    moved(rig, LIVE, FAILED, "host1", "host2")
    rig.change(models.Service, (COMPUTE, "host2"), forced_down=True)
    rig.change(models.Instance, INSTANCE, vm_state=VmState.ERROR, power_state=PowerState.NOSTATE)
    reconciler.take(a_report("host2", a_guest()))
    assert rig.instance.host == "host1"


# What a newer release has written.


def written_by_a_newer_release(rig: Rig, table: str, column: str) -> None:
    """Let all rows of a table hold what this release does not know."""
    rig.database.write(lambda session: session.execute(text(f"update {table} set {column} = 'of_tomorrow'")))


def seen_on(rig: Rig, host: str) -> bool:
    """Return whether a host was heard just now."""
    with rig.database.read() as session:
        return session.get_one(models.Service, (COMPUTE, host)).last_seen_at > utcnow() - timedelta(minutes=1)


@pytest.mark.parametrize("column", ["vm_state", "task_state", "power_state"])
@pytest.mark.parametrize("host", ["host1", "host2"])
def test_instance_that_only_a_newer_release_can_read_keeps_nothing_from_its_host(
    rig: Rig, reconciler: Reconciler, caplog: pytest.LogCaptureFixture, column: str, host: str
) -> None:
    written_by_a_newer_release(rig, "instances", column)
    rig.change(models.Service, (COMPUTE, host), last_seen_at=utcnow() - timedelta(days=1))
    other = an_instance("other", host=host, updated_at=utcnow() - timedelta(days=2))
    rig.database.write(lambda session: session.add(other))
    assert decided(reconciler, a_report(host, a_guest())) == HostDirective()
    assert seen_on(rig, host)
    assert [code for code, _message in rig.faults()] == ["GuestNotFound"]
    assert INSTANCE in caplog.text


@pytest.mark.parametrize("column", ["status", "migration_type"])
def test_copy_is_kept_if_only_a_newer_release_knows_where_the_instance_was_moved(
    rig: Rig, reconciler: Reconciler, column: str
) -> None:
    moved(rig, EVACUATION, COMPLETED, "host2", "host1")
    written_by_a_newer_release(rig, "migrations", column)
    assert decided(reconciler, a_report("host2", a_guest())) == HostDirective()
    assert rig.instance.host == "host1"


def test_host_was_heard_and_its_orders_live_whatever_is_wrong_with_a_guest(
    rig: Rig, reconciler: Reconciler, leases: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("minova.conductor.reconcile._correct", fail)
    rig.change(models.Service, (COMPUTE, "host1"), last_seen_at=utcnow() - timedelta(minutes=5))
    with pytest.raises(RuntimeError):
        reconciler.take(a_report("host1", a_guest(), orders=(("action", 3),)))
    assert seen_on(rig, "host1")
    assert leases.renewed == [("action", 3)]


def test_report_that_is_overtaken_before_it_is_judged_is_not_believed(rig: Rig, reconciler: Reconciler) -> None:
    started, now = utcnow() - timedelta(hours=1), utcnow()

    def overtake(_orders: object) -> None:
        later = now + timedelta(seconds=1)
        rig.change(models.Service, (COMPUTE, "host1"), started_at=started, report_made_at=later)

    reconciler._leases.renew_orders = overtake  # type: ignore[method-assign]
    assert decided(reconciler, a_report("host1", started_at=started, made_at=now)) == HostDirective()
    assert state(rig) == (VmState.ACTIVE, PowerState.RUNNING)


def seen_at(rig: Rig, reconciler: Reconciler, *addresses: str, host: str = "host1") -> list[str] | None:
    """Return the addresses of the instance, once a host has seen it have these."""
    reconciler.take(a_report(host, replace(a_guest(), addresses=addresses)))
    return rig.instance.addresses


def test_addresses_are_what_the_host_has_seen_last(rig: Rig, reconciler: Reconciler) -> None:
    before = rig.instance.updated_at
    assert seen_at(rig, reconciler, "192.0.2.7", "2001:db8::7") == ["192.0.2.7", "2001:db8::7"]
    assert seen_at(rig, reconciler, "192.0.2.8") == ["192.0.2.8"]
    assert seen_at(rig, reconciler) is None
    # Nobody who compares and swaps has to see that.
    assert rig.instance.updated_at == before


def test_only_what_is_an_address_is_taken(rig: Rig, reconciler: Reconciler) -> None:
    seen = ("192.0.2.7", "\x1b[2J", "fe80::1%\x1b[2J", "fe80::1", "300.1.1.1", "")
    assert seen_at(rig, reconciler, *seen) == ["192.0.2.7", "fe80::1"]
    assert len(seen_at(rig, reconciler, *(f"192.0.2.{number}" for number in range(100))) or []) == 32


def test_addresses_of_another_host_s_guest_are_nothing_to_go_by(rig: Rig, reconciler: Reconciler) -> None:
    assert seen_at(rig, reconciler, "192.0.2.7", host="host2") is None


def test_addresses_are_left_alone_while_something_is_done(rig: Rig, reconciler: Reconciler) -> None:
    rig.change(models.Instance, INSTANCE, task_state=TaskState.MIGRATING, addresses=["192.0.2.7"])
    assert seen_at(rig, reconciler) == ["192.0.2.7"]
