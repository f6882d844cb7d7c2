"""The serial consoles of instances, by way of their hosts."""

from dataclasses import replace

from minova.compute.rpcapi import ComputeAPI
from minova.context import RequestContext
from minova.db.queries import instance_as_written
from minova.db.session import Database, persistent
from minova.exception import NoGuest
from minova.objects import ConsoleOutput


class Consoles:
    """Asks the host of an instance at that moment. Nothing of what is written or read is kept.

    Both methods raise:

    :raises NoGuest: no host has it.
    :raises DriverError: its host cannot do it.
    :raises PeerSilent: its host does not answer.
    :raises PeerTooOld: its host, or another, is of an older release.
    """

    def __init__(self, database: Database, compute: ComputeAPI) -> None:
        """Find hosts in ``database``, and ask them by ``compute``."""
        self._database = database
        self._compute = compute

    def output(self, ctxt: RequestContext, reference: str, offset: int) -> ConsoleOutput:
        """Return what an instance has written to its console; ``offset`` is as the driver has it."""
        uuid, host = self._place(reference)
        return replace(self._compute.get_console_output(ctxt, host, uuid, offset), host=host)

    def send(self, ctxt: RequestContext, reference: str, text: str) -> None:
        """Write to an instance's console."""
        uuid, host = self._place(reference)
        self._compute.send_console_input(ctxt, host, uuid, text)

    @persistent
    def _place(self, reference: str) -> tuple[str, str]:
        with self._database.read() as session:
            row = instance_as_written(session, reference)
            if row.host is None:
                raise NoGuest(instance=reference)
            return row.uuid, row.host
