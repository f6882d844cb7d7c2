"""The connection to libvirtd: one for each process, made anew when libvirtd has gone away."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import libvirt

from minova.exception import OperationRefused

T = TypeVar("T")

PATIENCE = 3.0
"""Seconds for which libvirtd may be away once it was there: it is being restarted, as for an upgrade."""

_RETRY_SECONDS = 0.1


class Connection:
    """A host's libvirtd, whether or not it is there at the moment. It may be used by several threads at once."""

    def __init__(self, uri: str, host: str) -> None:
        """Connect to nothing yet. ``host`` is what errors name."""
        # What it cannot do is told by exceptions; libvirt would write it to standard error too.
        libvirt.registerErrorHandler(lambda *_: None, None)
        self.uri = uri
        self._host = host
        self._lock = threading.Lock()
        self._connection: libvirt.virConnect | None = None
        self._was_there = False

    def run(self, operation: str, work: Callable[[libvirt.virConnect], T]) -> T:
        """Return what ``work`` returns; it is done again if libvirtd goes away meanwhile, and has to bear that.

        :raises OperationRefused: libvirt cannot do it, or libvirtd is away.
        """
        connection = self._open(operation, PATIENCE if self._was_there else 0.0)
        try:
            return work(connection)
        except libvirt.libvirtError as error:
            if connection.isAlive():
                raise self.refusal(operation, str(error)) from error
        try:
            return work(self._open(operation, PATIENCE))
        except libvirt.libvirtError as error:
            raise self.refusal(operation, str(error)) from error

    def refusal(self, operation: str, reason: str) -> OperationRefused:
        """Return an error of this host, in one line."""
        return OperationRefused(host=self._host, operation=operation, reason=" ".join(reason.split()))

    def _open(self, operation: str, patience: float) -> libvirt.virConnect:
        gives_up_at = time.monotonic() + patience
        while True:
            try:
                return self._try_to_open()
            except libvirt.libvirtError as error:
                if time.monotonic() >= gives_up_at:
                    # One has been patient for all.
                    self._was_there = False
                    reason = f"the hypervisor at {self.uri} cannot be reached ({error}): does libvirtd run?"
                    raise self.refusal(operation, reason) from error
            time.sleep(_RETRY_SECONDS)

    def _try_to_open(self) -> libvirt.virConnect:
        with self._lock:
            if self._connection is None or not self._connection.isAlive():
                self._connection = libvirt.open(self.uri)
                self._was_there = True
            return self._connection
