"""After a move in doubt hosts are heard in turn, and what each says is no more than that."""

from datetime import timedelta
from typing import cast

import pytest
from sqlalchemy import text

from minova.conductor.leases import Leases
from minova.conductor.reconcile import Reconciler
from minova.db import models
from minova.db.queries import COMPUTE
from minova.exception import HostAlive
from minova.exception_moves import PlaceUnclear
from minova.objects import Fault, Guest, utcnow
from minova.states import OPERATIONS, MigrationStatus, MigrationType, PowerState, Verb, VmState
from tests.unit.conductor.rig import ACCIDENT, INSTANCE, REFUSAL, SILENCE, Rig, a_guest, a_report
from tests.unit.conductor.test_reconcile import Noted, moved
from tests.unit.conductor.test_tasks import advance, begin

BOTH = ["host1", "host2"]
SOURCE = ["host1"]
MISSING = Fault(code="GuestNotFound", message="it is not here")


@pytest.fixture
def reconciler(rig: Rig) -> Reconciler:
    return Reconciler(rig.conf, rig.database, rig.services.scheduler, cast("Leases", Noted()))


def end(rig: Rig, action: models.Action, fault: Fault) -> models.Action:
    """Let all that is left fail."""
    while " on " in rig.at(action):
        rig.fail(action, fault)
    return action


def in_doubt(rig: Rig, verb: Verb = Verb.LIVE_MIGRATE) -> models.Action:
    """Let a move from host1 to host2 have ended in doubt a while ago."""
    action = begin(rig, verb)
    advance(rig, action, "migrate" if verb is Verb.LIVE_MIGRATE else "rebuild_at_destination")
    end(rig, action, SILENCE)
    rig.settle()
    rig.change(models.Migration, action.id, unclear_since=utcnow() - timedelta(hours=1))
    return action


def unclear(rig: Rig) -> list[str] | None:
    return rig.migration.unclear_hosts


def turn_off(rig: Rig, *hosts: str) -> None:
    for host in hosts:
        ago = utcnow() - timedelta(seconds=rig.conf.service_down_time + 1)
        rig.change(models.Service, (COMPUTE, host), forced_down=True, last_seen_at=ago)


# Where there is a doubt.

LIVE, COLD, EVACUATE = Verb.LIVE_MIGRATE, Verb.MIGRATE, Verb.EVACUATE


@pytest.mark.parametrize(
    ("verb", "step", "fault", "then", "expected"),
    [
        (LIVE, "prepare_destination", SILENCE, SILENCE, SOURCE),
        (LIVE, "migrate", REFUSAL, SILENCE, SOURCE),
        (LIVE, "migrate", REFUSAL, None, None),
        (LIVE, "migrate", SILENCE, SILENCE, BOTH),
        (LIVE, "migrate", ACCIDENT, MISSING, BOTH),
        (LIVE, "finish_at_destination", SILENCE, SILENCE, ["host2"]),
        (LIVE, "finish_at_destination", REFUSAL, None, ["host2"]),
        (COLD, "move_disks", REFUSAL, SILENCE, SOURCE),
        (COLD, "move_disks", SILENCE, SILENCE, BOTH),
        (COLD, "finish_at_destination", SILENCE, SILENCE, ["host2"]),
        (EVACUATE, "rebuild_at_destination", SILENCE, SILENCE, ["host2"]),
    ],
)
def test_move_that_fails_is_in_doubt_if_nobody_could_tell_where_the_guest_is(
    rig: Rig, verb: Verb, step: str, fault: Fault, then: Fault | None, expected: list[str] | None
) -> None:
    action = begin(rig, verb)
    advance(rig, action, step)
    rig.fail(action, fault)
    if then is not None:
        end(rig, action, then)
    else:
        rig.walk(action)
    assert (unclear(rig), rig.migration.unclear_since is not None) == (expected, expected is not None)
    assert ("PlaceUnclear" in [code for code, _message in rig.faults()]) == (expected is not None)


def test_cold_migration_is_in_no_doubt_if_the_source_says_that_it_has_the_guest(rig: Rig) -> None:
    action = begin(rig, COLD)
    advance(rig, action, "move_disks")
    rig.fail(action, SILENCE)
    rig.fail(action, MISSING)
    assert rig.walk(action) == ["restart_at_source on host1", "failed"]
    assert unclear(rig) is None


def test_cold_migration_that_is_handed_back_is_in_doubt_if_nobody_has_it(rig: Rig) -> None:
    action = begin(rig, COLD)
    advance(rig, action, "move_disks")
    rig.cancel(action)
    rig.succeed(action)
    assert rig.at(action) == "return_disks on host2"
    end(rig, action, SILENCE)
    assert (rig.migration.status, unclear(rig)) == (MigrationStatus.ERROR, BOTH)


# What is refused then.


@pytest.mark.parametrize("verb", [verb for verb in OPERATIONS if verb is not Verb.BOOT])
def test_only_deletion_goes_on(rig: Rig, verb: Verb) -> None:
    in_doubt(rig)
    rig.change(models.Instance, INSTANCE, vm_state=min(OPERATIONS[verb].allowed))
    if verb is Verb.DELETE:
        rig.walk(rig.begin(verb))
        assert unclear(rig) == []
    else:
        with pytest.raises(PlaceUnclear) as refusal:
            rig.begin(verb)
        assert refusal.value.hosts == BOTH


def test_host_that_is_off_needs_not_be_heard(rig: Rig) -> None:
    in_doubt(rig)
    turn_off(rig, "host2")
    with pytest.raises(PlaceUnclear) as refusal:
        rig.begin(Verb.REBUILD)
    assert refusal.value.hosts == ["host1"]
    turn_off(rig, "host1")
    action = rig.begin(Verb.EVACUATE, destination="host3")
    assert unclear_of(rig, action) is None
    rig.walk(action)
    assert rig.instance.host == "host3"


def unclear_of(rig: Rig, action: models.Action) -> list[str] | None:
    with rig.database.read() as session:
        return session.get_one(models.Migration, action.id).unclear_hosts


def test_word_of_an_operator_is_not_enough(rig: Rig) -> None:
    in_doubt(rig)
    for host in BOTH:
        rig.change(models.Service, (COMPUTE, host), forced_down=True)
    with pytest.raises(HostAlive):
        rig.begin(Verb.EVACUATE)


# Who is heard.

AWAY: tuple[Guest, ...] = ()
HERE = (a_guest(),)
SHUT = (a_guest(PowerState.SHUTDOWN),)
GOING = (a_guest(migrating_to="host2"),)


@pytest.mark.parametrize(
    ("reports", "left", "place"),
    [
        ([("host1", HERE)], [], "host1"),
        ([("host1", SHUT)], ["host2"], "host1"),
        ([("host1", AWAY)], ["host2"], "host1"),
        ([("host1", GOING)], BOTH, "host1"),
        ([("host2", AWAY)], BOTH, "host1"),
        ([("host2", HERE)], BOTH, "host1"),
        ([("host1", AWAY), ("host2", HERE)], [], "host2"),
        ([("host1", AWAY), ("host2", SHUT)], [], "host2"),
        ([("host1", SHUT), ("host2", AWAY)], [], "host1"),
        ([("host1", AWAY), ("host2", AWAY)], [], "host1"),
    ],
)
def test_hosts_are_heard_in_turn(
    rig: Rig,
    reconciler: Reconciler,
    reports: list[tuple[str, tuple[Guest, ...]]],
    left: list[str],
    place: str,
) -> None:
    in_doubt(rig)
    for host, guests in reports:
        # What is not the first to be said since the one before it was heard.
        for _ in range(2):
            reconciler.take(a_report(host, *guests))
    assert (unclear(rig), rig.instance.host, rig.rooms()) == (left, place, [place])


def test_report_that_may_be_older_than_the_doubt_counts_for_nothing(rig: Rig, reconciler: Reconciler) -> None:
    action = in_doubt(rig)
    rig.change(models.Migration, action.id, unclear_since=utcnow())
    reconciler.take(a_report("host1", *HERE))
    assert unclear(rig) == BOTH
    reconciler.take(a_report("host1", *HERE))
    assert unclear(rig) == []


def test_report_of_a_process_from_before_the_doubt_counts_for_nothing(rig: Rig, reconciler: Reconciler) -> None:
    in_doubt(rig)
    now = utcnow()
    before = now - timedelta(hours=2)
    for made_at in (now, now + timedelta(seconds=10)):
        reconciler.take(a_report("host1", started_at=now, made_at=made_at))
    assert unclear(rig) == ["host2"]
    reconciler.take(a_report("host1", *HERE, started_at=before, made_at=before + timedelta(minutes=1)))
    assert unclear(rig) == ["host2"]
    for _ in range(2):
        assert reconciler.take(a_report("host2", *HERE)).destroy == ()
    assert rig.instance.host == "host2"


def test_host_that_still_holds_an_order_of_the_move_is_heard_later(rig: Rig, reconciler: Reconciler) -> None:
    action = in_doubt(rig)
    reconciler.take(a_report("host1", *HERE, orders=((action.id, 3),)))
    assert unclear(rig) == BOTH


def test_fenced_host_is_not_heard(rig: Rig, reconciler: Reconciler) -> None:
    in_doubt(rig)
    rig.change(models.Service, (COMPUTE, "host1"), forced_down=True)
    reconciler.take(a_report("host1", *HERE))
    assert unclear(rig) == BOTH


def test_instance_that_is_being_worked_on_waits(rig: Rig, reconciler: Reconciler) -> None:
    in_doubt(rig)
    rig.begin(Verb.DELETE)
    reconciler.take(a_report("host1", *HERE))
    assert unclear(rig) == BOTH


def test_guest_that_is_found_at_home_is_counted_on_again(rig: Rig, reconciler: Reconciler) -> None:
    in_doubt(rig)
    assert rig.instance.vm_state is VmState.ERROR
    reconciler.take(a_report("host1", *HERE))
    assert (rig.instance.vm_state, rig.instance.power_state) == (VmState.ACTIVE, PowerState.RUNNING)


def test_guest_is_adopted_from_a_host_that_is_off(rig: Rig, reconciler: Reconciler) -> None:
    in_doubt(rig)
    turn_off(rig, "host1")
    reconciler.take(a_report("host2", *HERE))
    assert (unclear(rig), rig.instance.host) == (["host2"], "host1")
    for _ in range(2):
        reconciler.take(a_report("host2", *HERE))
    assert (unclear(rig), rig.instance.host, rig.rooms()) == ([], "host2", ["host2"])


# What is left elsewhere.


def test_copy_elsewhere_is_destroyed_once_it_is_clear_where_the_guest_is(rig: Rig, reconciler: Reconciler) -> None:
    in_doubt(rig)
    assert reconciler.take(a_report("host2", *SHUT)).destroy == ()
    reconciler.take(a_report("host1", *HERE))
    assert reconciler.take(a_report("host2", *SHUT)).destroy == (INSTANCE,)


@pytest.mark.parametrize("said_by_an_operator", [VmState.ERROR, VmState.ACTIVE])
def test_copy_elsewhere_is_kept_if_the_guest_is_nowhere_else(
    rig: Rig, reconciler: Reconciler, said_by_an_operator: VmState
) -> None:
    action = in_doubt(rig)
    rig.change(models.Migration, action.id, unclear_hosts=[], unclear_since=None)
    rig.change(models.Instance, INSTANCE, vm_state=said_by_an_operator, power_state=PowerState.NOSTATE)
    assert reconciler.take(a_report("host2", *SHUT)).destroy == ()
    assert (rig.instance.host, rig.instance.vm_state) == ("host2", VmState.STOPPED)


def left_a_copy(rig: Rig) -> None:
    """Let a live migration have failed a while ago, and nobody know what is left of it at host2."""
    action = begin(rig, LIVE)
    advance(rig, action, "migrate")
    rig.fail(action, REFUSAL)
    end(rig, action, SILENCE)
    rig.settle()
    rig.change(models.Migration, action.id, unclear_since=utcnow() - timedelta(hours=1))


@pytest.mark.parametrize("power_state", [PowerState.RUNNING, PowerState.PAUSED, PowerState.SHUTDOWN])
def test_copy_that_a_failed_live_migration_has_left_is_destroyed_once_the_source_shows_the_guest(
    rig: Rig, reconciler: Reconciler, power_state: PowerState
) -> None:
    left_a_copy(rig)
    assert reconciler.take(a_report("host2", *SHUT)).destroy == ()
    reconciler.take(a_report("host1", a_guest(power_state)))
    assert (unclear(rig), rig.instance.power_state) == ([], power_state)
    assert rig.instance.vm_state is not VmState.ERROR
    assert reconciler.take(a_report("host2", *SHUT)).destroy == (INSTANCE,)
    assert rig.instance.host == "host1"


def test_copy_that_a_failed_live_migration_has_left_is_adopted_if_the_source_lost_the_guest(
    rig: Rig, reconciler: Reconciler
) -> None:
    left_a_copy(rig)
    # Whatever an operator has said meanwhile.
    rig.change(models.Instance, INSTANCE, vm_state=VmState.ACTIVE, updated_at=utcnow())
    for host, guests in (("host1", AWAY), ("host2", SHUT), ("host1", AWAY), ("host2", SHUT)):
        assert reconciler.take(a_report(host, *guests)).destroy == ()
    assert (unclear(rig), rig.instance.host, rig.instance.vm_state) == ([], "host2", VmState.STOPPED)


@pytest.mark.parametrize("shows_its_copy", [True, False])
def test_host_that_was_never_in_question_decides_nothing_while_the_source_is_off(
    rig: Rig, reconciler: Reconciler, shows_its_copy: bool
) -> None:
    """What it has is old: the guest ran on at the source for minutes."""
    left_a_copy(rig)
    rig.change(models.Service, (COMPUTE, "host1"), forced_down=True, last_seen_at=utcnow() - timedelta(hours=1))
    for _ in range(2):
        reconciler.take(a_report("host2", *(SHUT if shows_its_copy else AWAY)))
    assert (unclear(rig), rig.instance.host, rig.instance.power_state) == (SOURCE, "host1", PowerState.RUNNING)


def test_evacuation_is_in_doubt_until_what_it_left_is_gone(rig: Rig, reconciler: Reconciler) -> None:
    in_doubt(rig, EVACUATE)
    assert unclear(rig) == ["host2"]
    assert reconciler.take(a_report("host2", *HERE)).destroy == (INSTANCE,)
    assert unclear(rig) == ["host2"]
    reconciler.take(a_report("host2"))
    assert (unclear(rig), rig.instance.host) == ([], "host1")


def test_doubt_is_left_to_a_newer_release_that_has_moved_the_instance_since(rig: Rig, reconciler: Reconciler) -> None:
    in_doubt(rig)
    moved(rig, MigrationType.LIVE, MigrationStatus.COMPLETED, "host3", "host2")
    of_tomorrow = text("update migrations set status = 'of_tomorrow' where unclear_since is null")
    rig.database.write(lambda session: session.execute(of_tomorrow))
    reconciler.take(a_report("host2", *HERE))
    assert reconciler.take(a_report("host2", *HERE)).destroy == ()
    assert rig.instance.host == "host1"
