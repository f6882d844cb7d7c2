"""Cold migration: shut a guest down, move its disks to another host, and start it there."""

from sqlalchemy.orm import Session

from minova.conductor.tasks.base import Task, able_to_check, destination, leaves_open, source
from minova.conductor.tasks.step import Step, order, transaction
from minova.objects import Fault
from minova.states import MigrationEvent, MigrationType, Verb, VmState


def host_with_moved_disks(task: Task) -> str | None:
    """Say that a step is for the destination, if the disks have been moved there."""
    return destination(task) if task.was_done(MigrateInstance.move_disks) else None


class MigrateInstance(Task):
    """Move a guest while it is off; it runs afterwards if it ran before."""

    verb = Verb.MIGRATE
    version = "1.1"

    @transaction()
    def select_destination(self, session: Session) -> None:
        """Choose the destination, or check the one that was asked for, and take room on it."""
        self.claim_destination(session)
        self.record_migration(session, MigrationType.COLD)

    @select_destination.undo
    @transaction()
    def release_destination(self, session: Session) -> None:
        """Give the room back."""
        self.release_destination_room(session)

    @order(able_to_check(destination))
    def check_destination(self, host: str) -> None:
        """Ask the destination, before the guest is shut down, whether it could make it."""
        self.compute.check_can_spawn(self.ctxt, host, self.order, self.instance)

    @transaction()
    def begin_moving(self, session: Session) -> None:
        """Write down that the guest is about to be shut down."""
        self.advance_migration(session, MigrationEvent.START)

    @begin_moving.undo
    @order(source)
    def restart_at_source(self, host: str) -> None:
        """Have the guest run again where it was."""
        self.compute.finish_migration(self.ctxt, host, self.order, self.instance, self.ran_before)

    @order(source)
    def move_disks(self, host: str) -> None:
        """Have the guest shut down and its disks handed to the destination."""
        chosen = destination(self)
        assert chosen
        self.compute.migrate_disk_and_power_off(self.ctxt, host, self.order, self.instance, chosen)

    @move_disks.undo
    @order(host_with_moved_disks)
    def return_disks(self, host: str) -> None:
        """Have the disks handed back."""
        left = source(self)
        assert left
        self.compute.migrate_disk_and_power_off(self.ctxt, host, self.order, self.instance, left)

    @transaction(pivot=True)
    def switch_host(self, session: Session) -> None:
        """Write down at once that the guest has left the source."""
        self.move_to_destination(session)

    @order(destination, pivot=True)
    def finish_at_destination(self, host: str) -> None:
        """Have the destination take the guest over; it fails if the guest did not arrive."""
        self.compute.finish_migration(self.ctxt, host, self.order, self.instance, self.ran_before)

    @transaction()
    def complete(self, session: Session) -> None:
        """Give back the room at the source."""
        self.move_to_destination(session)
        self.release_source_room(session)

    def after_failure(self, step: Step, fault: Fault) -> Step | None:
        """Try the next host if this one has no room; if it is open who has the disks, let the destination tell."""
        if step is MigrateInstance.check_destination:
            return MigrateInstance.select_destination if self.may_try_next_host(fault) else None
        lost_sight = step is MigrateInstance.move_disks and leaves_open(fault)
        return MigrateInstance.finish_at_destination if lost_sight else None

    @property
    def unclear_hosts(self) -> list[str]:
        """Both, if nobody could tell who has the disks, or they were to be handed back; unless the source has them.

        The one that has the guest, if only something else could not be done or heard of.
        """
        returned = self.was_done(MigrateInstance.move_disks) and not self.action.data.get("past_pivot")
        if (self.in_doubt or returned) and not self.was_done(MigrateInstance.restart_at_source):
            return [host for host in (source(self), destination(self)) if host]
        return self.home_if_left

    @property
    def ran_before(self) -> bool:
        """Whether the guest ran when the operation was asked for."""
        return self.action.previous_vm_state is VmState.ACTIVE
