"""The RPC endpoint of minova-conductor: receive, delegate, return. Its client is minova.conductor.rpcapi."""

import msgspec
import oslo_messaging

from minova import objects
from minova.conductor.administration import Administration
from minova.conductor.consoles import Consoles
from minova.conductor.engine import Engine
from minova.conductor.images import Images
from minova.conductor.inquiry import Inquiry
from minova.conductor.leases import Leases
from minova.conductor.migrations import Migrations
from minova.conductor.queries import Queries
from minova.conductor.reconcile import Reconciler
from minova.conductor.rpcapi import HISTORY
from minova.conductor.validation import check_boot, check_image, check_limit, check_options, check_state
from minova.context import RequestContext
from minova.db.queries import COMPUTE
from minova.objects import Action
from minova.rpc.server import expose
from minova.states import Verb


class ConductorManager:
    """What others may ask of a conductor. Instances are named by UUID or name; see the client for who calls what."""

    target = oslo_messaging.Target(version=HISTORY.version)

    def __init__(
        self,
        engine: Engine,
        queries: Queries,
        administration: Administration,
        migrations: Migrations,
        reconciler: Reconciler,
        leases: Leases,
        inquiry: Inquiry,
        images: Images,
        consoles: Consoles,
    ) -> None:
        self._engine = engine
        self._queries = queries
        self._administration = administration
        self._migrations = migrations
        self._reconciler = reconciler
        self._leases = leases
        self._inquiry = inquiry
        self._images = images
        self._consoles = consoles

    # Operations. They raise InstanceNotFound, AmbiguousName, InvalidState, InstanceBusy and what their task refuses.

    @expose
    def boot_instance(self, ctxt: RequestContext, request: objects.BootRequest) -> Action:
        """Create an instance and start it. :raises InvalidInput: :raises ImageNotFound: :raises NoValidHost:"""
        check_boot(request)
        return self._queries.action(self._engine.boot(ctxt, request))

    @expose
    def delete_instance(self, ctxt: RequestContext, instance: str) -> Action:
        """Remove an instance and its disks."""
        return self._submit(ctxt, Verb.DELETE, instance)

    @expose
    def start_instance(self, ctxt: RequestContext, instance: str) -> Action:
        """Start an instance that is stopped."""
        return self._submit(ctxt, Verb.START, instance)

    @expose
    def stop_instance(self, ctxt: RequestContext, instance: str) -> Action:
        """Shut an instance down."""
        return self._submit(ctxt, Verb.STOP, instance)

    @expose
    def reboot_instance(self, ctxt: RequestContext, instance: str, hard: bool) -> Action:
        """Restart an instance: ask it, or reset it (hard)."""
        return self._submit(ctxt, Verb.HARD_REBOOT if hard else Verb.REBOOT, instance)

    @expose
    def pause_instance(self, ctxt: RequestContext, instance: str) -> Action:
        """Freeze an instance in memory."""
        return self._submit(ctxt, Verb.PAUSE, instance)

    @expose
    def unpause_instance(self, ctxt: RequestContext, instance: str) -> Action:
        """Let a paused instance run on."""
        return self._submit(ctxt, Verb.UNPAUSE, instance)

    @expose
    def live_migrate_instance(
        self, ctxt: RequestContext, instance: str, destination: str | None, options: objects.MigrationOptions
    ) -> Action:
        """Move an instance while it runs, to ``destination`` or to a host of the scheduler's choice."""
        check_options(options)
        args = {"options": msgspec.to_builtins(options)}
        return self._submit(ctxt, Verb.LIVE_MIGRATE, instance, destination=destination, **args)

    @expose
    def migrate_instance(self, ctxt: RequestContext, instance: str, destination: str | None) -> Action:
        """Move an instance while it is off, to ``destination`` or to a host of the scheduler's choice."""
        return self._submit(ctxt, Verb.MIGRATE, instance, destination=destination)

    @expose
    def evacuate_instance(self, ctxt: RequestContext, instance: str, destination: str | None) -> Action:
        """Make an instance anew elsewhere, because its host is fenced. :raises HostNotFenced:"""
        return self._submit(ctxt, Verb.EVACUATE, instance, destination=destination)

    @expose
    def rebuild_instance(self, ctxt: RequestContext, instance: str) -> Action:
        """Make an instance anew, with fresh disks, where it is."""
        return self._submit(ctxt, Verb.REBUILD, instance)

    @expose
    def cancel_action(self, ctxt: RequestContext, action: str) -> Action:
        """Have an action undone. :raises ActionNotFound: :raises NotCancellable:"""
        self._engine.cancel(action)
        return self._queries.action(action)

    @expose
    def abort_migration(self, ctxt: RequestContext, migration: str) -> Action:
        """Cancel the action of a migration. :raises MigrationNotFound: :raises NotCancellable:"""
        return self._queries.action(self._migrations.abort(migration))

    @expose
    def force_complete_migration(self, ctxt: RequestContext, migration: str) -> Action:
        """Pause a guest so that its live migration can end. :raises NotForceable: :raises PeerTooOld:"""
        return self._queries.action(self._migrations.force_complete(ctxt, migration))

    # Administration.

    @expose
    def reset_instance_state(self, ctxt: RequestContext, instance: str, state: str) -> objects.Instance:
        """Set an instance's state by hand, and end what runs on it. :raises InvalidInput:"""
        return self._queries.instance(self._administration.reset_state(instance, check_state(state)))

    @expose
    def drain_host(self, ctxt: RequestContext, host: str) -> list[Action]:
        """Let a host take no more instances, and move those that it has. :raises HostNotFound:"""
        return [self._queries.action(action) for action in self._administration.drain(ctxt, host)]

    @expose
    def undrain_host(self, ctxt: RequestContext, host: str) -> objects.Host:
        """Let a host take instances again. :raises HostNotFound:"""
        self._administration.undrain(host)
        return self._queries.host(host)

    @expose
    def set_service_enabled(self, ctxt: RequestContext, host: str, enabled: bool, reason: str) -> objects.Service:
        """Let a compute be scheduled to, or not. :raises ServiceNotFound:"""
        self._administration.set_enabled(host, enabled, reason)
        return self._queries.service(COMPUTE, host)

    @expose
    def set_service_forced_down(self, ctxt: RequestContext, host: str, forced_down: bool) -> objects.Service:
        """Write down that a host is known to be off, or take that back. :raises ServiceNotFound:"""
        return self._queries.service(self._administration.set_forced_down(host, forced_down), host)

    @expose
    def add_image(self, ctxt: RequestContext, image: objects.Image) -> objects.Image:
        """Add an image; it gets its time here. :raises InvalidInput: :raises ImageExists:"""
        check_image(image)
        return self._images.add(image)

    @expose
    def remove_image(self, ctxt: RequestContext, image: str) -> int:
        """Remove an image; return how many instances were made from it. :raises ImageNotFound:"""
        return self._images.remove(image)

    # Questions.

    @expose
    def get_image(self, ctxt: RequestContext, image: str) -> objects.Image:
        """Return an image, by name or UUID. :raises ImageNotFound:"""
        return self._images.get(image)

    @expose
    def list_images(self, ctxt: RequestContext) -> list[objects.Image]:
        """Return all images."""
        return self._images.all()

    @expose
    def get_instance(self, ctxt: RequestContext, instance: str) -> objects.Instance:
        """Return an instance."""
        return self._queries.instance(instance)

    @expose
    def list_instances(self, ctxt: RequestContext, host: str | None, deleted: bool) -> list[objects.Instance]:
        """Return instances: all, or those on ``host``; deleted ones too if asked."""
        return self._queries.instances(host, deleted)

    @expose
    def list_faults(self, ctxt: RequestContext, instance: str) -> list[objects.Fault]:
        """Return what went wrong with an instance, newest first."""
        return self._queries.faults(instance)

    @expose
    def explain_instance(self, ctxt: RequestContext, instance: str) -> objects.Explanation:
        """Return what runs on an instance, what its hosts say of it, and what happens next by itself."""
        return self._inquiry.explain(ctxt, instance)

    @expose
    def get_console_output(self, ctxt: RequestContext, instance: str, offset: int) -> objects.ConsoleOutput:
        """Return what an instance has written to its console. :raises NoGuest: :raises PeerError:"""
        return self._consoles.output(ctxt, instance, offset)

    @expose
    def send_console_input(self, ctxt: RequestContext, instance: str, text: objects.ConsoleInput) -> None:
        """Write to an instance's console; an empty text only gets it ready. :raises NoGuest: :raises PeerError:"""
        self._consoles.send(ctxt, instance, text)

    @expose
    def get_action(self, ctxt: RequestContext, action: str) -> Action:
        """Return an action. :raises ActionNotFound:"""
        return self._queries.action(action)

    @expose
    def list_actions(self, ctxt: RequestContext, instance: str | None, limit: int) -> list[Action]:
        """Return the newest actions: all, or an instance's. :raises InvalidInput:"""
        check_limit(limit)
        return self._queries.actions(instance, limit)

    @expose
    def list_action_events(self, ctxt: RequestContext, action: str) -> list[objects.ActionEvent]:
        """Return the trace of an action. :raises ActionNotFound:"""
        return self._queries.action_events(action)

    @expose
    def get_migration(self, ctxt: RequestContext, migration: str) -> objects.Migration:
        """Return a migration. :raises MigrationNotFound:"""
        return self._queries.migration(migration)

    @expose
    def list_migrations(self, ctxt: RequestContext, instance: str | None, limit: int) -> list[objects.Migration]:
        """Return the newest migrations: all, or an instance's. :raises InvalidInput:"""
        check_limit(limit)
        return self._queries.migrations(instance, limit)

    @expose
    def get_host(self, ctxt: RequestContext, host: str) -> objects.Host:
        """Return a compute host. :raises HostNotFound:"""
        return self._queries.host(host)

    @expose
    def list_hosts(self, ctxt: RequestContext) -> list[objects.Host]:
        """Return all compute hosts."""
        return self._queries.hosts()

    @expose
    def list_services(self, ctxt: RequestContext) -> list[objects.Service]:
        """Return all services."""
        return self._queries.services()

    # Reports of computes.

    @expose
    def report_host(self, ctxt: RequestContext, report: objects.HostReport) -> objects.HostDirective:
        """Take what a host says of itself, and tell it what to do about that."""
        return self._reconciler.take(report)

    @expose
    def report_outcome(self, ctxt: RequestContext, outcome: objects.Outcome) -> None:
        """Store the outcome of an order, and go on with its action."""
        self._engine.report(outcome)

    @expose
    def report_migration(
        self, ctxt: RequestContext, order: objects.Order, event: str, progress: objects.MigrationProgress | None
    ) -> None:
        """Store how far a migration is; ``event`` is a :class:`~minova.states.MigrationEvent`."""
        self._migrations.progress(order, event, progress)

    @expose
    def renew_orders(self, ctxt: RequestContext, host: str, orders: list[tuple[str, int]]) -> None:
        """Note that ``host`` still works on these orders: (action id, sequence) each."""
        self._leases.renew_orders(orders)

    def _submit(self, ctxt: RequestContext, verb: Verb, instance: str, **args: object) -> Action:
        return self._queries.action(self._engine.submit(ctxt, verb, instance, args))
