"""Hearing at once of guests that change by themselves, such as one that shuts itself down."""

import logging
import threading
from collections.abc import Callable

import libvirt

from minova.virt.libvirt.domain_xml import NAME_PREFIX

LOG = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
"""Between two attempts to reach a libvirtd that is away."""

_STOP_SECONDS = 10.0
"""After so long a report that is just being made is left to its end."""

_WAKE_MILLISECONDS = 500
"""So often the loop looks whether it is still wanted."""

_DEFINITIONS = (libvirt.VIR_DOMAIN_EVENT_DEFINED, libvirt.VIR_DOMAIN_EVENT_UNDEFINED)


class Loop:
    """libvirt's event loop, of which a process has one; it runs for as long as anybody listens."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listeners = 0
        self._registered = False
        self._thread: threading.Thread | None = None

    def enter(self) -> None:
        """Have it run."""
        with self._lock:
            self._listeners += 1
            if not self._registered:
                # Only once in a process, and before the connections whose events are wanted.
                libvirt.virEventRegisterDefaultImpl()
                libvirt.virEventAddTimeout(_WAKE_MILLISECONDS, lambda *_: None, None)
                self._registered = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="libvirt-events", daemon=True)
                self._thread.start()

    @property
    def runs(self) -> bool:
        """Whether somebody listens, so that what is connected now is looked after."""
        return self._thread is not None

    def leave(self) -> None:
        """Need it no more."""
        with self._lock:
            self._listeners -= 1
            if not self._listeners and self._thread is not None:
                self._thread.join()
                self._thread = None

    def _run(self) -> None:
        while self._listeners:
            libvirt.virEventRunDefaultImpl()


LOOP = Loop()


class GuestWatch:
    """Calls somebody soon after guests of minova's have changed, from a thread of its own."""

    def __init__(self, uri: str, on_change: Callable[[], object]) -> None:
        """Begin to listen, as soon as libvirtd is there; after it was away, something may have changed too."""
        self._uri = uri
        self._on_change = on_change
        self._news = threading.Event()
        self._stopping = False
        LOOP.enter()
        self._thread = threading.Thread(target=self._run, name="guest-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self._stopping = True
        self._news.set()
        # It may be waiting for a libvirtd that hangs, and nobody has to wait for that.
        self._thread.join(_STOP_SECONDS)
        LOOP.leave()

    def _run(self) -> None:
        while not self._stopping:
            connection = self._listen()
            if connection is None:
                self._news.wait(_RETRY_SECONDS)
                self._news.clear()
                continue
            while not self._stopping and connection.isAlive():
                self._tell()
                self._news.wait()
                self._news.clear()

    def _listen(self) -> libvirt.virConnect | None:
        try:
            connection = libvirt.open(self._uri)
            connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._hear, None)
            connection.registerCloseCallback(lambda *_: self._news.set(), None)
        except libvirt.libvirtError as error:
            LOG.debug("No events yet: %s", error)
            return None
        return connection

    def _hear(self, _connection: object, domain: libvirt.virDomain, event: int, _detail: int, _opaque: object) -> None:
        # Nothing is asked of libvirt here: its answer would come by this thread.
        if event not in _DEFINITIONS and domain.name().startswith(NAME_PREFIX):
            self._news.set()

    def _tell(self) -> None:
        try:
            self._on_change()
        except Exception:
            LOG.exception("What changed was not told")
