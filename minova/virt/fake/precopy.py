"""A simulated live migration: pre-copy, as a pure function of what was decided about it and of the time.

Memory is copied while the guest goes on changing it, until what remains can be copied within the permitted downtime;
then the guest stands still and the rest is copied. Auto-converge slows the guest down after each pass that has gained
too little; with post-copy it goes on at the destination, and what remains follows it. A migration under way is a record
from which any process can compute how far it is at any moment, so one that was killed and started again finds it where
it would be by now.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

from minova.objects import MigrationProgress

MIB = 2**20

SPARSE_DISK_BYTES_PER_GB = 16 * MIB
"""What a block migration copies of each GiB of disk: an invention of the simulation, whose disks are nearly empty."""

FIRST_THROTTLE, MORE_THROTTLE, MOST_THROTTLE = 20, 10, 99
"""By how many percent auto-converge slows a guest down at first, by how many more each time, and at most: QEMU's."""

TOO_FAST = 0.5
"""The share of the bandwidth above which a guest that changes its memory so fast is slowed down: QEMU's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a migration copies, in bytes, bytes per second and seconds.

    :ivar downtime: for how long the guest may stand still at the switch-over.
    :ivar dirty_rate: how fast the guest changes its memory while it runs, unless it is slowed down.
    :ivar auto_converge: whether it may be slowed down.
    :ivar post_copy: whether it may go on at the destination before all is copied.
    """

    memory_bytes: int
    disk_bytes: int
    bandwidth: float
    dirty_rate: float
    downtime: float
    auto_converge: bool = False
    post_copy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedMigration:
    """A live migration under way. Times are wall clock, in seconds since the epoch, so that they outlive a process.

    :ivar since: when the guest began to change its memory as fast as it does now; the start, or a pause.
    :ivar remaining_bytes: what had to be copied at that moment.
    :ivar iteration: the pass over the memory that began at that moment.
    :ivar running: whether the guest runs since that moment; a paused guest changes nothing.
    :ivar forced_at: when it was forced to its end; None: it was not.
    :ivar aborted_at: when it was aborted; None: it was not.
    :ivar throttle: by how many percent the guest is slowed down since that moment.
    """

    destination: str
    started_at: float
    pace: Pace
    since: float
    remaining_bytes: float
    iteration: int
    running: bool
    forced_at: float | None = None
    aborted_at: float | None = None
    throttle: int = 0

    @classmethod
    def start(cls, destination: str, pace: Pace, now: float, *, running: bool) -> Self:
        """Return a migration that begins now."""
        return cls(
            destination=destination,
            started_at=now,
            pace=pace,
            since=now,
            remaining_bytes=float(pace.memory_bytes + pace.disk_bytes),
            iteration=1,
            running=running,
        )

    @property
    def dirty_rate(self) -> float:
        """Bytes per second that the guest changes from ``since`` on."""
        return self.pace.dirty_rate * (100 - self.throttle) / 100 if self.running else 0.0

    @property
    def is_paused(self) -> bool:
        """Whether the guest stands still until the end because that is forced."""
        return self.forced_at is not None and not self.pace.post_copy

    @property
    def _last_bytes(self) -> float:
        """What may remain when the guest is stopped; a guest that is too fast is never stopped, however small it is."""
        return self.pace.bandwidth * self.pace.downtime if self.dirty_rate < self.pace.bandwidth else 0.0

    def at(self, now: float) -> Self:
        """Return the migration as it is by then: its guest slowed down after each pass that gained too little."""
        slower = self._slowed_down()
        return slower.at(now) if slower is not None and slower.since <= now else self

    def guest_runs(self, now: float, *, running: bool) -> Self:
        """Return the migration as it goes on once the guest runs, or does not, from now on."""
        current, running = self.at(now), running and not self.is_paused
        if running == current.running:
            return current
        remaining, iteration = current.remaining(now), current._iteration(now) + 1
        return replace(
            current, since=max(now, current.since), remaining_bytes=remaining, iteration=iteration, running=running
        )

    def force(self, now: float) -> Self:
        """Return the migration with its guest paused from now on, unless that may go on at the destination."""
        if self.forced_at is not None:
            return self
        forced = replace(self, forced_at=now)
        return forced.guest_runs(now, running=False) if forced.is_paused else forced

    def leaves_now(self, now: float) -> bool:
        """Return whether the guest is to go on at the destination before all is copied.

        That is if it may, once it is forced to, or when after the first pass it changes memory too fast for any other.
        """
        current = self.at(now)
        hopeless = current.dirty_rate >= self.pace.bandwidth and current._iteration(now) > 1
        return self.pace.post_copy and (self.forced_at is not None or hopeless)

    def abort(self, now: float) -> Self:
        """Return the migration as one that is to end at the source."""
        return self if self.aborted_at is not None else replace(self, aborted_at=now)

    def remaining(self, now: float) -> float:
        """Return the bytes that are still to be copied, those that the guest has changed again among them."""
        return self.at(now)._remaining(now)

    def _remaining(self, now: float) -> float:
        pace, left, seconds = self.pace, self.remaining_bytes, max(0.0, now - self.since)
        stretches = (
            # Disks come first. Memory that is changed meanwhile has to be copied anyway.
            (float(pace.memory_bytes), pace.bandwidth),
            (self._last_bytes, pace.bandwidth - self.dirty_rate),
            # Here the guest stands still.
            (0.0, pace.bandwidth),
        )
        for floor, rate in stretches:
            above = left - floor
            if above <= 0:
                continue
            if above > rate * seconds:
                return min(left - rate * seconds, max(left, float(pace.memory_bytes)))
            left, seconds = floor, seconds - above / rate
        return 0.0

    def progress(self, now: float) -> MigrationProgress:
        """Return how far it is; what is done and what remains always add up to the total."""
        current, total = self.at(now), self.pace.memory_bytes + self.pace.disk_bytes
        remaining = int(current._remaining(now))
        return MigrationProgress(
            total_bytes=total,
            done_bytes=total - remaining,
            remaining_bytes=remaining,
            dirty_rate=int(current.dirty_rate),
            bandwidth=int(self.pace.bandwidth),
            iteration=current._iteration(now),
            elapsed=max(0.0, now - self.started_at),
            throttle=current.throttle,
            downtime_ms=int(current._standstill * 1000),
        )

    @property
    def _standstill(self) -> float:
        """Seconds for which the guest stands still in the end, if nothing is done about that."""
        if self.is_paused:
            return self.remaining_bytes / self.pace.bandwidth
        last = min(self.remaining_bytes, self._last_bytes or self.pace.memory_bytes)
        return last / self.pace.bandwidth if self.running else 0.0

    def _slowed_down(self) -> Self | None:
        """Return the migration from the end of this pass on, if the guest is slowed down then."""
        pace = self.pace
        changed = min(self.remaining_bytes, float(pace.memory_bytes)) * self.dirty_rate / pace.bandwidth
        too_fast = self.dirty_rate > pace.bandwidth * TOO_FAST and changed > self._last_bytes
        if not pace.auto_converge or not too_fast or self.throttle == MOST_THROTTLE:
            return None
        return replace(
            self,
            since=self.since + self.remaining_bytes / pace.bandwidth,
            remaining_bytes=min(changed, float(pace.memory_bytes)),
            iteration=self.iteration + 1,
            throttle=min(self.throttle + MORE_THROTTLE, MOST_THROTTLE) if self.throttle else FIRST_THROTTLE,
        )

    def _iteration(self, now: float) -> int:
        """Return which pass this is. A pass copies what was changed during the one before: ``ratio`` times as much."""
        pace = self.pace
        ratio = self.dirty_rate / pace.bandwidth
        begin = min(self.remaining_bytes, float(pace.memory_bytes))
        if ratio == 0 or begin <= self._last_bytes:
            return self.iteration
        if ratio < 1:
            passes = math.log(min(begin, max(self._remaining(now), self._last_bytes)) / begin) / math.log(ratio)
        else:
            disk_seconds = (self.remaining_bytes - begin) / pace.bandwidth
            passes = max(0.0, now - self.since - disk_seconds) * pace.bandwidth / pace.memory_bytes
        return self.iteration + int(passes)
