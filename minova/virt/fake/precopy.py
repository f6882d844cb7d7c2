"""A simulated live migration: pre-copy, as a pure function of what was decided about it and of the time.

Memory is copied while the guest goes on changing it, until what remains can be copied within the permitted downtime;
then the guest stands still and the rest is copied. A migration under way is a record from which any process can
compute how far it is at any moment, so one that was killed and started again finds it where it would be by now.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

from minova.objects import MigrationProgress

MIB = 2**20

SPARSE_DISK_BYTES_PER_GB = 16 * MIB
"""What a block migration copies of each GiB of disk: an invention of the simulation, whose disks are nearly empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a migration copies, in bytes, bytes per second and seconds.

    :ivar downtime: for how long the guest may stand still at the switch-over.
    :ivar dirty_rate: how fast the guest changes its memory while it runs.
    """

    memory_bytes: int
    disk_bytes: int
    bandwidth: float
    dirty_rate: float
    downtime: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedMigration:
    """A live migration under way. Times are wall clock, in seconds since the epoch, so that they outlive a process.

    :ivar since: when the guest began to change its memory as fast as it does now; the start, or a pause.
    :ivar remaining_bytes: what had to be copied at that moment.
    :ivar iteration: the pass over the memory that began at that moment.
    :ivar running: whether the guest runs since that moment; a paused guest changes nothing.
    :ivar forced_at: since when the guest is paused so that the migration can end; None: it is not.
    :ivar aborted_at: when it was aborted; None: it was not.
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
        """Bytes per second that the guest changes now."""
        return self.pace.dirty_rate if self.running else 0.0

    @property
    def _last_bytes(self) -> float:
        """What may remain when the guest is stopped; a guest that is too fast is never stopped, however small it is."""
        return self.pace.bandwidth * self.pace.downtime if self.dirty_rate < self.pace.bandwidth else 0.0

    def guest_runs(self, now: float, *, running: bool) -> Self:
        """Return the migration as it goes on once the guest runs, or does not, from now on."""
        running = running and self.forced_at is None
        if running == self.running:
            return self
        remaining, iteration = self.remaining(now), self._iteration(now) + 1
        return replace(
            self, since=max(now, self.since), remaining_bytes=remaining, iteration=iteration, running=running
        )

    def force(self, now: float) -> Self:
        """Return the migration with its guest paused from now on."""
        return self if self.forced_at is not None else replace(self, forced_at=now).guest_runs(now, running=False)

    def abort(self, now: float) -> Self:
        """Return the migration as one that is to end at the source."""
        return self if self.aborted_at is not None else replace(self, aborted_at=now)

    def remaining(self, now: float) -> float:
        """Return the bytes that are still to be copied, those that the guest has changed again among them."""
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
        total, remaining = self.pace.memory_bytes + self.pace.disk_bytes, int(self.remaining(now))
        return MigrationProgress(
            total_bytes=total,
            done_bytes=total - remaining,
            remaining_bytes=remaining,
            dirty_rate=int(self.dirty_rate),
            bandwidth=int(self.pace.bandwidth),
            iteration=self._iteration(now),
            elapsed=max(0.0, now - self.started_at),
        )

    def _iteration(self, now: float) -> int:
        """Return which pass this is. A pass copies what was changed during the one before: ``ratio`` times as much."""
        pace = self.pace
        ratio = self.dirty_rate / pace.bandwidth
        begin = min(self.remaining_bytes, float(pace.memory_bytes))
        if ratio == 0 or begin <= self._last_bytes:
            return self.iteration
        if ratio < 1:
            passes = math.log(min(begin, max(self.remaining(now), self._last_bytes)) / begin) / math.log(ratio)
        else:
            disk_seconds = (self.remaining_bytes - begin) / pace.bandwidth
            passes = max(0.0, now - self.since - disk_seconds) * pace.bandwidth / pace.memory_bytes
        return self.iteration + int(passes)
