"""Evacuation: make a guest anew elsewhere, because its host is dead and known to be."""

from sqlalchemy.orm import Session

from minova.conductor import doubts
from minova.conductor.tasks.base import Task, destination
from minova.conductor.tasks.step import Step, order, transaction
from minova.db.queries import COMPUTE, find_service
from minova.exception import HostNotFenced, NoGuest
from minova.objects import Fault
from minova.states import MigrationEvent, MigrationType, Verb, VmState


class EvacuateInstance(Task):
    """Start a guest of a fenced host on another; the old one destroys its copy before it does anything else."""

    verb = Verb.EVACUATE

    def check(self, session: Session) -> None:
        """Require that the host is silent and that the operator vouches for its being off: neither alone is proof.

        :raises HostNotFenced: nobody has said so.
        :raises HostAlive: it is not silent.
        """
        host = self.instance.host
        if host is None:
            raise NoGuest(instance=self.instance.name)
        # The operator's word has to hold until all can see that the host is being evacuated.
        service = find_service(session, COMPUTE, host, lock=True)
        if not service.forced_down:
            raise HostNotFenced(host=host)
        doubts.require_silent(service, self.services.conf.service_down_time)

    @transaction()
    def select_destination(self, session: Session) -> None:
        """Choose the destination, or check the one that was asked for, and take room on it."""
        self.claim_destination(session)
        self.record_migration(session, MigrationType.EVACUATION)
        self.advance_migration(session, MigrationEvent.START)

    @select_destination.undo
    @transaction()
    def release_destination(self, session: Session) -> None:
        """Give the room back."""
        self.release_destination_room(session)

    @order(destination)
    def rebuild_at_destination(self, host: str) -> None:
        """Have the guest made there; it runs unless it was stopped."""
        power_on = self.action.previous_vm_state is not VmState.STOPPED
        self.compute.build_and_run_instance(self.ctxt, host, self.order, self.instance, power_on)

    @rebuild_at_destination.undo
    @order(destination)
    def destroy(self, host: str) -> None:
        """Have removed what was made of it."""
        self.compute.terminate_instance(self.ctxt, host, self.order, self.instance)

    @transaction(pivot=True)
    def switch_host(self, session: Session) -> None:
        """Write down where the guest is now, and give back its room at the dead host."""
        self.move_to_destination(session)
        self.release_source_room(session)

    def after_failure(self, step: Step, fault: Fault) -> Step | None:
        """Try the next host if this one has no room."""
        return EvacuateInstance.select_destination if self.may_try_next_host(fault) else None

    @property
    def unclear_hosts(self) -> list[str]:
        """The destination, if what was made there could not be destroyed."""
        chosen = destination(self)
        return [chosen] if chosen and self.action.data.get("left") else []
