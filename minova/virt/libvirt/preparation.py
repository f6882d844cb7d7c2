"""What is checked before a live migration, and made ready for it at the destination. No guest moves here."""

import logging
from collections.abc import Callable
from dataclasses import replace

import libvirt
from oslo_config import cfg

from minova.exception import GuestNotFound, HostUnusable, InsufficientResources, OperationRefused
from minova.objects import Instance, MigrateData, MigrationOptions
from minova.states import PowerState
from minova.virt.libvirt import cpu
from minova.virt.libvirt.builder import Builder
from minova.virt.libvirt.connection import Connection
from minova.virt.libvirt.guests import Guests
from minova.virt.libvirt.host import HostFacts
from minova.virt.libvirt.migrator import LiveMigrator
from minova.virt.libvirt.storage import Storage

LOG = logging.getLogger(__name__)

MOVABLE = (PowerState.RUNNING, PowerState.PAUSED)

_SOURCE, _DESTINATION = "check_can_live_migrate_source", "check_can_live_migrate_destination"
_PREPARE = "pre_live_migration"

_NEVER_COMES_SECONDS = 86400.0
"""For so long a migration may wait for its turn after all has been made ready for it."""


class Preparation:
    """Both hosts' parts of a live migration, but for the move itself."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        host: str,
        connection: Connection,
        storage: Storage,
        facts: HostFacts,
        guests: Guests,
        builder: Builder,
        migrator: LiveMigrator,
    ) -> None:
        self._conf = conf
        self._host = host
        self._connection = connection
        self._storage = storage
        self._facts = facts
        self._guests = guests
        self._builder = builder
        self._migrator = migrator

    def check_source(self, instance: Instance, destination: str, options: MigrationOptions) -> MigrateData:
        """Fulfil :meth:`minova.virt.driver.ComputeDriver.check_can_live_migrate_source`."""
        self._storage.require_place()
        guest, reason = self._guests.require(instance.uuid), None
        going_to, shared = self._migrator.destination_of(instance.uuid), self._storage.shares_with(destination)
        if guest.power_state not in MOVABLE:
            reason = f"the guest is {guest.power_state}"
        elif destination == self._host:
            reason = "the guest is here already"
        elif going_to not in (None, destination):
            reason = f"it is migrating to {going_to} already"
        elif shared and options.block_migration:
            reason = f"{destination} has the same storage, so there are no disks to copy: leave out --block"
        elif not shared and not options.block_migration:
            reason = f"{destination} does not share this host's storage: have the disks copied too, with --block"
        if reason is not None:
            raise self._connection.refusal(_SOURCE, reason)
        return MigrateData(cpu=self._guests.on_domain(_SOURCE, instance.uuid, cpu.of_guest))

    def check_destination(self, instance: Instance, data: MigrateData) -> None:
        """Fulfil :meth:`minova.virt.driver.ComputeDriver.check_can_live_migrate_destination`."""
        self._facts.network(instance.network)
        if data.cpu:
            self._connection.run(_DESTINATION, lambda connection: self._require_cpu(connection, data.cpu))

    def prepare(self, instance: Instance, options: MigrationOptions, data: MigrateData) -> MigrateData:
        """Fulfil :meth:`minova.virt.driver.ComputeDriver.pre_live_migration`."""
        memory_mb = self._facts.capacity().memory_mb
        if instance.memory_mb > memory_mb:
            reason = f"it wants {instance.memory_mb} MiB of memory, the host has {memory_mb}"
            raise InsufficientResources(host=self._host, reason=reason)
        arrives = self._guests.is_arriving(instance.uuid) or self._guests.has_domain(instance.uuid)
        self._check_files(instance, options, arrives=arrives)
        # Who asks again while it is on its way must not change what it is copied to.
        if not arrives:
            self._make_files(instance, options)
        return replace(data, address=self._conf.libvirt.live_migration_inbound_addr or self._host)

    def finish(self, instance: Instance) -> None:
        """Fulfil :meth:`minova.virt.driver.ComputeDriver.post_live_migration_at_destination`."""
        # A folder alone may be what is left of an earlier stay.
        if not self._guests.has_domain(instance.uuid):
            raise GuestNotFound(uuid=instance.uuid, host=self._host)
        self._storage.take(instance.uuid)
        self._storage.settle(instance.uuid)
        self._storage.forget_destination(instance.uuid)

    def roll_back(self, uuid: str) -> None:
        """Fulfil :meth:`minova.virt.driver.ComputeDriver.rollback_live_migration_at_destination`."""
        try:
            # In this order: it may arrive meanwhile.
            arriving, arrived = self._guests.is_arriving(uuid), self._guests.has_domain(uuid)
        except OperationRefused as error:
            raise HostUnusable(host=self._host, reason=error.reason) from error
        if arriving:
            reason = "the guest is still arriving: abort its migration at the source"
            raise HostUnusable(host=self._host, reason=reason)
        if not arrived:
            self._storage.discard(uuid)

    def clean_up(self) -> None:
        """Remove what is here of guests that did not come, or have left, if nobody could say so at the time."""
        for uuid in self._storage.expected(_NEVER_COMES_SECONDS):
            self._clear(uuid, self._storage.discard)
        for uuid in self._storage.silent_consoles(_NEVER_COMES_SECONDS):
            self._clear(uuid, self._storage.remove_console)

    def _clear(self, uuid: str, remove: Callable[[str], None]) -> None:
        try:
            # In this order: it may arrive meanwhile.
            if not self._guests.is_arriving(uuid) and self._guests.find(uuid) is None:
                remove(uuid)
        except OperationRefused as error:
            LOG.warning("What is here of guest %s, which is elsewhere, is still there: %s", uuid, error)

    def _check_files(self, instance: Instance, options: MigrationOptions, *, arrives: bool) -> None:
        """Check what is here of a guest's files. :raises OperationRefused:"""
        uuid, comes_from, reason = instance.uuid, instance.host, None
        owner, shared = self._storage.owner(uuid), comes_from is not None and self._storage.shares_with(comes_from)
        if arrives and comes_from not in (owner, self._storage.expected_from(uuid)):
            reason = "it has a guest of this instance already, though that should be elsewhere"
        elif not options.block_migration and (owner != comes_from or not self._storage.disk(uuid).is_file()):
            # The source may see for long that it is shared, though it is not mounted here any more.
            reason = (
                f"the disk that the guest has on {comes_from} is not in {self._storage.folder(uuid)}: is it mounted?"
            )
        elif options.block_migration and shared:
            reason = f"{comes_from} has the same storage, so there are no disks to copy: leave out --block"
        if reason is not None:
            raise self._connection.refusal(_PREPARE, reason)

    def _make_files(self, instance: Instance, options: MigrationOptions) -> None:
        if options.block_migration:
            assert instance.host, "a guest that moves is somewhere"
            # Of a disk that is there already, libvirt would overwrite only parts.
            self._storage.expect(instance.uuid, instance.host)
        definition = self._builder.make_files(instance)
        if options.block_migration:
            self._storage.keep_definition(instance.uuid, definition)

    def _require_cpu(self, connection: libvirt.virConnect, guests: str) -> None:
        try:
            cpu.require(connection, self._conf.libvirt.virt_type, guests)
        except libvirt.libvirtError as error:
            if error.get_error_code() != libvirt.VIR_ERR_CPU_INCOMPATIBLE:
                raise
            reason = f"the guest's CPU cannot be had here ({error}): choose another host, or see [libvirt] cpu_mode"
            raise self._connection.refusal(_DESTINATION, reason) from error
