"""Live migrations that leave this host: so many at a time, with progress, abort and a limit of time. And their undo."""

import functools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
import oslo_messaging
from oslo_config import cfg

from minova.compute.migration_policy import effective
from minova.compute.work import Detached, Job
from minova.conductor.rpcapi import ConductorAPI
from minova.context import working_for
from minova.exception import DriverError, HostUnusable, MigrationAborted, MigrationFailed, MinovaError
from minova.objects import Instance, MigrateData, MigrationOptions, MigrationProgress
from minova.states import MigrationEvent, TimeoutAction
from minova.virt.driver import ComputeDriver, ProgressCallback

LOG = logging.getLogger(__name__)

_UNDO_SECONDS = 60.0
"""Hypervisors that lose sight of each other notice it after about half of that, and not at the same time."""

_LOOK_SECONDS = 0.5

_QUEUED_SECONDS = 10.0
"""How often a conductor hears of a migration that waits, and can say once more that it is not wanted any more."""


class LiveMigrations:
    """Runs what waits of live migrations: the source's part, and the way back at the destination."""

    def __init__(self, conf: cfg.ConfigOpts, driver: ComputeDriver, conductor: ConductorAPI) -> None:
        self._conf = conf
        self.driver = driver
        self._conductor = conductor
        self._changed = threading.Condition()
        self._moving: set[str] = set()
        self.stopping = False

    def check(self, instance: Instance, destination: str, options: MigrationOptions) -> MigrateData:
        """Check, changing nothing, that a guest of this host can be live-migrated. :raises DriverError:"""
        how = effective(options, self._conf, instance)
        return self.driver.check_can_live_migrate_source(instance, destination, how)

    def run(
        self, job: Job, instance: Instance, destination: str, options: MigrationOptions, data: MigrateData
    ) -> dict[str, Any]:
        """Wait for a free slot, move the guest, and report the progress; return what is to be known in the end.

        :raises MigrationAborted: it was cancelled, queued or running.
        :raises MigrationFailed: it could not be done, or took too long.
        :raises Detached: the service is stopping; the move goes on without it.
        :raises LetGo: it had to wait for so long that nobody may want it any more.
        """
        self._take_slot(job)
        how = effective(options, self._conf, instance)
        watch = _Watch(self, job, how, self._conf.compute.live_migration_progress_interval)
        try:
            self._move(job, watch, functools.partial(self.driver.live_migration, instance, destination, how, data))
        except MigrationAborted:
            if watch.given_up:
                raise MigrationFailed(uuid=instance.uuid, reason=watch.given_up) from None
            raise
        finally:
            self._free_slot(instance.uuid)
            watch.close()
        return watch.result

    def roll_back(self, uuid: str) -> None:
        """Have removed what was made ready here for a guest, as soon as its move here is over.

        :raises HostUnusable: it is not, and that for long.
        :raises Detached: the service is stopping.
        """
        gives_up_at = time.monotonic() + _UNDO_SECONDS
        while True:
            try:
                self.driver.rollback_live_migration_at_destination(uuid)
                return
            except HostUnusable:
                if time.monotonic() >= gives_up_at:
                    raise
            with self._changed:
                if self._changed.wait_for(lambda: self.stopping, _LOOK_SECONDS):
                    raise Detached

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
        patience = 0.0
        while not self._enter(job, begun, patience):
            self.tell(job, MigrationEvent.QUEUE, None)
            patience = _QUEUED_SECONDS

    def _enter(self, job: Job, begun: bool, patience: float) -> bool:
        """Take a slot; return whether one was free within the seconds of ``patience``."""
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
        try:
            guest = self.driver.get_guest(uuid)
        except DriverError:
            # What may have begun is the driver's to judge: to give up here would say that nothing has.
            return True
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

    def tell(self, job: Job, event: MigrationEvent, progress: MigrationProgress | None) -> None:
        """Tell a conductor how far a migration is; what it does not hear now, it hears with the next progress."""
        try:
            self._conductor.report_migration(job.ctxt, job.order, event, progress)
        except (MinovaError, oslo_messaging.MessagingException):
            LOG.warning("The progress of %s was not sent", job.order.instance_uuid)


class _Watch:
    """Looks after one running migration whenever the driver says how far it is.

    :ivar given_up: why it was aborted for its time; empty: it was not.
    """

    def __init__(self, migrations: LiveMigrations, job: Job, options: MigrationOptions, interval: float) -> None:
        self._migrations = migrations
        self._job = job
        self._uuid = job.order.instance_uuid
        self._limit = options.timeout or 0
        self._forces = options.timeout_action is TimeoutAction.FORCE_COMPLETE
        self._interval = interval
        self._due = 0.0
        self._teller: threading.Thread | None = None
        self._note = ""
        self._look_again_at: float = self._limit
        self.given_up = ""
        self.last: MigrationProgress | None = None

    @property
    def result(self) -> dict[str, Any]:
        """What a conductor should know in the end, as JSON types; ``note`` is for the trace."""
        found = {"progress": msgspec.to_builtins(self.last), "note": self._note}
        return {name: value for name, value in found.items() if value}

    def on_progress(self, progress: MigrationProgress) -> None:
        """Serve as the driver's callback."""
        if self._migrations.stopping:
            raise Detached
        self.last = progress
        if not progress.post_copy:
            # From there on there is no way back, and nothing left to be forced.
            self._steer(progress)
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

    def _steer(self, progress: MigrationProgress) -> None:
        """Abort what was cancelled, and do what the policy says about what takes too long."""
        late = bool(self._limit) and progress.elapsed > self._look_again_at
        reason = f"it did not end within {self._limit} s" + (f": it {progress.verdict}" if progress.verdict else "")
        if late and not self._forces:
            self.given_up = self.given_up or reason
        if self.given_up or self._job.cancelled.is_set():
            self._reach(self._migrations.driver.live_migration_abort, "aborted")
        elif late:
            self._force(progress, reason)

    def _force(self, progress: MigrationProgress, reason: str) -> None:
        """Force the migration to its end, once; if that takes as long again, say so, once for each such time."""
        if self._note:
            LOG.warning("The migration of %s was forced to its end, and %s; it goes on", self._uuid, reason)
        elif self._reach(self._migrations.driver.live_migration_force_complete, "forced to its end"):
            self._note = f"{reason}, and was forced to its end"
            LOG.warning("The migration of %s: %s", self._uuid, self._note)
        else:
            return
        self._look_again_at = progress.elapsed + self._limit

    def _reach(self, into: Callable[[str], None], done: str) -> bool:
        """Do something to the running migration, and return whether it was done."""
        try:
            into(self._uuid)
        except DriverError as error:
            # If this came out of the callback, the move would go on with nobody looking after it.
            LOG.warning("The migration of %s could not be %s yet: %s", self._uuid, done, error.message)
            return False
        return True
