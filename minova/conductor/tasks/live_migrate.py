"""Live migration: move a guest to another host while it runs."""

from typing import Any

import msgspec
from sqlalchemy.orm import Session

from minova.conductor.tasks.base import Task, destination, leaves_open, source
from minova.conductor.tasks.step import Step, call, order, transaction
from minova.objects import Fault, MigrateData, MigrationOptions
from minova.states import MigrationEvent, MigrationType, Verb


class LiveMigrationTask(Task):
    """Move a guest that is active, from a host that is up, to one that has room."""

    verb = Verb.LIVE_MIGRATE
    version = "1.1"

    def check(self, session: Session) -> None:
        """Require that the source is up, and that the computes understand the options."""
        super().check(session)
        self.compute.check_options(self.options)

    @transaction()
    def select_destination(self, session: Session) -> None:
        """Choose the destination, or check the one that was asked for, and take room on it."""
        self.claim_destination(session)
        self.record_migration(session, MigrationType.LIVE)

    @select_destination.undo
    @transaction()
    def release_destination(self, session: Session) -> None:
        """Give the room back, unless the guest, whose source could not tell, turned up there after all."""
        left = [*self.action.data.get("left", [])]
        if self.in_doubt and self.turned_up:
            self.move_to_destination(session)
            self.release_source_room(session)
            self.remember(left=[*left, f"the guest had gone to host {destination(self)}"])
            return
        self.release_destination_room(session)
        if self.turned_up:
            self.remember(left=[*left, f"host {destination(self)} has the guest, and host {source(self)} said so too"])

    @call(source)
    def check_source(self, host: str) -> Any:
        """Ask the source whether the guest can be moved, and what it is like."""
        chosen = destination(self)
        assert chosen
        data = self.compute.check_can_live_migrate_source(self.ctxt, host, self.instance, chosen, self.options)
        return msgspec.to_builtins(data) if data is not None else {}

    @call(destination)
    def check_destination(self, host: str) -> None:
        """Ask the destination whether it can take such a guest."""
        self.compute.check_can_live_migrate_destination(self.ctxt, host, self.instance, self.options, self.seen)

    @transaction()
    def begin_preparing(self, session: Session) -> None:
        """Write down that the destination is being prepared."""
        self.advance_migration(session, MigrationEvent.PREPARE)

    @order(destination)
    def prepare_destination(self, host: str) -> None:
        """Have the destination get ready for the guest."""
        self.compute.pre_live_migration(self.ctxt, host, self.order, self.instance, self.options, self.seen)

    @prepare_destination.undo
    @order(destination)
    def rollback_destination(self, host: str) -> None:
        """Have removed what was made ready."""
        self.compute.rollback_live_migration_at_destination(self.ctxt, host, self.order, self.instance)

    @order(source, pivot=True)
    def migrate(self, host: str) -> None:
        """Have the source move the guest; it reports its progress, and the end. There is no way to get it back."""
        chosen = destination(self)
        assert chosen
        ready = self.result(LiveMigrationTask.prepare_destination).get("migrate_data", {})
        data = msgspec.convert(ready, MigrateData)
        self.compute.live_migration(self.ctxt, host, self.order, self.instance, chosen, self.options, data)

    @transaction()
    def switch_host(self, session: Session) -> None:
        """Write down at once that the guest has left the source, even if no progress of it was ever heard."""
        self.move_to_destination(session)
        self.advance_migration(session, MigrationEvent.START)

    @order(destination, pivot=True)
    def finish_at_destination(self, host: str) -> None:
        """Have the destination finish; it fails if the guest did not arrive."""
        self.compute.post_live_migration_at_destination(self.ctxt, host, self.order, self.instance)

    @transaction()
    def complete(self, session: Session) -> None:
        """Give back the room at the source, and round off the progress."""
        self.move_to_destination(session)
        self.release_source_room(session)
        self.complete_progress(session, self.result(LiveMigrationTask.migrate).get("progress", {}))

    def after_failure(self, step: Step, fault: Fault) -> Step | None:
        """If it is open whether the source has moved the guest, let the destination tell."""
        lost_sight = step is LiveMigrationTask.migrate and leaves_open(fault)
        return LiveMigrationTask.finish_at_destination if lost_sight else None

    @property
    def unclear_hosts(self) -> list[str]:
        """Both, if the source could not tell: the guest may still arrive. And if both say that they have it.

        One of them, if only the other may have something that is left of it: that does not count as soon as the guest
        is seen where it was, or where it has got to.
        """
        if self.in_doubt or self.turned_up:
            return [host for host in (source(self), destination(self)) if host]
        return self.home_if_left

    @property
    def turned_up(self) -> bool:
        """Whether the destination had the guest when it was told that it would not come."""
        return "power_state" in self.result(LiveMigrationTask.rollback_destination)

    def abort(self, step: Step) -> None:
        """Have the source abort the move, if it has this action's in hand."""
        host = source(self)
        if host:
            self.compute.live_migration_abort(self.ctxt, host, self.action.id, self.instance.uuid)

    @property
    def options(self) -> MigrationOptions:
        """How to migrate."""
        return msgspec.convert(self.action.args["options"], MigrationOptions)

    @property
    def seen(self) -> MigrateData:
        """What the source has said of the guest; nothing, if it was asked before it could say it."""
        return msgspec.convert(self.result(LiveMigrationTask.check_source), MigrateData)
