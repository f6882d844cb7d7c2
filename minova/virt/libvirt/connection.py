"""The connections to libvirtd, made anew when it has gone away, or does not answer any more."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

import libvirt

from minova.exception import OperationRefused
from minova.virt.libvirt.events import LOOP

T = TypeVar("T")

PATIENCE = 3.0
"""Seconds for which libvirtd may be away once it was there: it is being restarted, as for an upgrade."""

_RETRY_SECONDS = 0.1

_ANSWER_SECONDS = 10.0
"""For so long it may take to connect."""

_PROBE_SECONDS, _PROBES = 5, 5
"""A libvirtd that leaves so many probes unanswered hangs: it is noticed after half a minute."""


class Connection:
    """A host's libvirtd, whether or not it is there at the moment. It may be used by several threads at once.

    No two of them share a connection: when libvirtd hangs, libvirt lets only the first of them go (and has crashed us,
    with 9.0, when libvirtd went on).
    """

    def __init__(self, uri: str, host: str) -> None:
        """Connect to nothing yet. ``host`` is what errors name."""
        # What it cannot do is told by exceptions; libvirt would write it to standard error too.
        libvirt.registerErrorHandler(lambda *_: None, None)
        self.uri = uri
        self._host = host
        self._lock = threading.Lock()
        self._free: list[Future[libvirt.virConnect]] = []
        self._was_there = False

    def run(self, operation: str, work: Callable[[libvirt.virConnect], T]) -> T:
        """Return what ``work`` returns; it is done again if libvirtd goes away meanwhile, and has to bear that.

        :raises OperationRefused: libvirt cannot do it, or libvirtd is away, or hangs.
        """
        link = self._open(operation, PATIENCE if self._was_there else 0.0)
        try:
            return self._use(link, work)
        except libvirt.libvirtError as error:
            if link.result().isAlive():
                raise self.refusal(operation, str(error)) from error
        self._forget_all()
        try:
            return self._use(self._open(operation, PATIENCE), work)
        except libvirt.libvirtError as error:
            raise self.refusal(operation, str(error)) from error

    def refusal(self, operation: str, reason: str) -> OperationRefused:
        """Return an error of this host, in one line."""
        return OperationRefused(host=self._host, operation=operation, reason=" ".join(reason.split()))

    def _use(self, link: "Future[libvirt.virConnect]", work: Callable[[libvirt.virConnect], T]) -> T:
        try:
            return work(link.result())
        finally:
            self._put_back(link)

    def _open(self, operation: str, patience: float) -> "Future[libvirt.virConnect]":
        gives_up_at = time.monotonic() + patience
        while True:
            try:
                link = self._try_to_open()
            except libvirt.libvirtError as error:
                if time.monotonic() >= gives_up_at:
                    # One has been patient for all.
                    self._was_there = False
                    reason = f"the hypervisor at {self.uri} cannot be reached ({error}): does libvirtd run?"
                    raise self.refusal(operation, reason) from error
            else:
                self._was_there = True
                return link
            time.sleep(_RETRY_SECONDS)

    def _try_to_open(self) -> "Future[libvirt.virConnect]":
        link = self._take_free() or self._begin_to_open()
        try:
            link.result(_ANSWER_SECONDS)
        except TimeoutError:
            # Who comes next waits for this one.
            self._put_back(link)
            raise libvirt.libvirtError("it does not answer") from None
        return link

    def _begin_to_open(self) -> "Future[libvirt.virConnect]":
        """Connect in a thread of its own: libvirt has no limit of time for that."""
        link: Future[libvirt.virConnect] = Future()

        def work() -> None:
            try:
                link.set_result(_connect(self.uri))
            except BaseException as error:
                link.set_exception(error)

        threading.Thread(target=work, name="libvirt-open", daemon=True).start()
        return link

    def _take_free(self) -> "Future[libvirt.virConnect] | None":
        with self._lock:
            while self._free:
                link = self._free.pop()
                if not _has_failed(link):
                    return link
        return None

    def _put_back(self, link: "Future[libvirt.virConnect]") -> None:
        if not _has_failed(link):
            with self._lock:
                self._free.append(link)

    def _forget_all(self) -> None:
        """Forget what was open while libvirtd went away: not of each is it seen."""
        with self._lock:
            forgotten, self._free = self._free, [link for link in self._free if not link.done()]
        # Not sooner, for to close one may take as long as to ask it.
        del forgotten


def _connect(uri: str) -> libvirt.virConnect:
    probes = LOOP.runs
    connection = libvirt.open(uri)
    if probes:
        # Not all ways to reach a libvirtd have probes.
        with suppress(libvirt.libvirtError):
            connection.setKeepAlive(_PROBE_SECONDS, _PROBES)
    return connection


def _has_failed(link: "Future[libvirt.virConnect]") -> bool:
    """Return whether it was tried in vain to connect, or what was connected broke."""
    return link.done() and (link.exception() is not None or not link.result().isAlive())
