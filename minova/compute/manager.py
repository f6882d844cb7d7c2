"""The RPC endpoint of minova-compute: receive, delegate, return. Its client is minova.compute.rpcapi.

An order is put on its guest's queue, and its outcome is reported when it is done. All that is done is idempotent.
"""

import functools
from collections.abc import Callable
from typing import Any

import msgspec
import oslo_messaging

from minova.compute.live_migrations import LiveMigrations
from minova.compute.outbox import Outbox
from minova.compute.rpcapi import HISTORY
from minova.compute.work import Lane, WorkQueue
from minova.context import RequestContext
from minova.exception import DriverError
from minova.objects import (
    UUID,
    ConsoleInput,
    ConsoleOutput,
    GuestReport,
    Instance,
    MigrateData,
    MigrationOptions,
    Order,
)
from minova.rpc.server import expose
from minova.virt.driver import ComputeDriver


class ComputeManager:
    """What conductors may ask of a compute. Orders fail with the errors that the virt driver raises."""

    target = oslo_messaging.Target(version=HISTORY.version)

    def __init__(self, driver: ComputeDriver, work: WorkQueue, migrations: LiveMigrations, outbox: Outbox) -> None:
        self._driver = driver
        self._work = work
        self._migrations = migrations
        self._outbox = outbox

    @expose
    def build_and_run_instance(self, ctxt: RequestContext, order: Order, instance: Instance, power_on: bool) -> None:
        """Create a guest, and start it if told so."""
        self._do(order, lambda: self._driver.spawn(instance, power_on=power_on), Lane.MAKING)

    @expose
    def terminate_instance(self, ctxt: RequestContext, order: Order, instance: Instance) -> None:
        """Remove a guest and its disks."""
        self._do(order, lambda: self._driver.destroy(instance.uuid, home=instance.host))

    @expose
    def start_instance(self, ctxt: RequestContext, order: Order, instance: Instance) -> None:
        """Start a guest."""
        self._do(order, lambda: self._driver.power_on(instance.uuid))

    @expose
    def stop_instance(self, ctxt: RequestContext, order: Order, instance: Instance) -> None:
        """Shut a guest down."""
        self._do(order, lambda: self._driver.power_off(instance.uuid))

    @expose
    def reboot_instance(self, ctxt: RequestContext, order: Order, instance: Instance, hard: bool) -> None:
        """Restart a guest."""
        self._do(order, lambda: self._driver.reboot(instance.uuid, hard=hard))

    @expose
    def pause_instance(self, ctxt: RequestContext, order: Order, instance: Instance) -> None:
        """Freeze a guest in memory."""
        self._do(order, lambda: self._driver.pause(instance.uuid))

    @expose
    def unpause_instance(self, ctxt: RequestContext, order: Order, instance: Instance) -> None:
        """Let a paused guest run on."""
        self._do(order, lambda: self._driver.unpause(instance.uuid))

    @expose
    def rebuild_instance(self, ctxt: RequestContext, order: Order, instance: Instance, power_on: bool) -> None:
        """Make a guest anew with fresh disks, and start it if told so; it stays as it is if that cannot be."""

        def rebuild() -> None:
            self._driver.check_can_spawn(instance)
            self._driver.destroy(instance.uuid, home=instance.host)
            self._driver.spawn(instance, power_on=power_on)

        self._do(order, rebuild, Lane.MAKING)

    @expose
    def check_can_spawn(self, ctxt: RequestContext, order: Order, instance: Instance) -> None:
        """Check that a guest could be made here, be it here already, and have here what it is to be made from."""

        def check(_job: object) -> dict[str, Any]:
            self._driver.check_can_spawn(instance)
            return {}

        self._work.submit(order, check, Lane.MAKING)

    @expose
    def check_can_live_migrate_source(
        self,
        ctxt: RequestContext,
        instance: Instance,
        destination: str,
        options: MigrationOptions,
        describe: bool = False,
    ) -> MigrateData | None:
        """Check, changing nothing, that a guest of this host can be live-migrated; tell peers of 1.4 what it is like.

        :raises DriverError: it cannot.
        """
        data = self._migrations.check(instance, destination, options)
        return data if describe else None

    @expose
    def check_can_live_migrate_destination(
        self, ctxt: RequestContext, instance: Instance, options: MigrationOptions, data: MigrateData
    ) -> None:
        """Check, changing nothing, that this host can take a guest of another's. :raises DriverError:"""
        self._driver.check_can_live_migrate_destination(instance, options, data)

    @expose
    def pre_live_migration(
        self,
        ctxt: RequestContext,
        order: Order,
        instance: Instance,
        options: MigrationOptions,
        data: MigrateData | None = None,
    ) -> None:
        """Get ready to receive a guest; the outcome tells what the source has to know. Peers below 1.4 send no data."""

        def prepare(_job: object) -> dict[str, Any]:
            ready = self._driver.pre_live_migration(instance, options, data or MigrateData())
            return {"migrate_data": msgspec.to_builtins(ready)}

        self._work.submit(order, prepare, Lane.MAKING)

    @expose
    def live_migration(
        self,
        ctxt: RequestContext,
        order: Order,
        instance: Instance,
        destination: str,
        block_migration: bool,
        options: MigrationOptions | None = None,
        data: MigrateData | None = None,
    ) -> None:
        """Move a guest of this host; ``options`` come from peers of 1.1 and later, ``data`` from those of 1.4."""
        how, told = options or MigrationOptions(block_migration=block_migration), data or MigrateData()
        run = functools.partial(self._migrations.run, instance=instance, destination=destination)
        self._work.submit(order, lambda job: run(job, options=how, data=told), Lane.MIGRATION)

    @expose
    def live_migration_abort(self, ctxt: RequestContext, action_id: str, instance_uuid: UUID) -> None:
        """Abort the live migration that an action has ordered, queued or running; no other one of the guest."""
        job = self._work.current(instance_uuid)
        if job is not None and job.order.action_id == action_id:
            self._migrations.abort(job)

    @expose
    def live_migration_force_complete(self, ctxt: RequestContext, action_id: str, instance_uuid: UUID) -> None:
        """Have the live migration that an action has ordered end; no other one of the guest."""
        job = self._work.current(instance_uuid)
        if job is not None and job.order.action_id == action_id:
            self._driver.live_migration_force_complete(instance_uuid)

    @expose
    def post_live_migration_at_destination(self, ctxt: RequestContext, order: Order, instance: Instance) -> None:
        """Finish a live migration to this host; fails if the guest did not arrive."""
        self._do(order, lambda: self._driver.post_live_migration_at_destination(instance))

    @expose
    def rollback_live_migration_at_destination(self, ctxt: RequestContext, order: Order, instance: Instance) -> None:
        """Remove what was made ready for a guest that does not come."""
        self._do(order, lambda: self._migrations.roll_back(instance.uuid))

    @expose
    def migrate_disk_and_power_off(
        self, ctxt: RequestContext, order: Order, instance: Instance, destination: str
    ) -> None:
        """Shut a guest down and hand its disks to another host."""
        self._do(order, lambda: self._driver.migrate_disk_and_power_off(instance, destination))

    @expose
    def finish_migration(self, ctxt: RequestContext, order: Order, instance: Instance, power_on: bool) -> None:
        """Take over a guest whose disks are here, and start it if told so."""
        self._do(order, lambda: self._driver.finish_migration(instance, power_on=power_on), Lane.MAKING)

    @expose
    def get_guest(self, ctxt: RequestContext, instance_uuid: UUID) -> GuestReport:
        """Return what the hypervisor says of a guest, and which orders this host holds for it."""
        # The guest last: the effect of an order that ends meanwhile is seen.
        held = self._work.held_for(instance_uuid)
        orders = (*self._outbox.held_for(instance_uuid), *held)
        try:
            return GuestReport(guest=self._driver.get_guest(instance_uuid), orders=orders)
        except DriverError as error:
            return GuestReport(guest=None, trouble=error.message, orders=orders)

    @expose
    def get_console_output(self, ctxt: RequestContext, instance_uuid: UUID, offset: int) -> ConsoleOutput:
        """Return what a guest has written to its console since it came to this host. :raises DriverError:"""
        return self._driver.console_output(instance_uuid, offset)

    @expose
    def send_console_input(self, ctxt: RequestContext, instance_uuid: UUID, text: ConsoleInput) -> None:
        """Write to a guest's console; an empty text only gets it ready. :raises DriverError:"""
        self._driver.console_input(instance_uuid, text)

    def _do(self, order: Order, operation: Callable[[], None], lane: Lane = Lane.WORK) -> None:
        """Put an operation on its guest's queue; its outcome tells the power state of the guest, if it is here then."""

        def work(_job: object) -> dict[str, Any]:
            operation()
            try:
                guest = self._driver.get_guest(order.instance_uuid)
            except DriverError:
                # It is done all the same, and the next report of the host tells the state.
                return {}
            return {"power_state": guest.power_state.value} if guest else {}

        self._work.submit(order, work, lane)
