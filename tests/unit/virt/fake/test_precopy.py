"""The arithmetic of the fake driver's live migrations."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from minova.virt.fake.precopy import MIB, Pace, SimulatedMigration

PACE = Pace(memory_bytes=1024 * MIB, disk_bytes=0, bandwidth=256.0 * MIB, dirty_rate=128.0 * MIB, downtime=0.25)
START = 1000.0


def start(*, running: bool = True, **changes: Any) -> SimulatedMigration:
    return SimulatedMigration.start("destination", replace(PACE, **changes), START, running=running)


def seconds_needed(migration: SimulatedMigration) -> float:
    """Return when all is copied, to a millisecond, or infinity if that is not within three hours."""

    def is_copied(seconds: float) -> bool:
        return migration.progress(START + seconds).remaining_bytes == 0

    low, high = 0.0, 10_800.0
    if not is_copied(high):
        return float("inf")
    while high - low > 0.001:
        middle = (low + high) / 2
        low, high = (low, middle) if is_copied(middle) else (middle, high)
    return high


def simulated(migration: SimulatedMigration, seconds: float, step: float = 0.001) -> float:
    """Return what remains, found by doing it in small steps."""
    pace, remaining = migration.pace, migration.remaining_bytes
    stopped = False
    for _ in range(round(seconds / step)):
        converges = migration.dirty_rate < pace.bandwidth
        stopped = stopped or (converges and remaining <= pace.bandwidth * pace.downtime)
        in_memory = remaining <= pace.memory_bytes
        remaining -= pace.bandwidth * step
        if in_memory and not stopped:
            remaining = min(remaining + migration.dirty_rate * step, pace.memory_bytes)
    return max(remaining, 0.0)


def test_a_guest_that_changes_nothing_is_copied_once() -> None:
    assert seconds_needed(start(dirty_rate=0.0)) == pytest.approx(4, abs=0.002)
    assert seconds_needed(start(running=False)) == pytest.approx(4, abs=0.002)


def test_what_is_changed_meanwhile_is_copied_again() -> None:
    # Until 64 MiB remain, which take 0.25 s, it gains 128 MiB a second.
    assert seconds_needed(start()) == pytest.approx((1024 - 64) / 128 + 0.25, abs=0.002)


@pytest.mark.parametrize("dirty_rate", [256.0, 257.0, 10_000.0])
@pytest.mark.parametrize("memory_mb", [1, 1024])
def test_no_convergence_if_memory_is_changed_as_fast_as_it_is_copied(dirty_rate: float, memory_mb: int) -> None:
    migration = start(dirty_rate=dirty_rate * MIB, memory_bytes=memory_mb * MIB)
    assert seconds_needed(migration) == float("inf")
    assert migration.progress(START + 3600).remaining_bytes == memory_mb * MIB


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("dirty_rate", [0.0, 100.0, 255.0, 256.0, 400.0])
@pytest.mark.parametrize("disk_bytes", [0, 512 * MIB])
@pytest.mark.parametrize("downtime", [0.001, 0.25, 5.0])
def test_as_if_done_step_by_step(running: bool, dirty_rate: float, disk_bytes: int, downtime: float) -> None:
    migration = start(running=running, dirty_rate=dirty_rate * MIB, disk_bytes=disk_bytes, downtime=downtime)
    for seconds in (0, 1, 2.5, 4, 6.2, 9):
        # In one step at a border, one rate or the other may apply.
        expected = pytest.approx(simulated(migration, seconds), abs=2 * MIB)
        assert migration.remaining(START + seconds) == expected, seconds


@pytest.mark.parametrize("paused_at", [0.5, 3.0, 7.9])
@pytest.mark.parametrize("seconds", [0.5, 2.0])
def test_a_pause_counts_from_its_moment_on(paused_at: float, seconds: float) -> None:
    running = start(dirty_rate=250.0 * MIB, disk_bytes=256 * MIB)
    before = running.remaining(START + paused_at)
    paused = running.guest_runs(START + paused_at, running=False)
    assert paused.remaining(START + paused_at) == before
    after = paused.remaining(START + paused_at + seconds)
    assert after == pytest.approx(before - seconds * 256 * MIB)
    resumed = paused.guest_runs(START + paused_at + seconds, running=True)
    assert resumed.remaining(START + paused_at + seconds) == after
    assert paused.progress(START + 8).elapsed == resumed.progress(START + 8).elapsed == 8


def test_a_pause_that_is_told_twice() -> None:
    paused = start().guest_runs(START + 1, running=False)
    assert paused.guest_runs(START + 2, running=False) == paused


def test_a_forced_migration_ends_though_somebody_unpauses_the_guest() -> None:
    forced = start(dirty_rate=1000.0 * MIB).force(START + 100)
    assert forced.dirty_rate == 0
    assert forced.force(START + 101) == forced
    assert forced.guest_runs(START + 101, running=True) == forced
    assert seconds_needed(forced) == pytest.approx(104, abs=0.002)


def test_what_remains_never_grows_while_it_converges() -> None:
    migration = start(disk_bytes=256 * MIB)
    remaining = [migration.progress(START + tenth / 10).remaining_bytes for tenth in range(120)]
    assert all(after <= before for before, after in itertools.pairwise(remaining))
    assert remaining[-1] == 0


def test_progress() -> None:
    progress = start(disk_bytes=512 * MIB).progress(START + 4)
    assert (progress.total_bytes, progress.done_bytes) == (1536 * MIB, (512 + 256) * MIB)
    assert progress.remaining_bytes == 768 * MIB
    assert (progress.bandwidth, progress.dirty_rate) == (256 * MIB, 128 * MIB)
    assert (progress.iteration, progress.elapsed) == (1, 4.0)


@pytest.mark.parametrize("dirty_rate", [0.0, 128.0, 300.0])
def test_done_and_remaining_are_the_total(dirty_rate: float) -> None:
    migration = start(dirty_rate=dirty_rate * MIB, disk_bytes=100 * MIB)
    for tenth in range(100):
        progress = migration.progress(START + tenth / 10)
        assert progress.done_bytes + progress.remaining_bytes == progress.total_bytes == 1124 * MIB
        assert progress.remaining_bytes >= 0


@pytest.mark.parametrize(
    ("dirty_rate", "disk_mb", "iterations"),
    [
        # Passes that take 4 s, 2 s, 1 s, 0.5 s; then 64 MiB remain.
        (128.0, 0, {0: 1, 3.9: 1, 4: 2, 5.9: 2, 6: 3, 7: 4, 7.4: 4, 100: 5}),
        (128.0, 512, {5.9: 1, 6: 2, 8: 3, 9: 4}),
        (0.0, 0, {0: 1, 3.9: 1, 100: 1}),
        (256.0, 0, {0: 1, 3.9: 1, 4: 2, 8: 3, 400: 101}),
        (900.0, 512, {0: 1, 5.9: 1, 6: 2, 10: 3}),
    ],
)
def test_iterations(dirty_rate: float, disk_mb: int, iterations: dict[float, int]) -> None:
    migration = start(dirty_rate=dirty_rate * MIB, disk_bytes=disk_mb * MIB)
    assert {seconds: migration.progress(START + seconds).iteration for seconds in iterations} == iterations


def test_a_pause_begins_a_pass() -> None:
    migration = start(dirty_rate=256.0 * MIB).guest_runs(START + 5, running=False)
    assert migration.progress(START + 5).iteration == 3
    assert migration.progress(START + 8).iteration == 3


# Auto-converge: passes of 4 s until it converges.


@pytest.mark.parametrize(
    ("dirty_rate", "throttles"),
    [
        (400.0, {0: 0, 3.9: 0, 4: 20, 7.9: 20, 8: 30, 12: 40, 16: 50, 1000: 70}),
        (100_000.0, {4: 20, 8: 30, 32: 90, 35.9: 90, 36: 99, 1000: 99}),
        # It would converge by itself, if slowly.
        (200.0, {3.9: 0, 4: 20, 1000: 40}),
        (128.0, {0: 0, 4: 0, 1000: 0}),
    ],
)
def test_throttle(dirty_rate: float, throttles: dict[float, int]) -> None:
    migration = start(dirty_rate=dirty_rate * MIB, auto_converge=True)
    assert {seconds: migration.progress(START + seconds).throttle for seconds in throttles} == throttles


def test_throttled_guest_converges_in_the_end_and_looking_at_it_changes_nothing() -> None:
    endless, migration = start(dirty_rate=400.0 * MIB), start(dirty_rate=400.0 * MIB, auto_converge=True)
    assert seconds_needed(endless) == float("inf")
    seconds = seconds_needed(migration)
    assert 12 < seconds < 60
    looks = [migration.progress(START + tenth / 10) for tenth in range(int(seconds * 10))]
    assert looks == [migration.at(START + look.elapsed).progress(START + look.elapsed) for look in looks]
    for before, after in itertools.pairwise(looks):
        assert before.iteration <= after.iteration
        assert before.throttle <= after.throttle
        assert before.dirty_rate >= after.dirty_rate
    assert looks[-1].dirty_rate < looks[-1].bandwidth


def test_throttle_waits_for_the_disk() -> None:
    migration = start(dirty_rate=400.0 * MIB, disk_bytes=512 * MIB, auto_converge=True)
    assert (migration.progress(START + 5.9).throttle, migration.progress(START + 6).throttle) == (0, 20)


def test_guest_that_is_paused_is_not_slowed_down_any_more() -> None:
    paused = start(dirty_rate=400.0 * MIB, auto_converge=True).guest_runs(START + 5, running=False)
    assert paused.progress(START + 8.5).throttle == 20
    assert seconds_needed(paused) == pytest.approx(9, abs=0.002)


# Post-copy.


@pytest.mark.parametrize(("dirty_rate", "leaves"), [(256.0, 4.0), (255.0, None)])
def test_guest_that_may_leaves_after_the_first_pass_if_no_other_helps(dirty_rate: float, leaves: float | None) -> None:
    migration = start(dirty_rate=dirty_rate * MIB, post_copy=True)
    seconds = [tenth / 10 for tenth in range(1000) if migration.leaves_now(START + tenth / 10)]
    assert next(iter(seconds), None) == leaves
    assert not start(dirty_rate=dirty_rate * MIB).leaves_now(START + 100)


def test_guest_that_is_forced_leaves_or_is_paused() -> None:
    leaves, stays = start(post_copy=True).force(START + 1), start().force(START + 1)
    assert (leaves.leaves_now(START + 1), leaves.is_paused, leaves.dirty_rate) == (True, False, PACE.dirty_rate)
    assert (stays.leaves_now(START + 1), stays.is_paused, stays.dirty_rate) == (False, True, 0)


@pytest.mark.parametrize(
    ("migration", "downtime_ms"),
    [
        (start(), 250),
        (start(running=False), 0),
        (start(memory_bytes=32 * MIB), 125),
        # All of it is changed again and again.
        (start(dirty_rate=256.0 * MIB), 4000),
        (start(dirty_rate=256.0 * MIB).force(START + 9), 4000),
        (start(dirty_rate=0.0).force(START + 1), 3000),
    ],
)
def test_downtime(migration: SimulatedMigration, downtime_ms: int) -> None:
    assert migration.progress(START + 1).downtime_ms == downtime_ms


def test_a_clock_that_was_set_back() -> None:
    migration = start()
    progress = migration.progress(START - 3600)
    assert (progress.done_bytes, progress.elapsed, progress.iteration) == (0, 0.0, 1)
    assert migration.force(START - 3600).remaining(START) == 1024 * MIB


def test_the_first_abort_counts() -> None:
    aborted = start().abort(START + 1)
    assert aborted.aborted_at == START + 1
    assert aborted.abort(START + 2) == aborted


def test_once_all_is_copied_the_guest_waits_for_the_switch_over() -> None:
    copied = start().guest_runs(START + 1, running=False).guest_runs(START + 100, running=True)
    assert copied.progress(START + 1000).remaining_bytes == 0
