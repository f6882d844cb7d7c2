"""Boot: choose a host and create the guest there; if the host refuses, try another."""

from sqlalchemy.orm import Session

from minova.conductor.tasks.base import Task, destination
from minova.conductor.tasks.step import Step, order, transaction
from minova.objects import Fault
from minova.states import Verb


class BootInstance(Task):
    """Create a guest on a host that has room."""

    verb = Verb.BOOT

    @transaction()
    def select_host(self, session: Session) -> None:
        """Choose a host among those that have not refused, and take room on it."""
        chosen = self.claim_destination(session)
        self.row(session).host = chosen

    @select_host.undo
    @transaction()
    def release_host(self, session: Session) -> None:
        """Give the room back."""
        self.release_destination_room(session)
        self.row(session).host = None

    @order(destination)
    def spawn(self, host: str) -> None:
        """Have the guest created and started."""
        self.compute.build_and_run_instance(self.ctxt, host, self.order, self.instance, power_on=True)

    @spawn.undo
    @order(destination)
    def destroy(self, host: str) -> None:
        """Have removed what was created of it."""
        self.compute.terminate_instance(self.ctxt, host, self.order, self.instance)

    def after_failure(self, step: Step, fault: Fault) -> Step | None:
        """Try the next host if this one has no room."""
        return BootInstance.select_host if self.may_try_next_host(fault) else None

    def check(self, session: Session) -> None:
        """Allow anything: the guest is still to be made."""
