"""Sees live migrations through: starts or joins them, waits, and switches the guest over.

All that is decided about a migration is in its guest's file, so a decision holds whichever thread made it, and whether
or not the process lives on.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from oslo_config import cfg

from minova.exception import MigrationAborted, MigrationFailed
from minova.objects import MigrationOptions, MigrationProgress
from minova.states import PowerState
from minova.virt.driver import ProgressCallback
from minova.virt.fake.guests import GuestFiles, GuestRecord
from minova.virt.fake.precopy import MIB, SPARSE_DISK_BYTES_PER_GB, Pace, SimulatedMigration

SHORTEST_SLEEP, LONGEST_SLEEP = 0.001, 0.02
"""Seconds between two looks at a migration under way: so soon is it noticed that it was aborted."""


class LiveMigrator:
    """The live migrations that leave one host."""

    def __init__(
        self, conf: cfg.ConfigOpts, files: GuestFiles, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        """Take the source's files; clock and sleep as in :class:`~minova.virt.fake.driver.FakeDriver`."""
        self._conf = conf
        self._files = files
        self._clock = clock
        self._sleep = sleep

    def why_not(self, record: GuestRecord, destination: str) -> str | None:
        """Return why the guest cannot be live-migrated to that host, or None if it can."""
        migrating_to = record.as_guest().migrating_to
        if migrating_to not in (None, destination):
            return f"it is migrating to {migrating_to} already"
        if record.power_state not in (PowerState.RUNNING, PowerState.PAUSED):
            return f"the guest is {record.power_state}"
        return self._files.why_not_to(destination, record.uuid)

    def run(self, uuid: str, destination: str, options: MigrationOptions, on_progress: ProgressCallback) -> None:
        """Fulfil :meth:`minova.virt.driver.ComputeDriver.live_migration`."""
        if not self._start_or_join(uuid, destination, options):
            return
        report_in = 0.0
        while (migration := self._under_way(uuid)) is not None:
            now = self._clock()
            progress = migration.progress(now)
            leaves = progress.remaining_bytes == 0 or migration.leaves_now(now)
            if leaves or report_in <= 0:
                on_progress(progress)
                # Twice as often as the option says, so that it holds on a machine that is busy too.
                report_in = self._conf.compute.live_migration_progress_interval / 2
            if leaves and self._switch_over(uuid):
                self._follow(migration.guest_runs(now, running=False), on_progress)
                return
            report_in -= self._look_away(progress)

    def _follow(self, migration: SimulatedMigration, on_progress: ProgressCallback) -> None:
        """Wait until what remains has followed a guest that is at the destination already."""
        while (progress := migration.progress(self._clock())).remaining_bytes:
            on_progress(replace(progress, post_copy=True))
            self._look_away(progress)

    def _look_away(self, progress: MigrationProgress) -> float:
        """Sleep until there may be news; return for how many seconds."""
        seconds = max(SHORTEST_SLEEP, min(LONGEST_SLEEP, progress.remaining_bytes / progress.bandwidth))
        self._sleep(seconds)
        return seconds

    def abort(self, uuid: str) -> None:
        """Mark the migration as aborted; whoever waits for it, now or after a restart, sees to the rest."""
        self._change(uuid, lambda migration, now: migration.abort(now))

    def force(self, uuid: str) -> None:
        """Keep the guest paused until it is at the destination, or have it go on there at once."""
        self._change(uuid, lambda migration, now: migration.force(now))

    def fail(self, uuid: str, reason: str) -> None:
        """End the migration at the source; nothing happens if the guest has left. :raises MigrationFailed:"""
        with self._files.lock:
            record = self._files.read(uuid)
            if record is not None:
                self._end_at_source(record, reason)

    def _start_or_join(self, uuid: str, destination: str, options: MigrationOptions) -> bool:
        """Return whether a migration is under way now; else the guest is not here any more.

        :raises MigrationFailed: it cannot be started.
        """
        with self._files.lock:
            record = self._files.read(uuid)
            if record is None:
                return False
            if record.migration is not None and record.migration.destination == destination:
                return True
            reason = self.why_not(record, destination)
            if reason is not None:
                raise MigrationFailed(uuid=uuid, reason=reason)
            running = record.power_state is PowerState.RUNNING
            pace = self._pace(record, options)
            migration = SimulatedMigration.start(destination, pace, self._clock(), running=running)
            self._files.write(replace(record, migration=migration))
            return True

    def _pace(self, record: GuestRecord, options: MigrationOptions) -> Pace:
        fake = self._conf.fake
        bandwidth_mib: float = fake.migration_bandwidth
        if options.bandwidth_mib is not None:
            bandwidth_mib = min(bandwidth_mib, options.bandwidth_mib)
        return Pace(
            memory_bytes=(fake.migration_memory_mb or record.memory_mb) * MIB,
            disk_bytes=record.disk_gb * SPARSE_DISK_BYTES_PER_GB if options.block_migration else 0,
            bandwidth=bandwidth_mib * MIB,
            dirty_rate=fake.migration_dirty_rate * MIB,
            downtime=(options.max_downtime_ms or self._conf.compute.live_migration_downtime) / 1000,
            auto_converge=bool(options.auto_converge),
            post_copy=bool(options.post_copy),
        )

    def _under_way(self, uuid: str) -> SimulatedMigration | None:
        """Return the migration, or None if the guest is not here any more.

        :raises MigrationAborted: it was aborted; this is forgotten herewith.
        :raises MigrationFailed: the guest was shut down.
        """
        with self._files.lock:
            record = self._files.read(uuid)
            if record is None:
                return None
            if record.migration is None:
                raise MigrationFailed(uuid=uuid, reason=f"the guest is {record.power_state}")
            if record.migration.aborted_at is not None:
                self._files.write(replace(record, migration=None))
                raise MigrationAborted(uuid=uuid)
            return record.migration

    def _switch_over(self, uuid: str) -> bool:
        """Hand the guest over, and return whether that was done: it may have been aborted or shut down meanwhile.

        :raises MigrationFailed: the destination cannot take the guest.
        """
        with self._files.lock:
            record = self._files.read(uuid)
            if record is None or record.migration is None or record.migration.aborted_at is not None:
                return False
            reason = self._files.why_not_to(record.migration.destination, uuid)
            if reason is not None:
                self._end_at_source(record, reason)
            self._files.move(uuid, record.migration.destination)
            return True

    def _end_at_source(self, record: GuestRecord, reason: str) -> NoReturn:
        self._files.write(replace(record, migration=None))
        raise MigrationFailed(uuid=record.uuid, reason=reason)

    def _change(self, uuid: str, change: Callable[[SimulatedMigration, float], SimulatedMigration]) -> None:
        with self._files.lock:
            record = self._files.read(uuid)
            if record is not None and record.migration is not None:
                self._files.write(replace(record, migration=change(record.migration, self._clock())))
