"""Start, stop, reboot, pause, unpause: one order to the guest's host."""

from minova.conductor.tasks.base import Task, guest_host
from minova.conductor.tasks.step import order
from minova.states import Verb


class StartInstance(Task):
    """Start a guest that is shut down."""

    verb = Verb.START

    @order(guest_host)
    def power_on(self, host: str) -> None:
        """Have the guest started."""
        self.compute.start_instance(self.ctxt, host, self.order, self.instance)


class StopInstance(Task):
    """Shut a guest down."""

    verb = Verb.STOP

    @order(guest_host)
    def power_off(self, host: str) -> None:
        """Have the guest shut down."""
        self.compute.stop_instance(self.ctxt, host, self.order, self.instance)


class RebootInstance(Task):
    """Ask a guest to restart."""

    verb = Verb.REBOOT
    hard = False

    @order(guest_host)
    def reboot(self, host: str) -> None:
        """Have the guest restarted."""
        self.compute.reboot_instance(self.ctxt, host, self.order, self.instance, self.hard)


class HardRebootInstance(RebootInstance):
    """Reset a guest, whatever its state."""

    verb = Verb.HARD_REBOOT
    hard = True


class PauseInstance(Task):
    """Freeze a guest in memory."""

    verb = Verb.PAUSE

    @order(guest_host)
    def pause(self, host: str) -> None:
        """Have the guest paused."""
        self.compute.pause_instance(self.ctxt, host, self.order, self.instance)


class UnpauseInstance(Task):
    """Let a paused guest run on."""

    verb = Verb.UNPAUSE

    @order(guest_host)
    def unpause(self, host: str) -> None:
        """Have the guest run on."""
        self.compute.unpause_instance(self.ctxt, host, self.order, self.instance)
