"""Writing to guests' serial consoles."""

import threading
import time
from contextlib import suppress
from weakref import WeakMethod

import libvirt

from minova.virt.libvirt.connection import Connection
from minova.virt.libvirt.events import LOOP

_IDLE_SECONDS = 10.0
_LOOK_MILLISECONDS = 100
_PIECE_BYTES = 64 * 1024

_PROBE_SECONDS, _PROBES = 1, 2
"""libvirtd hears nothing more, not even that a console shall be closed, while a guest does not read what there is.

Its own probes, every 5 s, would let that go on for half a minute.
"""


class OpenConsoles:
    """The consoles of one host that are written to.

    QEMU looks once a second whether anybody has opened the other end of a console, and never sees what was written and
    closed sooner. So each stays open for a while after it was last written to; whoever writes meanwhile shares it. It
    cannot be open twice: nobody who has it open by other means, such as ``virsh console``, is thrown out, and nobody
    else can open it before it is idle.
    """

    def __init__(self, connection: Connection, idle_seconds: float = _IDLE_SECONDS) -> None:
        """Open nothing yet. ``connection`` makes the errors, and tells where libvirtd is."""
        self._connection = connection
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._timer: int | None = None

    def send(self, uuid: str, text: str) -> None:
        """Write to a guest's console, or only open it. :raises OperationRefused: that cannot be done."""
        with self._lock:
            self._listen()
            try:
                self._send(uuid, text.encode())
            except libvirt.libvirtError as error:
                raise self._connection.refusal("console_input", _reason(error)) from error

    def close(self) -> None:
        """Close all, and listen no more."""
        with self._lock:
            for uuid in list(self._lines):
                self._close(uuid)
            timer, self._timer = self._timer, None
        if timer is not None:
            libvirt.virEventRemoveTimeout(timer)
            LOOP.leave()

    def _listen(self) -> None:
        """Have the event loop run: what comes by a connection that was made before that, it does not see."""
        if self._timer is None:
            LOOP.enter()
            # libvirt never lets go of what it has to call, be it a method of this object or a callback of a stream's.
            look = WeakMethod(self._look)
            self._timer = libvirt.virEventAddTimeout(_LOOK_MILLISECONDS, lambda *_: (it := look()) and it(), None)

    def _send(self, uuid: str, data: bytes) -> None:
        line = self._lines.get(uuid)
        if line is not None:
            try:
                line.send(data)
            except libvirt.libvirtError:
                # As after a restart of libvirtd.
                self._close(uuid)
            else:
                line.idle_at = time.monotonic() + self._idle_seconds
                return
        self._lines[uuid] = line = _Line(self._connection.uri, uuid, time.monotonic() + self._idle_seconds)
        line.send(data)

    def _look(self) -> None:
        """Close the consoles that are idle, or whose guests are gone: called by the event loop again and again."""
        # It must not wait for one who writes: by the loop he learns that nobody reads.
        if self._lock.acquire(blocking=False):
            try:
                for uuid, line in list(self._lines.items()):
                    if line.has_ended() or time.monotonic() >= line.idle_at:
                        self._close(uuid)
            finally:
                self._lock.release()

    def _close(self, uuid: str) -> None:
        self._lines.pop(uuid).close()


class _Line:
    """One console that is open, by a connection of its own: others work on if its guest does not read.

    :ivar idle_at: when it is to be closed.
    """

    def __init__(self, uri: str, uuid: str, idle_at: float) -> None:
        self.idle_at = idle_at
        self._connection = libvirt.open(uri)
        self._connection.setKeepAlive(_PROBE_SECONDS, _PROBES)
        self._stream = self._connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
        self._connection.lookupByUUIDString(uuid).openConsole(None, self._stream, 0)

    def send(self, data: bytes) -> None:
        """Write. :raises libvirtError:"""
        if not self._connection.isAlive():
            raise libvirt.libvirtError("libvirtd has gone away")
        while data:
            sent = self._stream.send(data)
            if sent < 0:
                raise libvirt.libvirtError("the guest does not read what was sent before")
            data = data[sent:]

    def has_ended(self) -> bool:
        """Take what the guest has written, for it would wait for that; it is in its log. Return whether it is gone."""
        try:
            while isinstance(piece := self._stream.recv(_PIECE_BYTES), bytes):
                if not piece:
                    return True
        except libvirt.libvirtError:
            return True
        return False

    def close(self) -> None:
        """Close it, if it is not closed yet."""
        with suppress(libvirt.libvirtError):
            self._stream.abort()
        with suppress(libvirt.libvirtError):
            self._connection.close()


def _reason(error: libvirt.libvirtError) -> str:
    if error.get_error_code() == libvirt.VIR_ERR_OPERATION_FAILED:
        return f"somebody may have the console open by other means, such as virsh console: {error}"
    return str(error)
