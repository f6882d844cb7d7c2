"""What every virt driver can do.

All methods are idempotent, but for :meth:`~ComputeDriver.console_input`: asked again for what is already so, they
succeed. All may be called from several threads, though never two at once for the same guest, but for those that reach
into a live migration that is under way (:meth:`~ComputeDriver.live_migration_abort`,
:meth:`~ComputeDriver.live_migration_force_complete`), are about its console, or look what is there
(:meth:`~ComputeDriver.get_guest`, :meth:`~ComputeDriver.list_guests`). At the source of a live migration, nothing is
left open in the options but the bandwidth, which is the driver's to choose then. They raise
:class:`~minova.exception.DriverError` for what the hypervisor cannot do.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from minova.objects import (
    ConsoleOutput,
    Guest,
    HostCapacity,
    Instance,
    MigrateData,
    MigrationOptions,
    MigrationProgress,
)

ProgressCallback = Callable[[MigrationProgress], None]


class ComputeDriver(Protocol):
    """One hypervisor, on one host."""

    def capacity(self) -> HostCapacity:
        """Return what the host can give to guests, used or not."""
        ...

    def list_guests(self) -> tuple[Guest, ...]:
        """Return every guest of minova's on this host.

        One that is moved is on one of the two hosts at any moment: the source has it until the destination does.
        """
        ...

    def get_guest(self, uuid: str) -> Guest | None:
        """Return one guest, or None if this host does not have it."""
        ...

    def check_can_spawn(self, instance: Instance) -> None:
        """Check that there is room for the guest, be it here already, and have here what it is to be made from.

        No guest is changed.

        :raises InsufficientResources: the host has no room.
        :raises DriverError: it cannot be made, and why.
        """
        ...

    def spawn(self, instance: Instance, *, power_on: bool = True) -> None:
        """Create the guest, and start it unless told otherwise.

        A guest that exists stays as it is, but for its power.

        :raises InsufficientResources: the host has no room; another host may.
        """
        ...

    def destroy(self, uuid: str, *, home: str | None = None) -> None:
        """Remove the guest and its disks; nothing happens if it is not there.

        :param home: the host that is known to have the instance. Disks that were taken over from another host go back
            to that one, unless it is this.
        """
        ...

    def power_on(self, uuid: str) -> None:
        """Start the guest. :raises GuestNotFound:"""
        ...

    def power_off(self, uuid: str) -> None:
        """Shut the guest down, by force if it does not listen. :raises GuestNotFound:"""
        ...

    def reboot(self, uuid: str, *, hard: bool) -> None:
        """Restart the guest: ask it (soft), or reset it whatever its state (hard). :raises GuestNotFound:"""
        ...

    def pause(self, uuid: str) -> None:
        """Freeze the guest in memory. :raises GuestNotFound: :raises OperationRefused: it does not run."""
        ...

    def unpause(self, uuid: str) -> None:
        """Let a paused guest run on. :raises GuestNotFound: :raises OperationRefused: it is shut down."""
        ...

    def check_can_live_migrate_source(
        self, instance: Instance, destination: str, options: MigrationOptions
    ) -> MigrateData:
        """Check at the source that the guest can be live-migrated, and leave it as it is; return what it is like.

        :raises DriverError: it cannot, and why.
        """
        ...

    def check_can_live_migrate_destination(
        self, instance: Instance, options: MigrationOptions, data: MigrateData
    ) -> None:
        """Check at the destination, changing nothing, that it can take the guest that the source has described.

        :raises DriverError: it cannot, and why.
        """
        ...

    def pre_live_migration(self, instance: Instance, options: MigrationOptions, data: MigrateData) -> MigrateData:
        """Get the destination ready for the guest; return what the source has to know of that."""
        ...

    def live_migration(
        self,
        instance: Instance,
        destination: str,
        options: MigrationOptions,
        data: MigrateData,
        on_progress: ProgressCallback,
    ) -> None:
        """Move the guest from this host, the source; return once it is at the destination.

        ``data`` is what :meth:`pre_live_migration` has returned there.
        If its migration to ``destination`` is under way already (this process was restarted), wait for that one. If the
        guest is not here any more, return: the destination will tell whether it arrived. ``on_progress`` is called
        every now and then; an exception that it raises leaves the migration running and comes out of this call.

        :raises MigrationAborted: it was aborted; the guest is here and as it was.
        :raises MigrationFailed: the guest is here and as it was.
        """
        ...

    def live_migration_abort(self, uuid: str) -> None:
        """Make a running :meth:`live_migration` of the guest raise MigrationAborted.

        Nothing happens without one. Once the guest runs at the destination (post-copy) there is no way back: nothing
        happens then either, or it is refused.

        :raises OperationRefused:
        """
        ...

    def live_migration_force_complete(self, uuid: str) -> None:
        """Have a migration that does not converge end all the same; nothing happens without one.

        The guest stands still until it is at the destination (a driver may show it as paused meanwhile), or, if its
        migration permits post-copy, goes on there at once, and its memory follows.
        """
        ...

    def post_live_migration_at_destination(self, instance: Instance) -> None:
        """Finish at the destination. :raises GuestNotFound: the guest did not arrive."""
        ...

    def rollback_live_migration_at_destination(self, uuid: str) -> None:
        """Remove what :meth:`pre_live_migration` left, unless the guest has arrived and lives here.

        :raises HostUnusable: it cannot be seen yet that the guest does not come any more: ask again.
        """
        ...

    def migrate_disk_and_power_off(self, instance: Instance, destination: str) -> None:
        """Shut the guest down and hand its disks to the destination; return if they are there already."""
        ...

    def console_output(self, uuid: str, offset: int) -> ConsoleOutput:
        """Return what the guest has written to its serial console, from ``offset`` on.

        :param offset: in bytes since the guest came to this host; negative: so many before the end.
        :raises GuestNotFound:
        """
        ...

    def console_input(self, uuid: str, text: str) -> None:
        """Write to the guest's serial console. Whoever else writes there, does so too.

        :param text: empty: find out whether it can be written to, and get ready for that.
        :raises GuestNotFound:
        :raises OperationRefused: it cannot.
        """
        ...

    def finish_migration(self, instance: Instance, *, power_on: bool) -> None:
        """Take over a guest whose disks have arrived, and start it if told so. :raises GuestNotFound:"""
        ...


@runtime_checkable
class GuestWatcher(Protocol):
    """What a driver offers besides, if its hypervisor tells of what guests do by themselves."""

    def watch_guests(self, on_change: Callable[[], object]) -> Callable[[], None]:
        """Call ``on_change`` soon after any guest has changed; return what ends that."""
        ...


@runtime_checkable
class Closable(Protocol):
    """What a driver offers besides, if it holds something open."""

    def close(self) -> None:
        """Let go of it; called once nothing more is asked of the driver."""
        ...


@runtime_checkable
class ImageKeeper(Protocol):
    """What a driver offers besides, if it keeps the images that guests are made from."""

    def manage_image_cache(self) -> None:
        """Remove what no guest has used for long; called every now and then."""
        ...
