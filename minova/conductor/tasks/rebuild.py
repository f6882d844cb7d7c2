"""Rebuild: make a guest anew, with fresh disks, where it is."""

from minova.conductor.tasks.base import Task, guest_host
from minova.conductor.tasks.step import order
from minova.states import Verb, VmState


class RebuildInstance(Task):
    """Throw a guest's disks away and start it from its image; it stays off if it was stopped."""

    verb = Verb.REBUILD

    @order(guest_host)
    def rebuild(self, host: str) -> None:
        """Have the guest made anew."""
        power_on = self.action.previous_vm_state is not VmState.STOPPED
        self.compute.rebuild_instance(self.ctxt, host, self.order, self.instance, power_on)
