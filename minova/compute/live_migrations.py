"""Live migrations that leave this host: so many at a time, with progress, abort and a limit of time."""

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import oslo_messaging
from oslo_config import cfg

from minova.compute.work import Detached, Job
from minova.conductor.rpcapi import ConductorAPI
from minova.context import working_for
from minova.exception import DriverError, MigrationAborted, MigrationFailed, MinovaError
from minova.objects import Instance, MigrateData, MigrationOptions, MigrationProgress
from minova.states import MigrationEvent
from minova.virt.driver import ComputeDriver, ProgressCallback

LOG = logging.getLogger(__name__)

_MIB_PER_GIB = 1024
_LEAST_GIB = 2
"""Nova's floor (``nova/virt/libvirt/driver.py``, ``_live_migration_data_gb``)."""


class LiveMigrations:
    """Runs the source's part of live migrations."""

    def __init__(self, conf: cfg.ConfigOpts, driver: ComputeDriver, conductor: ConductorAPI) -> None:
        self._conf = conf
        self.driver = driver
        self._conductor = conductor
        self._changed = threading.Condition()
        self._moving: set[str] = set()
        self.stopping = False

    def run(
        self, job: Job, instance: Instance, destination: str, options: MigrationOptions, data: MigrateData
    ) -> dict[str, Any]:
        """Wait for a free slot, move the guest, and report the progress.

        :raises MigrationAborted: it was cancelled, queued or running.
        :raises MigrationFailed: it could not be done, or took too long.
        :raises Detached: the service is stopping; the move goes on without it.
        :raises LetGo: it had to wait for so long that nobody may want it any more.
        """
        self._take_slot(job)
        interval = self._conf.compute.live_migration_progress_interval
        watch = _Watch(self, job, self._time_limit(instance, options), interval)
        try:
            move = functools.partial(self.driver.live_migration, instance, destination, options, data)
            self._move(job, watch, move)
        except MigrationAborted:
            if watch.timed_out:
                reason = f"it did not end within {watch.limit:g} s"
                raise MigrationFailed(uuid=instance.uuid, reason=reason) from None
            raise
        finally:
            self._free_slot(instance.uuid)
            watch.close()
        return {"progress": msgspec.to_builtins(watch.last)} if watch.last else {}

    def abort(self, job: Job) -> None:
        """Abort a migration, queued or running."""
        job.cancelled.set()
        with self._changed:
            self._changed.notify_all()
            moving = job.order.instance_uuid in self._moving
        if moving:
            self.driver.live_migration_abort(job.order.instance_uuid)

    def resume(self) -> None:
        """Begin what waited for the lease of the host to be renewed, or was let go of meanwhile."""
        with self._changed:
            self._changed.notify_all()

    def stop(self) -> None:
        """Let go of all migrations."""
        with self._changed:
            self.stopping = True
            self._changed.notify_all()

    def _take_slot(self, job: Job) -> None:
        """Wait until there are few enough migrations; one that the hypervisor is at already is among them."""
        begun = self._has_begun(job.order.instance_uuid)
        if not self._enter(job, begun, patience=0):
            self.tell(job, MigrationEvent.QUEUE, None)
            self._enter(job, begun, patience=None)

    def _enter(self, job: Job, begun: bool, patience: float | None) -> bool:
        """Take a slot; return whether one was free within the seconds of ``patience`` (None: however long it takes)."""
        uuid, limit = job.order.instance_uuid, self._conf.compute.max_concurrent_live_migrations

        def may_enter() -> bool:
            if self.stopping:
                raise Detached
            if job.cancelled.is_set() and not begun:
                raise MigrationAborted(uuid=uuid)
            job.require_worth()
            return (begun or len(self._moving) < limit) and job.begin()

        with self._changed:
            if not self._changed.wait_for(may_enter, patience):
                return False
            self._moving.add(uuid)
            return True

    def _has_begun(self, uuid: str) -> bool:
        guest = self.driver.get_guest(uuid)
        return guest is None or guest.migrating_to is not None

    def _move(self, job: Job, watch: "_Watch", move: Callable[[ProgressCallback], None]) -> None:
        try:
            move(watch.on_progress)
        except MigrationAborted:
            if watch.last is not None or job.cancelled.is_set():
                raise
            # The abort was of an earlier migration, whose end nobody was there to see.
            move(watch.on_progress)

    def _free_slot(self, uuid: str) -> None:
        with self._changed:
            self._moving.discard(uuid)
            self._changed.notify_all()

    def _time_limit(self, instance: Instance, options: MigrationOptions) -> float:
        """Return the seconds that a migration may take; 0: no limit."""
        gib = max(_LEAST_GIB, instance.memory_mb / _MIB_PER_GIB)
        gib += instance.disk_gb if options.block_migration else 0
        seconds: int = self._conf.compute.live_migration_completion_timeout
        return seconds * gib

    def tell(self, job: Job, event: MigrationEvent, progress: MigrationProgress | None) -> None:
        """Tell a conductor how far a migration is; what it does not hear now, it hears with the next progress."""
        try:
            self._conductor.report_migration(job.ctxt, job.order, event, progress)
        except (MinovaError, oslo_messaging.MessagingException):
            LOG.warning("The progress of %s was not sent", job.order.instance_uuid)


class _Watch:
    """Looks after one running migration whenever the driver says how far it is."""

    def __init__(self, migrations: LiveMigrations, job: Job, limit: float, interval: float) -> None:
        self._migrations = migrations
        self._job = job
        self._interval = interval
        self._due = 0.0
        self._teller: threading.Thread | None = None
        self.limit = limit
        self.timed_out = False
        self.last: MigrationProgress | None = None

    def on_progress(self, progress: MigrationProgress) -> None:
        """Serve as the driver's callback."""
        if self._migrations.stopping:
            raise Detached
        self.last = progress
        if self.limit and progress.elapsed > self.limit:
            self.timed_out = True
        if self.timed_out or self._job.cancelled.is_set():
            self._abort()
        if time.monotonic() >= self._due and (self._teller is None or not self._teller.is_alive()):
            self._due = time.monotonic() + self._interval
            # While the broker is away this hangs, and the migration has to be looked after all the same.
            self._teller = threading.Thread(target=self._tell, args=(progress,), name="progress", daemon=True)
            self._teller.start()

    def close(self) -> None:
        """Let what is being told be told before the outcome, unless that takes long."""
        if self._teller is not None:
            self._teller.join(self._interval)

    def _tell(self, progress: MigrationProgress) -> None:
        with working_for(self._job.ctxt):
            self._migrations.tell(self._job, MigrationEvent.START, progress)

    def _abort(self) -> None:
        uuid = self._job.order.instance_uuid
        try:
            self._migrations.driver.live_migration_abort(uuid)
        except DriverError as error:
            # If this came out of the callback, the move would go on with nobody looking after it.
            LOG.warning("The migration of %s could not be aborted yet: %s", uuid, error.message)
