"""Sees live migrations through: starts or joins them, watches them, and tells how they ended.

A peer-to-peer migration is the work of the source's libvirtd: it goes on when the compute is killed, and ends, with the
guest still at the source, when that libvirtd is. So all that is to be known of one is asked of libvirt each time; but
for its destination, which libvirt does not tell, and which is noted in the guest's folder.
"""

import functools
import logging
import operator
import threading
from contextlib import suppress
from typing import Any

import libvirt
from oslo_config import cfg

from minova.exception import HostUnusable, MigrationAborted, MigrationFailed, OperationRefused
from minova.objects import Instance, MigrateData, MigrationOptions, MigrationProgress
from minova.virt.driver import ProgressCallback
from minova.virt.libvirt.connection import Connection
from minova.virt.libvirt.job import Attempt, Sight, in_uri, look, without_job
from minova.virt.libvirt.storage import Storage

LOG = logging.getLogger(__name__)

LONGEST_DOWNTIME_MS = 2_000_000
"""QEMU's limit (``MAX_MIGRATE_DOWNTIME``): the guest stands still until all that remains is copied."""

_ALWAYS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
    # libvirt can only guess from the kind of file system whether it is shared. Here it has been checked that it is, and
    # no host caches what guests write.
    | libvirt.VIR_MIGRATE_UNSAFE
)


class LiveMigrator:
    """The live migrations that leave one host."""

    def __init__(self, conf: cfg.ConfigOpts, host: str, connection: Connection, storage: Storage) -> None:
        """Migrate the guests of ``host``."""
        self._conf = conf
        self._host = host
        self._connection = connection
        self._storage = storage
        self._lock = threading.Lock()
        self._aborted: set[str] = set()

    def run(
        self,
        instance: Instance,
        destination: str,
        options: MigrationOptions,
        data: MigrateData,
        on_progress: ProgressCallback,
    ) -> None:
        """Fulfil :meth:`minova.virt.driver.ComputeDriver.live_migration`.

        :raises HostUnusable: it is open whether the guest has left; the destination can tell.
        """
        uuid = instance.uuid
        try:
            sight = self._look(uuid)
            if sight is None:
                self._let_go_of_files(uuid, destination, options, sure=False)
                return
            going_to = self._storage.destination(uuid)
        except OperationRefused as error:
            if not self._may_have_begun(uuid):
                raise
            raise HostUnusable(host=self._host, reason=error.reason) from error
        if sight.leaving and going_to != destination:
            raise MigrationFailed(uuid=uuid, reason=f"it is migrating to {going_to or 'another host'} already")
        with self._lock:
            self._aborted.discard(uuid)
        attempt = None if sight.leaving else self._start(sight, instance, destination, options, data)
        try:
            self._watch(uuid, attempt, options, on_progress)
            self._conclude(uuid, destination, options, attempt)
        except OperationRefused as error:
            # What has begun is not known to have failed because libvirtd does not answer.
            raise HostUnusable(host=self._host, reason=error.reason) from error

    def destination_of(self, uuid: str) -> str | None:
        """Return where a guest of this host is on its way to at this moment; None: nowhere."""
        if not self._may_have_begun(uuid):
            return None
        sight = self._look(uuid)
        # Only of one that is on its way does it matter if the note cannot be read.
        return self._storage.destination(uuid) if sight is not None and sight.leaving else None

    def abort(self, uuid: str) -> None:
        """Abort a migration; nothing happens without one.

        :raises OperationRefused: the guest runs at the destination already (post-copy), and cannot be called back.
        """
        sight = self._look(uuid)
        if sight is None or not sight.leaving:
            return
        if sight.in_post_copy:
            reason = "the guest runs at the destination already, and its memory follows"
            raise OperationRefused(host=self._host, operation="live_migration_abort", reason=reason)
        with self._lock:
            self._aborted.add(uuid)
        self._ask("live_migration_abort", uuid, lambda domain: domain.abortJob())

    def force(self, uuid: str) -> None:
        """Let the guest go on at the destination at once if its migration permits that, else stand still until then."""
        sight = self._look(uuid)
        if sight is None or not sight.leaving or sight.in_post_copy:
            return
        if self._storage.permits_post_copy(uuid):
            self._ask("live_migration_force_complete", uuid, lambda domain: domain.migrateStartPostCopy())
        else:
            # Pausing it would do as well, but who is killed then leaves a guest that nobody lets run on.
            longest = LONGEST_DOWNTIME_MS
            self._ask("live_migration_force_complete", uuid, lambda domain: domain.migrateSetMaxDowntime(longest))

    def _start(
        self, sight: Sight, instance: Instance, destination: str, options: MigrationOptions, data: MigrateData
    ) -> Attempt:
        uuid = instance.uuid
        if self._storage.destination(uuid) is not None and sight.may_have_left:
            raise self._open()
        if not sight.alive:
            raise MigrationFailed(uuid=uuid, reason=f"the guest is {sight.power_state}")
        try:
            address = in_uri(data.address or destination)
        except ValueError as error:
            reason = f"{destination} cannot take it: {error} (see [libvirt] live_migration_inbound_addr there)"
            raise MigrationFailed(uuid=uuid, reason=reason) from None
        scheme, parameters = self._conf.libvirt.live_migration_scheme, dict[str, Any]()
        parameters[libvirt.VIR_MIGRATE_PARAM_URI] = f"tcp://{address}"
        if options.bandwidth_mib is not None:
            parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = options.bandwidth_mib
        if options.max_downtime_ms is not None:
            downtime = options.max_downtime_ms
            self._ask("live_migration", uuid, lambda domain: domain.migrateSetMaxDowntime(downtime))
        self._storage.note_destination(uuid, destination, post_copy=bool(options.post_copy))
        uri = f"qemu+{scheme}://{address}/system"
        return Attempt(self._connection.uri, uuid, uri, parameters, self._flags(options))

    def _flags(self, options: MigrationOptions) -> int:
        chosen = {
            libvirt.VIR_MIGRATE_NON_SHARED_INC: options.block_migration,
            libvirt.VIR_MIGRATE_AUTO_CONVERGE: options.auto_converge,
            libvirt.VIR_MIGRATE_POSTCOPY: options.post_copy,
            libvirt.VIR_MIGRATE_TLS: self._conf.libvirt.live_migration_with_native_tls,
        }
        return int(functools.reduce(operator.or_, (flag for flag, wanted in chosen.items() if wanted), _ALWAYS))

    def _watch(
        self, uuid: str, attempt: Attempt | None, options: MigrationOptions, on_progress: ProgressCallback
    ) -> None:
        """Watch a migration until it has ended, whoever has begun it."""
        interval = self._conf.compute.live_migration_progress_interval / 2
        progress, pause, ours = MigrationProgress(), threading.Event(), attempt
        while True:
            # If libvirtd is away, it is to be seen once it is back what has become of the migration.
            with suppress(OperationRefused):
                sight = self._look(uuid)
                if ours is None and (sight is None or not sight.leaving or sight.has_broken):
                    return
                progress = sight.progress if sight is not None and sight.leaving else progress
                if options.post_copy and not progress.post_copy and not progress.converges:
                    self.force(uuid)
            on_progress(progress)
            if ours is None:
                pause.wait(interval)
            elif ours.wait(interval):
                if not ours.broke_off:
                    return
                # Perhaps it is only our connection that broke, and it goes on.
                ours = None

    def _conclude(self, uuid: str, destination: str, options: MigrationOptions, attempt: Attempt | None) -> None:
        """Return if the guest has left, and raise what has happened if not."""
        with self._lock:
            aborted = uuid in self._aborted
            self._aborted.discard(uuid)
        sight = self._look(uuid)
        if sight is None:
            sure = attempt is not None and attempt.error is None
            self._let_go_of_files(uuid, destination, options, sure=sure)
            return
        if sight.may_have_left:
            raise self._open()
        self._storage.forget_destination(uuid)
        if not sight.alive:
            raise MigrationFailed(uuid=uuid, reason=f"the guest is {sight.power_state}")
        if aborted or (attempt is not None and attempt.was_aborted):
            raise MigrationAborted(uuid=uuid)
        raise MigrationFailed(uuid=uuid, reason=attempt.reason if attempt is not None else "libvirt gave it up")

    def _may_have_begun(self, uuid: str) -> bool:
        try:
            return self._storage.destination(uuid) is not None
        except OperationRefused:
            return True

    def _open(self) -> HostUnusable:
        reason = (
            "the migration broke off as the guest was leaving, and libvirt cannot tell whether it runs at the "
            "destination (if it does not, and stands still here, unpause it)"
        )
        return HostUnusable(host=self._host, reason=reason)

    def _let_go_of_files(self, uuid: str, destination: str, options: MigrationOptions, *, sure: bool) -> None:
        """Leave the guest's files to the destination, or remove them if it has its own; the console begins anew."""
        if not options.block_migration:
            self._storage.remove_console(uuid)
            if self._storage.owner(uuid) == self._host:
                self._storage.hand_over(uuid, destination)
        elif sure:
            # Otherwise the files stay until a conductor knows where the guest is, and has them removed.
            self._storage.remove(uuid, for_good=True)
        # Last: until then it tells who has the files.
        self._storage.forget_destination(uuid)

    def _look(self, uuid: str) -> Sight | None:
        return self._connection.run("live_migration", functools.partial(look, uuid))

    def _ask(self, operation: str, uuid: str, ask: Any) -> None:
        def work(connection: libvirt.virConnect) -> None:
            without_job(lambda: ask(connection.lookupByUUIDString(uuid)))

        self._connection.run(operation, work)
