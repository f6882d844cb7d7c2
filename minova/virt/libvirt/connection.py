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

    def run(self, operation: str, work: Callable[[libvirt.virConnect], T]) -> T:
        """Return what ``work`` returns; it is done again if libvirtd went away meanwhile, and has to bear that.

        :raises OperationRefused: libvirt cannot do it, or libvirtd is away.
        """
        gives_up_at = time.monotonic() + PATIENCE if self._connection is not None else 0.0
        while True:
            try:
                connection = self._open(operation)
            except OperationRefused:
                if time.monotonic() >= gives_up_at:
                    raise
                time.sleep(_RETRY_SECONDS)
                continue
            try:
                return work(connection)
            except libvirt.libvirtError as error:
                if connection.isAlive() or time.monotonic() >= gives_up_at:
                    raise self.refusal(operation, str(error)) from error
                self._drop(connection)

    def refusal(self, operation: str, reason: str) -> OperationRefused:
        """Return an error of this host, in one line."""
        return OperationRefused(host=self._host, operation=operation, reason=" ".join(reason.split()))

    def _open(self, operation: str) -> libvirt.virConnect:
        with self._lock:
            if self._connection is None or not self._connection.isAlive():
                try:
                    self._connection = libvirt.open(self.uri)
                except libvirt.libvirtError as error:
                    reason = f"the hypervisor at {self.uri} cannot be reached ({error}): does libvirtd run?"
                    raise self.refusal(operation, reason) from error
            return self._connection

    def _drop(self, connection: libvirt.virConnect) -> None:
        with self._lock:
            if self._connection is connection:
                self._connection = None
