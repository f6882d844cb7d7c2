"""The fake driver."""

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from oslo_config import cfg

from minova import failpoints
from minova.exception import InsufficientResources, OperationRefused
from minova.objects import ConsoleOutput, Guest, HostCapacity, Instance, MigrateData, MigrationOptions
from minova.states import PowerState
from minova.virt.driver import ComputeDriver, ProgressCallback
from minova.virt.fake.failures import REASON, Failures
from minova.virt.fake.guests import GuestFiles, GuestRecord
from minova.virt.fake.migrator import LiveMigrator

LOG = logging.getLogger(__name__)

ANY = tuple(PowerState)
ALIVE = (PowerState.RUNNING, PowerState.PAUSED)


class FakeDriver:
    """A host whose guests are files, which outlive the process as real guests do.

    Only one driver at a time may change the guests of a host, but the hosts of one ``state_path`` may be in any number
    of processes. Options are read when they are needed, so that they may change; ``state_path`` alone stays.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        host: str,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Make the host known to the other fake hosts.

        :param clock: wall clock, in seconds since the epoch.
        :raises ConfigurationError: ``[fake] failures`` names no operation, or ``state_path`` cannot be used.
        """
        self._conf = conf
        self._host = host
        self._clock = clock
        self._sleep = sleep
        self._failures = Failures(conf, host)
        self._files = failpoints.tapped(GuestFiles(conf.state_path, host), "guest", "write", "move", "remove")
        self._migrator = LiveMigrator(conf, self._files, clock, sleep)

    def capacity(self) -> HostCapacity:
        """Return what the options say, times the allocation ratios."""
        self._failures.raise_if_told("capacity")
        return self._capacity()

    def list_guests(self) -> tuple[Guest, ...]:
        """Return every guest of this host; of one whose file is damaged nothing is known but that it exists."""
        self._failures.raise_if_told("list_guests")
        seen = (self._look_at(uuid) for uuid in self._files.uuids())
        return tuple(guest for guest in seen if guest is not None)

    def get_guest(self, uuid: str) -> Guest | None:
        """Return one guest, or None."""
        self._failures.raise_if_told("get_guest")
        record = self._files.read(uuid)
        return record.as_guest() if record is not None else None

    def _look_at(self, uuid: str) -> Guest | None:
        try:
            record = self._files.read(uuid)
        except OperationRefused:
            LOG.warning("Of guest %s nothing is known", uuid)
            return Guest(uuid=uuid, name=uuid, power_state=PowerState.NOSTATE)
        return record.as_guest() if record is not None else None

    def check_can_spawn(self, instance: Instance) -> None:
        """Look for room: guests are made from nothing."""
        self._failures.raise_if_told("check_can_spawn")
        self._require_room(instance)

    def spawn(self, instance: Instance, *, power_on: bool = True) -> None:
        """Create the guest's file; of a guest that exists, change the power alone."""
        self._work("spawn")
        power_state = PowerState.RUNNING if power_on else PowerState.SHUTDOWN
        with self._files.lock:
            record = self._files.read(instance.uuid)
            if record is None:
                self._require_room(instance)
                self._files.write(GuestRecord.of(instance, power_state))
            else:
                self._files.write(record.with_power(power_state, self._clock()))

    def destroy(self, uuid: str, *, home: str | None = None) -> None:
        """Remove the guest's file, be it damaged."""
        self._work("destroy")
        with self._files.lock:
            self._files.remove(uuid)

    def power_on(self, uuid: str) -> None:
        """Let the guest run, whatever its state."""
        self._change_power("power_on", uuid, PowerState.RUNNING)

    def power_off(self, uuid: str) -> None:
        """Shut the guest down; a live migration of it fails."""
        self._change_power("power_off", uuid, PowerState.SHUTDOWN)

    def reboot(self, uuid: str, *, hard: bool) -> None:
        """Let the guest run. :raises OperationRefused: soft, and no running guest listens."""
        self._change_power("reboot", uuid, PowerState.RUNNING, ANY if hard else (PowerState.RUNNING,))

    def pause(self, uuid: str) -> None:
        """Freeze the guest."""
        self._change_power("pause", uuid, PowerState.PAUSED, ALIVE)

    def unpause(self, uuid: str) -> None:
        """Let a paused guest run on."""
        self._change_power("unpause", uuid, PowerState.RUNNING, ALIVE)

    def check_can_live_migrate_source(
        self, instance: Instance, destination: str, options: MigrationOptions
    ) -> MigrateData:
        """Check guest and destination. :raises OperationRefused: with the reason."""
        operation = "check_can_live_migrate_source"
        self._failures.raise_if_told(operation)
        reason = self._migrator.why_not(self._files.require(instance.uuid), destination)
        if reason is not None:
            raise OperationRefused(host=self._host, operation=operation, reason=reason)
        return MigrateData()

    def check_can_live_migrate_destination(
        self, instance: Instance, options: MigrationOptions, data: MigrateData
    ) -> None:
        """Do nothing: all hosts are alike."""
        self._failures.raise_if_told("check_can_live_migrate_destination")

    def pre_live_migration(self, instance: Instance, options: MigrationOptions, data: MigrateData) -> MigrateData:
        """Refuse a guest that is larger than this host. :raises InsufficientResources:"""
        self._work("pre_live_migration")
        memory_mb = self._capacity().memory_mb
        if instance.memory_mb > memory_mb:
            reason = f"it wants {instance.memory_mb} MiB of memory, the host has {memory_mb}"
            raise InsufficientResources(host=self._host, reason=reason)
        self._files.create_folder()
        return data

    def live_migration(
        self,
        instance: Instance,
        destination: str,
        options: MigrationOptions,
        data: MigrateData,
        on_progress: ProgressCallback,
    ) -> None:
        """Start the simulated migration, or join it, and wait until the guest has been switched over."""
        if self._failures.told("live_migration"):
            self._migrator.fail(instance.uuid, REASON)
        self._migrator.run(instance.uuid, destination, options, on_progress)

    def live_migration_abort(self, uuid: str) -> None:
        """Mark the migration as aborted; it holds for one that is joined only after a restart, too."""
        self._failures.raise_if_told("live_migration_abort")
        self._migrator.abort(uuid)

    def live_migration_force_complete(self, uuid: str) -> None:
        """Keep the guest paused until it is at the destination, or have it go on there at once."""
        self._failures.raise_if_told("live_migration_force_complete")
        self._migrator.force(uuid)

    def post_live_migration_at_destination(self, instance: Instance) -> None:
        """Remove what the migration has left in the guest's file."""
        self._work("post_live_migration_at_destination")
        with self._files.lock:
            self._files.write(self._files.require(instance.uuid))

    def rollback_live_migration_at_destination(self, uuid: str) -> None:
        """Do nothing: :meth:`pre_live_migration` leaves nothing of a guest's."""
        self._work("rollback_live_migration_at_destination")

    def migrate_disk_and_power_off(self, instance: Instance, destination: str) -> None:
        """Shut the guest down and rename its file. :raises OperationRefused: the destination cannot take it."""
        operation = "migrate_disk_and_power_off"
        self._work(operation)
        uuid = instance.uuid
        with self._files.lock:
            if self._files.has_left_for(destination, uuid):
                return
            record = self._files.require(uuid)
            reason = self._files.why_not_to(destination, uuid)
            if reason is not None:
                raise OperationRefused(host=self._host, operation=operation, reason=reason)
            self._files.write(record.with_power(PowerState.SHUTDOWN, self._clock()))
            self._files.move(uuid, destination)

    def finish_migration(self, instance: Instance, *, power_on: bool) -> None:
        """Start the guest if told so."""
        self._change_power("finish_migration", instance.uuid, PowerState.RUNNING if power_on else PowerState.SHUTDOWN)

    def console_output(self, uuid: str, offset: int) -> ConsoleOutput:
        """Return nothing: these guests are silent. :raises GuestNotFound:"""
        self._failures.raise_if_told("console_output")
        self._files.require(uuid)
        return ConsoleOutput(text="", next_offset=0)

    def console_input(self, uuid: str, text: str) -> None:
        """Refuse it: nobody would read it. :raises GuestNotFound: :raises OperationRefused:"""
        operation = "console_input"
        self._failures.raise_if_told(operation)
        self._files.require(uuid)
        raise OperationRefused(host=self._host, operation=operation, reason="its guests have no console")

    def _capacity(self) -> HostCapacity:
        fake, ratios = self._conf.fake, self._conf.compute
        return HostCapacity(
            vcpus=int(fake.vcpus * ratios.cpu_allocation_ratio),
            memory_mb=int(fake.memory_mb * ratios.ram_allocation_ratio),
            disk_gb=int(fake.disk_gb * ratios.disk_allocation_ratio),
            hypervisor_type="fake",
        )

    def _work(self, operation: str) -> None:
        """Take the time that an operation takes, unless it is to fail. :raises DriverError:"""
        self._failures.raise_if_told(operation)
        if self._conf.fake.operation_time:
            self._sleep(self._conf.fake.operation_time)

    def _require_room(self, instance: Instance) -> None:
        capacity = self._capacity()
        guests = [guest for guest in self._files.read_all() if guest.uuid != instance.uuid]
        for field, what in (("vcpus", "vCPUs"), ("memory_mb", "MiB of memory"), ("disk_gb", "GiB of disk")):
            wanted: int = getattr(instance, field)
            free: int = getattr(capacity, field) - sum(getattr(guest, field) for guest in guests)
            if wanted > free:
                reason = f"it wants {wanted} {what}, {max(free, 0)} are free"
                raise InsufficientResources(host=self._host, reason=reason)

    def _change_power(self, operation: str, uuid: str, to: PowerState, allowed: tuple[PowerState, ...] = ANY) -> None:
        """Change a guest's power state. :raises OperationRefused: it is in none of those allowed."""
        self._work(operation)
        with self._files.lock:
            record = self._files.require(uuid)
            if record.power_state not in allowed:
                reason = f"the guest is {record.power_state}"
                raise OperationRefused(host=self._host, operation=operation, reason=reason)
            self._files.write(record.with_power(to, self._clock()))


if TYPE_CHECKING:
    _FULFILS: type[ComputeDriver] = FakeDriver
