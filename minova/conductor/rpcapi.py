"""Client of minova-conductor: for the operator's commands, and for what computes report."""

from contextlib import suppress
from typing import Any
from uuid import uuid4

from minova.context import RequestContext
from minova.exception import PeerSilent
from minova.objects import (
    Action,
    ActionEvent,
    BootRequest,
    ConsoleOutput,
    Explanation,
    Fault,
    Host,
    HostDirective,
    HostReport,
    Image,
    Instance,
    Migration,
    MigrationOptions,
    MigrationProgress,
    Order,
    Outcome,
    Service,
)
from minova.rpc.client import RPCAPI, Timeout
from minova.rpc.versions import History, Release

TOPIC = "conductor"

_KNOWS_REPETITIONS = "1.1"
_KNOWS_IMAGES = _STEERS_MIGRATIONS = "1.3"

HISTORY = History(
    (
        Release(
            version="1.0",
            summary="The first.",
            methods=(
                "boot_instance",
                "delete_instance",
                "start_instance",
                "stop_instance",
                "reboot_instance",
                "pause_instance",
                "unpause_instance",
                "live_migrate_instance",
                "migrate_instance",
                "evacuate_instance",
                "rebuild_instance",
                "reset_instance_state",
                "get_instance",
                "list_instances",
                "list_faults",
                "cancel_action",
                "get_action",
                "list_actions",
                "list_action_events",
                "abort_migration",
                "force_complete_migration",
                "get_migration",
                "list_migrations",
                "get_host",
                "list_hosts",
                "drain_host",
                "undrain_host",
                "list_services",
                "set_service_enabled",
                "set_service_forced_down",
                "report_host",
                "report_outcome",
                "report_migration",
                "renew_orders",
            ),
        ),
        Release(
            version=_KNOWS_REPETITIONS,
            summary="The context may name the action that is asked for; asked for again, it is not done again.",
        ),
        Release(
            version="1.2",
            summary="What happens to an instance, and what will, can be explained.",
            methods=("explain_instance",),
        ),
        Release(
            version=_KNOWS_IMAGES,
            summary="Instances are made from images, with a network and user data, and their consoles can be used. "
            "Live migrations take more options than a limit to their bandwidth.",
            methods=(
                "add_image",
                "get_image",
                "list_images",
                "remove_image",
                "get_console_output",
                "send_console_input",
            ),
        ),
    )
)


class ConductorAPI(RPCAPI):
    """What conductors do for others.

    Instances are named by UUID or name, and ``Action`` is what the request became: submitted and safe, not yet done.
    """

    TOPIC = TOPIC
    HISTORY = HISTORY

    def boot_instance(self, ctxt: RequestContext, request: BootRequest) -> Action:
        """Call :meth:`minova.conductor.manager.ConductorManager.boot_instance`.

        :raises PeerTooOld: a peer below 1.3 would leave out the image, the network, the user data and the SSH keys.
        """
        more = request.image or request.network or request.user_data or request.ssh_keys
        return self._submit(ctxt, "boot_instance", _KNOWS_IMAGES if more else "", request=request)

    def delete_instance(self, ctxt: RequestContext, instance: str) -> Action:
        """Call :meth:`minova.conductor.manager.ConductorManager.delete_instance`."""
        return self._submit(ctxt, "delete_instance", instance=instance)

    def start_instance(self, ctxt: RequestContext, instance: str) -> Action:
        """Call :meth:`minova.conductor.manager.ConductorManager.start_instance`."""
        return self._submit(ctxt, "start_instance", instance=instance)

    def stop_instance(self, ctxt: RequestContext, instance: str) -> Action:
        """Call :meth:`minova.conductor.manager.ConductorManager.stop_instance`."""
        return self._submit(ctxt, "stop_instance", instance=instance)

    def reboot_instance(self, ctxt: RequestContext, instance: str, hard: bool) -> Action:
        """Call :meth:`minova.conductor.manager.ConductorManager.reboot_instance`."""
        return self._submit(ctxt, "reboot_instance", instance=instance, hard=hard)

    def pause_instance(self, ctxt: RequestContext, instance: str) -> Action:
        """Call :meth:`minova.conductor.manager.ConductorManager.pause_instance`."""
        return self._submit(ctxt, "pause_instance", instance=instance)

    def unpause_instance(self, ctxt: RequestContext, instance: str) -> Action:
        """Call :meth:`minova.conductor.manager.ConductorManager.unpause_instance`."""
        return self._submit(ctxt, "unpause_instance", instance=instance)

    def live_migrate_instance(
        self, ctxt: RequestContext, instance: str, destination: str | None, options: MigrationOptions
    ) -> Action:
        """Call :meth:`minova.conductor.manager.ConductorManager.live_migrate_instance`.

        :raises PeerTooOld: a peer below 1.3 would leave out all options but block migration and bandwidth.
        """
        older = MigrationOptions(block_migration=options.block_migration, bandwidth_mib=options.bandwidth_mib)
        version = "" if options == older else _STEERS_MIGRATIONS
        args = {"instance": instance, "destination": destination, "options": options}
        return self._submit(ctxt, "live_migrate_instance", version, **args)

    def migrate_instance(self, ctxt: RequestContext, instance: str, destination: str | None) -> Action:
        """Call :meth:`minova.conductor.manager.ConductorManager.migrate_instance`."""
        return self._submit(ctxt, "migrate_instance", instance=instance, destination=destination)

    def evacuate_instance(self, ctxt: RequestContext, instance: str, destination: str | None) -> Action:
        """Call :meth:`minova.conductor.manager.ConductorManager.evacuate_instance`."""
        return self._submit(ctxt, "evacuate_instance", instance=instance, destination=destination)

    def rebuild_instance(self, ctxt: RequestContext, instance: str) -> Action:
        """Call :meth:`minova.conductor.manager.ConductorManager.rebuild_instance`."""
        return self._submit(ctxt, "rebuild_instance", instance=instance)

    def reset_instance_state(self, ctxt: RequestContext, instance: str, state: str) -> Instance:
        """Call :meth:`minova.conductor.manager.ConductorManager.reset_instance_state`."""
        reset: Instance = self._call(ctxt, Timeout.QUICK, None, "reset_instance_state", instance=instance, state=state)
        return reset

    def get_instance(self, ctxt: RequestContext, instance: str) -> Instance:
        """Call :meth:`minova.conductor.manager.ConductorManager.get_instance`."""
        found: Instance = self._call(ctxt, Timeout.QUICK, None, "get_instance", instance=instance)
        return found

    def list_instances(self, ctxt: RequestContext, host: str | None = None, deleted: bool = False) -> list[Instance]:
        """Call :meth:`minova.conductor.manager.ConductorManager.list_instances`."""
        found: list[Instance] = self._call(ctxt, Timeout.QUICK, None, "list_instances", host=host, deleted=deleted)
        return found

    def list_faults(self, ctxt: RequestContext, instance: str) -> list[Fault]:
        """Call :meth:`minova.conductor.manager.ConductorManager.list_faults`."""
        faults: list[Fault] = self._call(ctxt, Timeout.QUICK, None, "list_faults", instance=instance)
        return faults

    def explain_instance(self, ctxt: RequestContext, instance: str) -> Explanation:
        """Call :meth:`minova.conductor.manager.ConductorManager.explain_instance`."""
        explanation: Explanation = self._call(ctxt, Timeout.QUICK, None, "explain_instance", instance=instance)
        return explanation

    def get_console_output(self, ctxt: RequestContext, instance: str, offset: int) -> ConsoleOutput:
        """Call :meth:`minova.conductor.manager.ConductorManager.get_console_output`."""
        output: ConsoleOutput = self._call(
            ctxt, Timeout.QUICK, None, "get_console_output", instance=instance, offset=offset
        )
        return output

    def send_console_input(self, ctxt: RequestContext, instance: str, text: str) -> None:
        """Call :meth:`minova.conductor.manager.ConductorManager.send_console_input`."""
        self._call(ctxt, Timeout.QUICK, None, "send_console_input", instance=instance, text=text)

    def add_image(self, ctxt: RequestContext, image: Image) -> Image:
        """Call :meth:`minova.conductor.manager.ConductorManager.add_image`."""
        added: Image = self._call(ctxt, Timeout.QUICK, None, "add_image", image=image)
        return added

    def remove_image(self, ctxt: RequestContext, image: str) -> int:
        """Call :meth:`minova.conductor.manager.ConductorManager.remove_image`."""
        users: int = self._call(ctxt, Timeout.QUICK, None, "remove_image", image=image)
        return users

    def get_image(self, ctxt: RequestContext, image: str) -> Image:
        """Call :meth:`minova.conductor.manager.ConductorManager.get_image`."""
        found: Image = self._call(ctxt, Timeout.QUICK, None, "get_image", image=image)
        return found

    def list_images(self, ctxt: RequestContext) -> list[Image]:
        """Call :meth:`minova.conductor.manager.ConductorManager.list_images`."""
        found: list[Image] = self._call(ctxt, Timeout.QUICK, None, "list_images")
        return found

    def cancel_action(self, ctxt: RequestContext, action: str) -> Action:
        """Call :meth:`minova.conductor.manager.ConductorManager.cancel_action`."""
        changed: Action = self._call(ctxt, Timeout.NORMAL, None, "cancel_action", action=action)
        return changed

    def get_action(self, ctxt: RequestContext, action: str) -> Action:
        """Call :meth:`minova.conductor.manager.ConductorManager.get_action`."""
        found: Action = self._call(ctxt, Timeout.QUICK, None, "get_action", action=action)
        return found

    def list_actions(self, ctxt: RequestContext, instance: str | None = None, limit: int = 100) -> list[Action]:
        """Call :meth:`minova.conductor.manager.ConductorManager.list_actions`."""
        found: list[Action] = self._call(ctxt, Timeout.QUICK, None, "list_actions", instance=instance, limit=limit)
        return found

    def list_action_events(self, ctxt: RequestContext, action: str) -> list[ActionEvent]:
        """Call :meth:`minova.conductor.manager.ConductorManager.list_action_events`."""
        events: list[ActionEvent] = self._call(ctxt, Timeout.QUICK, None, "list_action_events", action=action)
        return events

    def abort_migration(self, ctxt: RequestContext, migration: str) -> Action:
        """Call :meth:`minova.conductor.manager.ConductorManager.abort_migration`."""
        changed: Action = self._call(ctxt, Timeout.NORMAL, None, "abort_migration", migration=migration)
        return changed

    def force_complete_migration(self, ctxt: RequestContext, migration: str) -> Action:
        """Call :meth:`minova.conductor.manager.ConductorManager.force_complete_migration`."""
        changed: Action = self._call(ctxt, Timeout.NORMAL, None, "force_complete_migration", migration=migration)
        return changed

    def get_migration(self, ctxt: RequestContext, migration: str) -> Migration:
        """Call :meth:`minova.conductor.manager.ConductorManager.get_migration`."""
        found: Migration = self._call(ctxt, Timeout.QUICK, None, "get_migration", migration=migration)
        return found

    def list_migrations(self, ctxt: RequestContext, instance: str | None = None, limit: int = 100) -> list[Migration]:
        """Call :meth:`minova.conductor.manager.ConductorManager.list_migrations`."""
        found: list[Migration] = self._call(
            ctxt, Timeout.QUICK, None, "list_migrations", instance=instance, limit=limit
        )
        return found

    def get_host(self, ctxt: RequestContext, host: str) -> Host:
        """Call :meth:`minova.conductor.manager.ConductorManager.get_host`."""
        found: Host = self._call(ctxt, Timeout.QUICK, None, "get_host", host=host)
        return found

    def list_hosts(self, ctxt: RequestContext) -> list[Host]:
        """Call :meth:`minova.conductor.manager.ConductorManager.list_hosts`."""
        found: list[Host] = self._call(ctxt, Timeout.QUICK, None, "list_hosts")
        return found

    def drain_host(self, ctxt: RequestContext, host: str) -> list[Action]:
        """Call :meth:`minova.conductor.manager.ConductorManager.drain_host`."""
        actions: list[Action] = self._call(ctxt, Timeout.NORMAL, None, "drain_host", host=host)
        return actions

    def undrain_host(self, ctxt: RequestContext, host: str) -> Host:
        """Call :meth:`minova.conductor.manager.ConductorManager.undrain_host`."""
        found: Host = self._call(ctxt, Timeout.QUICK, None, "undrain_host", host=host)
        return found

    def list_services(self, ctxt: RequestContext) -> list[Service]:
        """Call :meth:`minova.conductor.manager.ConductorManager.list_services`."""
        found: list[Service] = self._call(ctxt, Timeout.QUICK, None, "list_services")
        return found

    def set_service_enabled(self, ctxt: RequestContext, host: str, enabled: bool, reason: str = "") -> Service:
        """Call :meth:`minova.conductor.manager.ConductorManager.set_service_enabled`."""
        service: Service = self._call(
            ctxt, Timeout.QUICK, None, "set_service_enabled", host=host, enabled=enabled, reason=reason
        )
        return service

    def set_service_forced_down(self, ctxt: RequestContext, host: str, forced_down: bool) -> Service:
        """Call :meth:`minova.conductor.manager.ConductorManager.set_service_forced_down`."""
        service: Service = self._call(
            ctxt, Timeout.QUICK, None, "set_service_forced_down", host=host, forced_down=forced_down
        )
        return service

    def report_host(self, ctxt: RequestContext, report: HostReport) -> HostDirective:
        """Call :meth:`minova.conductor.manager.ConductorManager.report_host`."""
        directive: HostDirective = self._call(ctxt, Timeout.QUICK, None, "report_host", report=report)
        return directive

    def report_outcome(self, ctxt: RequestContext, outcome: Outcome) -> None:
        """Call :meth:`minova.conductor.manager.ConductorManager.report_outcome`."""
        self._call(ctxt, Timeout.QUICK, None, "report_outcome", outcome=outcome)

    def report_migration(
        self, ctxt: RequestContext, order: Order, event: str, progress: MigrationProgress | None
    ) -> None:
        """Call :meth:`minova.conductor.manager.ConductorManager.report_migration`.

        Without a conductor, what is cast would pile up before what the next one has to hear first; a call expires.
        """
        self._call(ctxt, Timeout.PING, None, "report_migration", order=order, event=event, progress=progress)

    def renew_orders(self, ctxt: RequestContext, host: str, orders: list[tuple[str, int]]) -> None:
        """Call :meth:`minova.conductor.manager.ConductorManager.renew_orders`, for a call expires as well."""
        self._call(ctxt, Timeout.PING, None, "renew_orders", host=host, orders=orders)

    def _submit(self, ctxt: RequestContext, method: str, version: str = "", /, **args: Any) -> Action:
        """Ask for an action, and ask again if no answer comes: the request or its answer may have died with a peer.

        :param version: what the arguments need; default: the version that added the method.
        """
        named = ctxt.naming(str(uuid4()))
        action: Action
        try:
            may_repeat = self.can_send_version(_KNOWS_REPETITIONS)
        except PeerSilent:
            # No conductor is there to say who is older. The request itself can wait in the queue until one comes.
            needed = version or self.HISTORY.since[method]
            action = self._ask(named, Timeout.NORMAL, None, method, needed, args)
            return action
        if may_repeat:
            with suppress(PeerSilent):
                action = self._call(named, Timeout.QUICK, None, method, version, **args)
                return action
        action = self._call(named, Timeout.NORMAL, None, method, version, **args)
        return action
