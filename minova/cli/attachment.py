"""One instance's console, read and written wherever the instance is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minova.exception import DriverError, MinovaError, NoGuest, PeerSilent
from minova.states import VmState

if TYPE_CHECKING:
    from minova.cli.connection import Connection

_SHOWN_BYTES = 1024
"""So much of what was there before is looked at, for the line at which the guest waits."""

_ROUNDS = 10
"""After so many exchanges without input the console is kept open, and it is seen whether it still can be used."""

_PASSING = (DriverError, NoGuest, PeerSilent)
"""What may be so for a moment only."""


@dataclass(eq=False, kw_only=True)
class ConsoleClosed(MinovaError):
    """The instance has no console any more."""

    instance: str
    reason: str

    @property
    def message(self) -> str:
        """Say what has become of the instance."""
        return f"instance {self.instance} {self.reason}"


class Attachment:
    """Sends to a console, and takes what comes from there. What may have arrived is never sent again."""

    def __init__(self, connection: "Connection", reference: str, notify: Callable[[str], None]) -> None:
        """Find the instance, and get its console ready; ``notify`` is told of its moves.

        :raises MinovaError: it has no console that could be used now.
        """
        self._conductor = connection.conductor
        self._ctxt = connection.ctxt
        self._notify = notify
        instance = self._conductor.get_instance(self._ctxt, reference)
        # The name may be another's one day.
        self.name, self._uuid = instance.name, instance.uuid
        self._in_doubt = False
        self._rounds = 0
        self.unsent = ""
        """What its host has refused so far."""
        self._send()
        before = self._conductor.get_console_output(self._ctxt, self._uuid, -_SHOWN_BYTES)
        self._host, self._offset = before.host, before.next_offset
        self.last_line = before.text.rpartition("\n")[2]
        """What the guest has written to it before, and may be waiting at."""

    def exchange(self, text: str) -> str:
        """Send something, or nothing, and return what has come meanwhile.

        :raises ConsoleClosed: the instance is stopped or deleted.
        :raises MinovaError: it cannot be used any more; or it is not known what became of the text.
        """
        self.unsent += text
        self._rounds += 1
        came = ""
        trouble: MinovaError | None = None
        try:
            if self.unsent or self._rounds >= _ROUNDS:
                self._send()
        except _PASSING as error:
            trouble = error
        try:
            came = self._receive()
        except _PASSING as error:
            trouble = trouble or error
        if trouble is not None:
            self._bear(trouble)
        return came

    def _send(self) -> None:
        self._conductor.send_console_input(self._ctxt, self._uuid, self.unsent)
        self.unsent, self._rounds, self._in_doubt = "", 0, False

    def _receive(self) -> str:
        output = self._conductor.get_console_output(self._ctxt, self._uuid, self._offset)
        if output.host != self._host:
            self._notify(f"{self.name} is on host {output.host} now")
            self._host, self._offset = output.host, 0
            return ""
        self._offset = output.next_offset
        return output.text

    def _bear(self, error: MinovaError) -> None:
        """Go on after an error that passes: the instance is moved or rebooted. :raises MinovaError: it does not."""
        if isinstance(error, PeerSilent):
            if self.unsent:
                raise error
            return
        now = self._conductor.get_instance(self._ctxt, self._uuid)
        if now.vm_state is VmState.DELETED:
            raise ConsoleClosed(instance=self.name, reason="has been deleted")
        if now.task_state is not None or now.vm_state is VmState.PAUSED:
            self._in_doubt = False
        elif not self._in_doubt:
            # What was under way may have ended just now.
            self._in_doubt = True
        elif now.vm_state is VmState.STOPPED:
            raise ConsoleClosed(instance=self.name, reason="has been stopped")
        else:
            raise error
