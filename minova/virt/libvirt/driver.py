"""The libvirt driver."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from oslo_config import cfg

from minova.exception import InsufficientResources, OperationRefused
from minova.objects import ConsoleOutput, Guest, HostCapacity, Instance, MigrateData, MigrationOptions
from minova.states import PowerState
from minova.virt.driver import ComputeDriver, ProgressCallback
from minova.virt.libvirt.builder import Builder
from minova.virt.libvirt.connection import Connection
from minova.virt.libvirt.console import read_console
from minova.virt.libvirt.console_input import OpenConsoles
from minova.virt.libvirt.events import GuestWatch
from minova.virt.libvirt.guests import Guests
from minova.virt.libvirt.host import HostFacts
from minova.virt.libvirt.images import ImageCache
from minova.virt.libvirt.migrator import LiveMigrator
from minova.virt.libvirt.preparation import Preparation
from minova.virt.libvirt.room import Room
from minova.virt.libvirt.storage import Storage

LOG = logging.getLogger(__name__)

ALIVE = (PowerState.RUNNING, PowerState.PAUSED)


class LibvirtDriver:
    """A host whose guests are run by its libvirtd, which may be restarted at any time.

    All that is known of guests is with libvirtd and in their folders, so it does not matter when this process ends.
    """

    def __init__(self, conf: cfg.ConfigOpts, host: str, images: ImageCache) -> None:
        """Make the host known to those that share its storage; libvirtd is not asked yet.

        :raises ConfigurationError: a folder cannot be used.
        """
        self._conf = conf
        self._host = host
        self._connection = Connection(conf.libvirt.connection_uri, host)
        self._storage = Storage(conf, host)
        self._facts = HostFacts(conf, self._connection)
        self._guests = Guests(self._connection, self._storage, host)
        self._open_consoles = OpenConsoles(self._connection)
        self._images = images
        self._room = Room(host, self._facts, self._guests)
        self._builder = Builder(conf, host, self._storage, self._facts, images)
        self._migrator = LiveMigrator(conf, host, self._connection, self._storage)
        self._preparation = Preparation(
            conf, host, self._connection, self._storage, self._facts, self._guests, self._builder, self._migrator
        )

    def watch_guests(self, on_change: Callable[[], object]) -> Callable[[], None]:
        """Call ``on_change`` soon after a guest has changed, or libvirtd is back; return what ends that."""
        return GuestWatch(self._connection.uri, on_change).stop

    def capacity(self) -> HostCapacity:
        """Return what the host has, times the allocation ratios."""
        return self._facts.capacity()

    def list_guests(self) -> tuple[Guest, ...]:
        """Return every guest of minova's on this host."""
        return tuple(self._with_destination(guest) for guest in self._guests.all())

    def get_guest(self, uuid: str) -> Guest | None:
        """Return one guest, or None."""
        guest = self._guests.find(uuid)
        return self._with_destination(guest) if guest is not None else None

    def check_can_spawn(self, instance: Instance) -> None:
        """Look for room, for where its files are to be and for the guest's network, and fetch its image."""
        self._storage.require_place()
        with self._room.taken(instance):
            self._builder.check(instance)

    def spawn(self, instance: Instance, *, power_on: bool = True) -> None:
        """Make the guest's files and domain; a disk that this host owns, or takes over, stays as it is.

        :raises OperationRefused: its disk is on another host, and cannot be reached, or it is still to come from there.
        """
        # In this order: it may arrive meanwhile.
        if self._guests.is_arriving(instance.uuid):
            reason = "its live migration to here has not ended (if its source is gone, `virsh destroy` it here)"
            raise self._connection.refusal("spawn", reason)
        if not self._guests.has_domain(instance.uuid):
            self._require_disk(instance)
            with self._room.taken(instance):
                self._build(instance)
        self._set_power(instance.uuid, power_on)

    def destroy(self, uuid: str, *, home: str | None = None) -> None:
        """Remove the guest's domain and its files, but for those of a guest that another host has."""
        gone_to = self._guests.gone_to(uuid)
        if gone_to is not None:
            self._storage.hand_over(uuid, gone_to)
        elif self._storage.owner(uuid) == self._host:
            # Without its domain it would look as if it had gone there.
            self._storage.forget_destination(uuid)
        self._guests.forget(uuid)
        self._storage.remove(uuid, for_good=home == self._host)

    def power_on(self, uuid: str) -> None:
        """Let the guest run, whatever its state."""
        self._require_settled(uuid)
        self._storage.forget_reboot(uuid)
        self._guests.start(uuid)

    def power_off(self, uuid: str) -> None:
        """Ask the guest to shut down, and take its power after ``[libvirt] shutdown_timeout``."""
        self._require_settled(uuid)
        self._storage.forget_reboot(uuid)
        self._guests.stop(uuid, self._conf.libvirt.shutdown_timeout)

    def reboot(self, uuid: str, *, hard: bool) -> None:
        """Shut the guest down, or take its power, and start it. :raises OperationRefused: soft, and it does not run."""
        if hard:
            self._require_settled(uuid)
            self._guests.cut_off(uuid)
        else:
            # One that is off may be so for a process that was killed before it could start it again.
            off = (PowerState.SHUTDOWN,) if self._storage.reboots(uuid) else ()
            self._require_state(uuid, "reboot", PowerState.RUNNING, *off)
            self._storage.note_reboot(uuid)
            self._guests.stop(uuid, self._conf.libvirt.wait_soft_reboot_seconds)
        self._guests.start(uuid)
        self._storage.forget_reboot(uuid)

    def pause(self, uuid: str) -> None:
        """Freeze the guest in memory."""
        if self._require_state(uuid, "pause", *ALIVE) is PowerState.RUNNING:
            self._guests.pause(uuid)

    def unpause(self, uuid: str) -> None:
        """Let a paused guest run on."""
        if self._require_state(uuid, "unpause", *ALIVE) is PowerState.PAUSED:
            self._guests.start(uuid)

    def check_can_live_migrate_source(
        self, instance: Instance, destination: str, options: MigrationOptions
    ) -> MigrateData:
        """Check the guest, its disks and its CPU. :raises GuestNotFound:"""
        self._require_settled(instance.uuid)
        return self._preparation.check_source(instance, destination, options)

    def check_can_live_migrate_destination(
        self, instance: Instance, options: MigrationOptions, data: MigrateData
    ) -> None:
        """Check what this host has of what the guest needs."""
        self._preparation.check_destination(instance, data)

    def pre_live_migration(self, instance: Instance, options: MigrationOptions, data: MigrateData) -> MigrateData:
        """Make the files that the guest needs here."""
        return self._preparation.prepare(instance, options, data)

    def live_migration(
        self,
        instance: Instance,
        destination: str,
        options: MigrationOptions,
        data: MigrateData,
        on_progress: ProgressCallback,
    ) -> None:
        """Have libvirt move the guest, or join what it is at already."""
        self._migrator.run(instance, destination, options, data, on_progress)

    def live_migration_abort(self, uuid: str) -> None:
        """Abort what libvirt is at. :raises OperationRefused: the guest runs at the destination already."""
        self._migrator.abort(uuid)

    def live_migration_force_complete(self, uuid: str) -> None:
        """Switch over to post-copy, or let the guest stand still for as long as it takes."""
        self._migrator.force(uuid)

    def post_live_migration_at_destination(self, instance: Instance) -> None:
        """Have this host own the guest."""
        self._preparation.finish(instance)

    def rollback_live_migration_at_destination(self, uuid: str) -> None:
        """Remove what was made for a guest that does not come."""
        self._preparation.roll_back(uuid)

    def migrate_disk_and_power_off(self, instance: Instance, destination: str) -> None:
        """Shut the guest down and let the destination own it. :raises OperationRefused: that cannot reach its disks."""
        uuid, operation = instance.uuid, "migrate_disk_and_power_off"
        if self._guests.find(uuid) is None and self._storage.owner(uuid) == destination:
            return
        self._require_settled(uuid)
        if destination == self._host:
            raise self._connection.refusal(operation, f"it is on {destination} already")
        if not self._storage.shares_with(destination):
            reason = f"{destination} does not share {self._storage.root}: live-migrate it with --block instead"
            raise self._connection.refusal(operation, reason)
        self._guests.stop(uuid, self._conf.libvirt.shutdown_timeout)
        self._storage.hand_over(uuid, destination)
        self._guests.forget(uuid)
        self._storage.remove_console(uuid)

    def finish_migration(self, instance: Instance, *, power_on: bool) -> None:
        """Make the domain of a guest that this host owns."""
        self._require_settled(instance.uuid)
        if not self._guests.has_domain(instance.uuid):
            self._guests.define(instance.uuid, self._builder.build(instance))
        self._set_power(instance.uuid, power_on)

    def console_output(self, uuid: str, offset: int) -> ConsoleOutput:
        """Return what libvirt has written down of the guest's console."""
        self._guests.require(uuid)
        log = self._storage.console(uuid)
        try:
            return read_console(log, offset)
        except OSError as error:
            raise self._connection.refusal("console_output", f"{log}: {error.strerror}") from error

    def console_input(self, uuid: str, text: str) -> None:
        """Write to the guest's console by libvirt, for as long as it runs; a paused one would not read it."""
        state = self._guests.require(uuid).power_state
        if state is not PowerState.RUNNING:
            raise self._connection.refusal("console_input", f"the guest is {state}")
        self._open_consoles.send(uuid, text)

    def close(self) -> None:
        """Let go of the consoles."""
        self._open_consoles.close()

    def manage_image_cache(self) -> None:
        """Remove the images that no guest of any host has used for long, and what awaits guests that never came."""
        try:
            self._storage.require_place()
        except OperationRefused as error:
            # An empty folder tells of no guest that uses an image.
            LOG.warning("Nothing is cleaned up: %s", error.message)
            return
        self._images.clean_up()
        self._preparation.clean_up()

    def _build(self, instance: Instance) -> None:
        self._storage.discard(instance.uuid)
        if instance.host == self._host and self._storage.owner(instance.uuid) not in (None, self._host):
            # Who lives here is made anew from nothing. Whoever had it meanwhile was heard since, or is off.
            self._storage.take(instance.uuid)
            self._storage.remove(instance.uuid, for_good=True)
        try:
            self._guests.define(instance.uuid, self._builder.build(instance))
        except InsufficientResources:
            # Another host will be tried, and nobody will tell this one to clean up.
            self._storage.remove(instance.uuid, for_good=False)
            raise

    def _set_power(self, uuid: str, power_on: bool) -> None:
        if power_on:
            self._guests.start(uuid)
        else:
            self._guests.stop(uuid, self._conf.libvirt.shutdown_timeout)

    def _require_disk(self, instance: Instance) -> None:
        """Refuse to make a guest that was on another host with a new disk. :raises OperationRefused:"""
        uuid, host, disk = instance.uuid, instance.host, self._storage.disk(instance.uuid)
        if host in (None, self._host):
            return
        if not self._storage.shares_with(host) or not disk.is_file():
            what_to_do = "mount what both are to share, or delete the instance and boot anew"
            reason = f"the disk that the guest had on {host} is not in {disk.parent}: {what_to_do}"
            raise self._connection.refusal("spawn", reason)
        owner = self._storage.owner(uuid)
        # Whoever had taken it from there without an end was heard since, or is off.
        if owner not in (host, self._host) and self._storage.former_owner(uuid) != host:
            what_to_do = f"if it does not run there, write {host} to {disk.with_name('owner')}"
            reason = f"the disk that the guest had on {host} is {owner or 'nobody'}'s now: {what_to_do}"
            raise self._connection.refusal("spawn", reason)

    def _with_destination(self, guest: Guest) -> Guest:
        destination = self._migrator.destination_of(guest.uuid)
        return replace(guest, migrating_to=destination) if destination is not None else guest

    def _require_settled(self, uuid: str) -> Guest:
        """Return a guest that lives here: whoever works on it will not want it back. :raises GuestNotFound:"""
        guest = self._guests.require(uuid)
        self._storage.settle(uuid)
        return guest

    def _require_state(self, uuid: str, operation: str, *allowed: PowerState) -> PowerState:
        """Return the power state of a guest. :raises GuestNotFound: :raises OperationRefused: it is not allowed."""
        state = self._require_settled(uuid).power_state
        if state not in allowed:
            raise self._connection.refusal(operation, f"the guest is {state}")
        return state


if TYPE_CHECKING:
    _FULFILS: type[ComputeDriver] = LibvirtDriver
