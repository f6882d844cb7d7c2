"""How long fake live migrations take, and what can be seen and decided meanwhile."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from minova.exception import (
    DriverError,
    MigrationAborted,
    MigrationFailed,
    OperationRefused,
)
from minova.objects import Guest, MigrationOptions, MigrationProgress
from minova.virt.fake import FakeDriver
from tests.contract.rig import (
    DATA,
    INSTANCE,
    OPTIONS,
    PAUSED,
    RUNNING,
    SHUTDOWN,
    UUID,
    Interrupted,
    Progress,
    leave_under_way,
    make_instance,
    migrate,
    state,
)
from tests.unit.virt.rig import FakeRig, Killed

MIB = 2**20


@pytest.mark.parametrize(
    ("options", "fake", "seconds"),
    [
        # 256 MiB at 128 MiB/s.
        (OPTIONS, {"migration_dirty_rate": 0.0}, 2.0),
        # A net gain of 64 MiB/s until 32 MiB remain, which take 0.25 s.
        (OPTIONS, {}, 3.75),
        (OPTIONS, {"migration_dirty_rate": 0.0, "migration_memory_mb": 1024}, 8.0),
        (MigrationOptions(bandwidth_mib=32), {"migration_dirty_rate": 0.0}, 8.0),
        (MigrationOptions(bandwidth_mib=10**6), {"migration_dirty_rate": 0.0}, 2.0),
        # A net gain of 64 MiB/s until 128 MiB remain, which take 1 s.
        (MigrationOptions(max_downtime_ms=1000), {}, 3.0),
        # 16 MiB for each GiB of disk.
        (MigrationOptions(block_migration=True), {"migration_dirty_rate": 0.0}, 2.125),
    ],
)
def test_duration(
    rig: FakeRig,
    source: FakeDriver,
    destination: FakeDriver,
    options: MigrationOptions,
    fake: dict[str, float],
    seconds: float,
) -> None:
    rig.fake(**fake)
    began = rig.clock.now
    migrate(source, options=options)
    assert rig.clock.now - began == pytest.approx(seconds, abs=0.005)
    assert max(rig.clock.slept) <= 0.05


def test_progress(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    rig.conf.set_override("live_migration_progress_interval", 0.2, group="compute")
    reports = migrate(source, options=MigrationOptions(block_migration=True, bandwidth_mib=96)).reports
    first, last = reports[0], reports[-1]
    assert {report.total_bytes for report in reports} == {(256 + 16) * MIB}
    assert (first.done_bytes, first.elapsed, first.iteration) == (0, 0.0, 1)
    assert (last.done_bytes, last.remaining_bytes) == (last.total_bytes, 0)
    assert last.iteration > 1
    assert (last.bandwidth, last.dirty_rate) == (96 * MIB, 64 * MIB)
    gaps = [after.elapsed - before.elapsed for before, after in itertools.pairwise(reports)]
    assert 0.05 < max(gaps) <= 0.2
    # It is not reported at each look, either.
    assert len(reports) < len(rig.clock.slept) / 3


@pytest.mark.parametrize("interval", [0.05, 60.0])
def test_progress_is_reported_in_time(
    rig: FakeRig, source: FakeDriver, destination: FakeDriver, interval: float
) -> None:
    rig.conf.set_override("live_migration_progress_interval", interval, group="compute")
    reports = migrate(source).reports
    gaps = [after.elapsed - before.elapsed for before, after in itertools.pairwise(reports)]
    assert max(gaps) <= interval + 1e-6
    assert reports[-1].remaining_bytes == 0


def test_no_convergence(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    rig.fake(migration_dirty_rate=128.0)
    rig.clock.killed_at = rig.clock.now + 100
    progress = Progress()
    with pytest.raises(Killed):
        source.live_migration(INSTANCE, "destination", OPTIONS, DATA, progress)
    assert {report.remaining_bytes for report in progress.reports} == {256 * MIB}
    assert progress.reports[-1].iteration >= 49
    assert state(destination) is None


def test_auto_converge_lets_it_converge(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    rig.fake(migration_dirty_rate=256.0)
    reports = migrate(source, options=MigrationOptions(auto_converge=True)).reports
    assert (state(source), state(destination)) == (None, RUNNING)
    assert {report.throttle for report in reports} >= {0, 20, 30, 40, 50, 60}
    assert reports[-1].dirty_rate == pytest.approx((100 - reports[-1].throttle) * 2.56 * MIB, abs=1)


@pytest.mark.parametrize("forced", [False, True])
def test_post_copy(rig: FakeRig, source: FakeDriver, destination: FakeDriver, forced: bool) -> None:
    rig.fake(migration_dirty_rate=256.0)
    seen: list[tuple[MigrationProgress, object, object]] = []

    def look(progress: MigrationProgress) -> None:
        if forced and progress.elapsed > 1:
            source.live_migration_force_complete(UUID)
        seen.append((progress, state(source), state(destination)))

    source.live_migration(INSTANCE, "destination", MigrationOptions(post_copy=True), DATA, look)
    before = [progress for progress, *where in seen if where == [RUNNING, None]]
    after = [progress for progress, *where in seen if where == [None, RUNNING]]
    assert [progress for progress, *_where in seen] == before + after
    assert {progress.post_copy for progress in before} == {False}
    assert {(progress.post_copy, progress.dirty_rate) for progress in after} == {(True, 0)}
    # What has to follow is what was changed since it was copied.
    assert after[0].remaining_bytes > 100 * MIB
    assert after[-1].remaining_bytes < 10 * MIB
    assert all(early.remaining_bytes > late.remaining_bytes for early, late in itertools.pairwise(after))
    assert before[-1].elapsed == pytest.approx(1.25 if forced else 2.0, abs=0.3)


def test_post_copy_that_nobody_waits_for_any_more(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    rig.never_converge()

    def leave(progress: MigrationProgress) -> None:
        if progress.post_copy:
            raise Interrupted

    options = MigrationOptions(post_copy=True)
    with pytest.raises(Interrupted):
        source.live_migration(INSTANCE, "destination", options, DATA, leave)
    assert (state(source), state(destination)) == (None, RUNNING)
    migrate(rig.driver("source"), options=options)
    destination.post_live_migration_at_destination(INSTANCE)
    assert state(destination) is RUNNING


def test_a_pause_lets_it_converge(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    rig.never_converge()
    source.live_migration(INSTANCE, "destination", OPTIONS, DATA, lambda _: source.pause(UUID))
    assert (state(source), state(destination)) == (None, PAUSED)


def test_a_guest_that_is_forced_is_paused_until_it_is_there(
    rig: FakeRig, source: FakeDriver, destination: FakeDriver
) -> None:
    rig.never_converge()
    seen = set()

    def force(_: object) -> None:
        source.live_migration_force_complete(UUID)
        seen.add(state(source))

    source.live_migration(INSTANCE, "destination", OPTIONS, DATA, force)
    assert seen == {PAUSED}
    assert (state(source), state(destination)) == (None, RUNNING)


def test_a_guest_that_was_paused_before_it_was_forced_stays_paused(
    rig: FakeRig, source: FakeDriver, destination: FakeDriver
) -> None:
    rig.never_converge()
    source.pause(UUID)
    source.live_migration(INSTANCE, "destination", OPTIONS, DATA, lambda _: source.live_migration_force_complete(UUID))
    assert state(destination) is PAUSED


def test_a_guest_that_is_shut_down_meanwhile(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    with pytest.raises(MigrationFailed, match="the guest is shutdown"):
        source.live_migration(INSTANCE, "destination", OPTIONS, DATA, lambda _: source.power_off(UUID))
    assert source.list_guests() == (Guest(uuid=UUID, name="web", power_state=SHUTDOWN),)


def test_a_guest_that_is_destroyed_meanwhile(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    source.live_migration(INSTANCE, "destination", OPTIONS, DATA, lambda _: source.destroy(UUID))
    assert (state(source), state(destination)) == (None, None)


def test_an_abort_at_the_last_moment(source: FakeDriver, destination: FakeDriver) -> None:
    def abort(progress: MigrationProgress) -> None:
        if progress.remaining_bytes == 0:
            source.live_migration_abort(UUID)

    with pytest.raises(MigrationAborted):
        source.live_migration(INSTANCE, "destination", OPTIONS, DATA, abort)
    assert (state(source), state(destination)) == (RUNNING, None)


def test_one_migration_at_a_time(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    rig.driver("third")
    leave_under_way(source)
    source.check_can_live_migrate_source(INSTANCE, "destination", OPTIONS)
    with pytest.raises(OperationRefused, match="migrating to destination already"):
        source.check_can_live_migrate_source(INSTANCE, "third", OPTIONS)
    with pytest.raises(MigrationFailed, match="migrating to destination already"):
        migrate(source, to="third")
    migrate(source)
    assert state(destination) is RUNNING


@pytest.mark.parametrize(
    "move",
    [
        migrate,
        lambda driver: driver.migrate_disk_and_power_off(INSTANCE, "destination"),
        lambda driver: driver.check_can_live_migrate_source(INSTANCE, "destination", OPTIONS),
    ],
)
def test_a_guest_of_the_same_uuid_at_the_destination_is_spared(
    source: FakeDriver, destination: FakeDriver, move: Callable[[FakeDriver], object]
) -> None:
    destination.spawn(make_instance(name="other"))
    with pytest.raises(DriverError, match="host destination has a guest of the same UUID"):
        move(source)
    assert [guest.name for guest in destination.list_guests()] == ["other"]
    assert state(source) is RUNNING


def test_a_destination_that_vanishes(rig: FakeRig, source: FakeDriver, destination: FakeDriver) -> None:
    leave_under_way(source)
    rig.file("destination").parent.rmdir()
    with pytest.raises(MigrationFailed, match="there is no fake host destination"):
        migrate(source)
    assert source.list_guests() == (Guest(uuid=UUID, name="web", power_state=RUNNING),)


def test_what_was_decided_counts_while_the_guest_is_away_from_its_thread(rig: FakeRig, destination: FakeDriver) -> None:
    """Abort and look from one thread while another waits for the migration."""
    asleep, go_on = threading.Event(), threading.Event()

    def sleep(seconds: float) -> None:
        asleep.set()
        assert go_on.wait(30)
        rig.clock.now += seconds

    rig.never_converge()
    source = FakeDriver(rig.conf, "source", clock=rig.clock, sleep=sleep)
    source.spawn(INSTANCE)
    with ThreadPoolExecutor(1) as pool:
        try:
            migration = pool.submit(source.live_migration, INSTANCE, "destination", OPTIONS, DATA, Progress())
            assert asleep.wait(30)
            on_its_way = Guest(uuid=UUID, name="web", power_state=RUNNING, migrating_to="destination")
            assert source.list_guests() == (on_its_way,)
            source.live_migration_abort(UUID)
        finally:
            go_on.set()
        with pytest.raises(MigrationAborted):
            migration.result(30)
    assert source.list_guests() == (Guest(uuid=UUID, name="web", power_state=RUNNING),)
