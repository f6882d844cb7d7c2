"""Client of minova-compute. What is cast is an order, whose outcome the compute reports to a conductor later."""

import dataclasses

from minova.context import RequestContext
from minova.exception import PeerTooOld
from minova.objects import ConsoleOutput, GuestReport, Instance, MigrateData, MigrationOptions, Order
from minova.rpc.client import RPCAPI, Timeout
from minova.rpc.versions import History, Release

TOPIC = "compute"

HISTORY = History(
    (
        Release(
            version="1.0",
            summary="The first.",
            methods=(
                "build_and_run_instance",
                "terminate_instance",
                "start_instance",
                "stop_instance",
                "reboot_instance",
                "pause_instance",
                "unpause_instance",
                "rebuild_instance",
                "check_can_live_migrate_source",
                "pre_live_migration",
                "live_migration",
                "live_migration_abort",
                "post_live_migration_at_destination",
                "rollback_live_migration_at_destination",
                "migrate_disk_and_power_off",
                "finish_migration",
            ),
        ),
        Release(
            version="1.1",
            summary="A live migration takes options, so that it can be limited to a bandwidth.",
            arguments=(("live_migration", "options"),),
        ),
        Release(
            version="1.2",
            summary="A live migration that does not converge can be forced to its end.",
            methods=("live_migration_force_complete",),
        ),
        Release(
            version="1.3",
            summary="Conductors may ask what a host knows of a guest.",
            methods=("get_guest",),
        ),
        Release(
            version="1.4",
            summary="The hosts of a live migration describe to each other what they have; consoles can be used.",
            methods=("check_can_live_migrate_destination", "get_console_output", "send_console_input"),
            arguments=(
                ("check_can_live_migrate_source", "describe"),
                ("pre_live_migration", "data"),
                ("live_migration", "data"),
            ),
        ),
        Release(
            version="1.5",
            summary="A host can be asked whether a guest could be made there, before it is taken from where it is.",
            methods=("check_can_spawn",),
        ),
    )
)


class ComputeAPI(RPCAPI):
    """What conductors ask of computes."""

    TOPIC = TOPIC
    HISTORY = HISTORY

    def build_and_run_instance(
        self, ctxt: RequestContext, host: str, order: Order, instance: Instance, power_on: bool
    ) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.build_and_run_instance`."""
        self._cast(ctxt, host, "build_and_run_instance", order=order, instance=instance, power_on=power_on)

    def terminate_instance(self, ctxt: RequestContext, host: str, order: Order, instance: Instance) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.terminate_instance`."""
        self._cast(ctxt, host, "terminate_instance", order=order, instance=instance)

    def start_instance(self, ctxt: RequestContext, host: str, order: Order, instance: Instance) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.start_instance`."""
        self._cast(ctxt, host, "start_instance", order=order, instance=instance)

    def stop_instance(self, ctxt: RequestContext, host: str, order: Order, instance: Instance) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.stop_instance`."""
        self._cast(ctxt, host, "stop_instance", order=order, instance=instance)

    def reboot_instance(self, ctxt: RequestContext, host: str, order: Order, instance: Instance, hard: bool) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.reboot_instance`."""
        self._cast(ctxt, host, "reboot_instance", order=order, instance=instance, hard=hard)

    def pause_instance(self, ctxt: RequestContext, host: str, order: Order, instance: Instance) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.pause_instance`."""
        self._cast(ctxt, host, "pause_instance", order=order, instance=instance)

    def unpause_instance(self, ctxt: RequestContext, host: str, order: Order, instance: Instance) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.unpause_instance`."""
        self._cast(ctxt, host, "unpause_instance", order=order, instance=instance)

    def rebuild_instance(
        self, ctxt: RequestContext, host: str, order: Order, instance: Instance, power_on: bool
    ) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.rebuild_instance`."""
        self._cast(ctxt, host, "rebuild_instance", order=order, instance=instance, power_on=power_on)

    def can_check_spawn(self) -> bool:
        """Return whether :meth:`check_can_spawn` may be sent: no peer below 1.5 can tell."""
        return self.can_send_version("1.5")

    def check_can_spawn(self, ctxt: RequestContext, host: str, order: Order, instance: Instance) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.check_can_spawn`.

        :raises PeerTooOld: see :meth:`can_check_spawn`.
        """
        self._cast(ctxt, host, "check_can_spawn", order=order, instance=instance)

    def check_can_live_migrate_source(
        self, ctxt: RequestContext, host: str, instance: Instance, destination: str, options: MigrationOptions
    ) -> MigrateData | None:
        """Call :meth:`minova.compute.manager.ComputeManager.check_can_live_migrate_source`.

        A peer below 1.4 answers with nothing, and has no driver of which there is more to say.
        """
        method = "check_can_live_migrate_source"
        common = {"instance": instance, "destination": destination, "options": options}
        if not self.can_send_version("1.4"):
            self._call(ctxt, Timeout.LONG, host, method, "1.0", **common)
            return None
        data: MigrateData | None = self._call(ctxt, Timeout.LONG, host, method, "1.4", **common, describe=True)
        return data

    def check_can_live_migrate_destination(
        self, ctxt: RequestContext, host: str, instance: Instance, options: MigrationOptions, data: MigrateData
    ) -> None:
        """Call :meth:`minova.compute.manager.ComputeManager.check_can_live_migrate_destination`.

        A peer below 1.4 has no driver that could say more than the source has said.
        """
        if self.can_send_version("1.4"):
            method, args = "check_can_live_migrate_destination", {"instance": instance, "options": options}
            self._call(ctxt, Timeout.LONG, host, method, data=data, **args)

    def pre_live_migration(
        self,
        ctxt: RequestContext,
        host: str,
        order: Order,
        instance: Instance,
        options: MigrationOptions,
        data: MigrateData,
    ) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.pre_live_migration`.

        A peer below 1.4 has no driver that needs the data.
        """
        common = {"order": order, "instance": instance, "options": options}
        if self.can_send_version("1.4"):
            self._cast(ctxt, host, "pre_live_migration", "1.4", **common, data=data)
        else:
            self._cast(ctxt, host, "pre_live_migration", "1.0", **common)

    def live_migration(
        self,
        ctxt: RequestContext,
        host: str,
        order: Order,
        instance: Instance,
        destination: str,
        options: MigrationOptions,
        data: MigrateData,
    ) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.live_migration`.

        A peer of 1.0 has no options: it gets what it knows where that means the same. One below 1.4 needs no data.

        :raises PeerTooOld: the options have no meaning for the peer.
        """
        self.check_options(options)
        common = {
            "order": order,
            "instance": instance,
            "destination": destination,
            "block_migration": options.block_migration,
        }
        if self.can_send_version("1.4"):
            self._cast(ctxt, host, "live_migration", "1.4", **common, options=options, data=data)
        elif self.can_send_version("1.1"):
            self._cast(ctxt, host, "live_migration", "1.1", **common, options=options)
        else:
            self._cast(ctxt, host, "live_migration", "1.0", **common)

    def check_options(self, options: MigrationOptions) -> None:
        """Check, before anything is done, that the computes understand how to migrate.

        :raises PeerTooOld: the options have no meaning for a peer of 1.0, which knows of block migration alone, or for
            one below 1.4, which knows of no other limit than the bandwidth.
        """
        oldest = MigrationOptions(block_migration=options.block_migration)
        older = dataclasses.replace(oldest, bandwidth_mib=options.bandwidth_mib)
        needed = "1.0" if options == oldest else "1.1" if options == older else "1.4"
        if not self.can_send_version(needed):
            pin = self._pin()
            method = "a live migration with " + ("a bandwidth limit" if options == older else "these options")
            raise PeerTooOld(method=method, needed=needed, pinned=pin.version, holder=pin.reason)

    def live_migration_abort(self, ctxt: RequestContext, host: str, action_id: str, instance_uuid: str) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.live_migration_abort`."""
        self._cast(ctxt, host, "live_migration_abort", action_id=action_id, instance_uuid=instance_uuid)

    def live_migration_force_complete(
        self, ctxt: RequestContext, host: str, action_id: str, instance_uuid: str
    ) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.live_migration_force_complete`.

        :raises PeerTooOld: no peer below 1.2 can do it.
        """
        self._cast(ctxt, host, "live_migration_force_complete", action_id=action_id, instance_uuid=instance_uuid)

    def post_live_migration_at_destination(
        self, ctxt: RequestContext, host: str, order: Order, instance: Instance
    ) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.post_live_migration_at_destination`."""
        self._cast(ctxt, host, "post_live_migration_at_destination", order=order, instance=instance)

    def rollback_live_migration_at_destination(
        self, ctxt: RequestContext, host: str, order: Order, instance: Instance
    ) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.rollback_live_migration_at_destination`."""
        self._cast(ctxt, host, "rollback_live_migration_at_destination", order=order, instance=instance)

    def migrate_disk_and_power_off(
        self, ctxt: RequestContext, host: str, order: Order, instance: Instance, destination: str
    ) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.migrate_disk_and_power_off`."""
        self._cast(ctxt, host, "migrate_disk_and_power_off", order=order, instance=instance, destination=destination)

    def finish_migration(
        self, ctxt: RequestContext, host: str, order: Order, instance: Instance, power_on: bool
    ) -> None:
        """Cast to :meth:`minova.compute.manager.ComputeManager.finish_migration`."""
        self._cast(ctxt, host, "finish_migration", order=order, instance=instance, power_on=power_on)

    def get_guest(self, ctxt: RequestContext, host: str, instance_uuid: str) -> GuestReport:
        """Call :meth:`minova.compute.manager.ComputeManager.get_guest`.

        :raises PeerTooOld: no peer below 1.3 can tell.
        """
        report: GuestReport = self._call(ctxt, Timeout.PING, host, "get_guest", instance_uuid=instance_uuid)
        return report

    def get_console_output(self, ctxt: RequestContext, host: str, instance_uuid: str, offset: int) -> ConsoleOutput:
        """Call :meth:`minova.compute.manager.ComputeManager.get_console_output`.

        :raises PeerTooOld: no peer below 1.4 can tell.
        """
        output: ConsoleOutput = self._call(
            ctxt, Timeout.PING, host, "get_console_output", instance_uuid=instance_uuid, offset=offset
        )
        return output

    def send_console_input(self, ctxt: RequestContext, host: str, instance_uuid: str, text: str) -> None:
        """Call :meth:`minova.compute.manager.ComputeManager.send_console_input`.

        :raises PeerTooOld: no peer below 1.4 can do it.
        """
        self._call(ctxt, Timeout.PING, host, "send_console_input", instance_uuid=instance_uuid, text=text)
