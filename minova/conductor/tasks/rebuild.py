"""Rebuild: make a guest anew, with fresh disks, where it is."""

from sqlalchemy.orm import Session

from minova.conductor.tasks.base import Task, able_to_check, guest_host
from minova.conductor.tasks.step import order, transaction
from minova.states import Verb, VmState


class RebuildInstance(Task):
    """Throw a guest's disks away and start it from its image; it stays off if it was stopped."""

    verb = Verb.REBUILD
    version = "1.1"

    @order(able_to_check(guest_host))
    def check_host(self, host: str) -> None:
        """Ask the host, before anything is thrown away, whether it could make the guest."""
        self.compute.check_can_spawn(self.ctxt, host, self.order, self.instance)

    @order(guest_host)
    def rebuild(self, host: str) -> None:
        """Have the guest made anew."""
        power_on = self.action.previous_vm_state is not VmState.STOPPED
        self.compute.rebuild_instance(self.ctxt, host, self.order, self.instance, power_on)

    @rebuild.undo
    @transaction()
    def tell_of_loss(self, session: Session) -> None:
        """Write down that the guest is not what it was: what was thrown away does not come back."""
        self.remember(left=["its disks may be gone: rebuild it once more, or delete it"])
