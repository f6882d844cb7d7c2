"""Writing to guests' serial consoles."""

import threading
from collections.abc import Callable
from contextlib import suppress

import libvirt

from minova.virt.libvirt.connection import Connection
from minova.virt.libvirt.events import LOOP

_IDLE_MILLISECONDS = 10_000
_PIECE_BYTES = 64 * 1024
_ENDED = libvirt.VIR_STREAM_EVENT_ERROR | libvirt.VIR_STREAM_EVENT_HANGUP

_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT = 1, 2
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

    def __init__(self, connection: Connection, idle_milliseconds: int = _IDLE_MILLISECONDS) -> None:
        """Open nothing yet. ``connection`` makes the errors, and tells where libvirtd is."""
        self._connection = connection
        self._idle_milliseconds = idle_milliseconds
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._listening = False

    def send(self, uuid: str, text: str) -> None:
        """Write to a guest's console, or only open it. :raises OperationRefused: that cannot be done."""
        with self._lock:
            if not self._listening:
                # Only connections that are made after that have events.
                LOOP.enter()
                self._listening = True
            try:
                self._send(uuid, text.encode())
            except libvirt.libvirtError as error:
                raise self._connection.refusal("console_input", _reason(error)) from error

    def close(self) -> None:
        """Close all, and listen no more."""
        with self._lock:
            for uuid in list(self._lines):
                self._close(uuid)
            was_listening, self._listening = self._listening, False
        if was_listening:
            # Not under the lock, for which the loop may wait.
            LOOP.leave()

    def _send(self, uuid: str, data: bytes) -> None:
        line = self._lines.get(uuid)
        if line is not None:
            try:
                line.send(data)
            except libvirt.libvirtError:
                # As after a restart of libvirtd.
                self._close(uuid)
            else:
                return
        self._lines[uuid] = line = _Line(self._connection.uri, uuid, self._idle_milliseconds, self._over)
        line.send(data)

    def _over(self, line: "_Line") -> None:
        """Close a console that is idle, or whose guest is gone."""
        with self._lock:
            if self._lines.get(line.uuid) is line:
                self._close(line.uuid)

    def _close(self, uuid: str) -> None:
        self._lines.pop(uuid).close()


class _Line:
    """One console that is open, by a connection of its own: a guest that does not read holds up nothing else."""

    def __init__(self, uri: str, uuid: str, idle_milliseconds: int, over: Callable[["_Line"], None]) -> None:
        """Open it; ``over`` is called, by the event loop, once that makes no more sense."""
        self.uuid = uuid
        self._idle_milliseconds = idle_milliseconds
        self._over = over
        self._connection = libvirt.open(uri)
        self._connection.setKeepAlive(_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT)
        self._stream = self._connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
        self._connection.lookupByUUIDString(uuid).openConsole(None, self._stream, 0)
        self._stream.eventAddCallback(libvirt.VIR_STREAM_EVENT_READABLE | _ENDED, self._hear, None)
        self._timer = libvirt.virEventAddTimeout(idle_milliseconds, lambda *_: over(self), None)

    def send(self, data: bytes) -> None:
        """Write, and be in use again. :raises libvirtError:"""
        libvirt.virEventUpdateTimeout(self._timer, self._idle_milliseconds)
        if not self._connection.isAlive():
            raise libvirt.libvirtError("libvirtd has gone away")
        while data:
            sent = self._stream.send(data)
            if sent < 0:
                raise libvirt.libvirtError("the guest does not read what was sent before")
            data = data[sent:]

    def close(self) -> None:
        """Close it, if it is not closed yet."""
        libvirt.virEventRemoveTimeout(self._timer)
        with suppress(libvirt.libvirtError):
            self._stream.eventRemoveCallback()
        with suppress(libvirt.libvirtError):
            self._stream.abort()
        with suppress(libvirt.libvirtError):
            self._connection.close()

    def _hear(self, stream: libvirt.virStream, events: int, _opaque: object) -> None:
        # What the guest writes is in its log too; if nobody took it here, the guest would wait for that.
        try:
            while isinstance(piece := stream.recv(_PIECE_BYTES), bytes) and piece:
                pass
            ended = events & _ENDED or piece == b""
        except libvirt.libvirtError:
            ended = True
        if ended:
            self._over(self)


def _reason(error: libvirt.libvirtError) -> str:
    if error.get_error_code() == libvirt.VIR_ERR_OPERATION_FAILED:
        return f"somebody may have the console open by other means, such as virsh console: {error}"
    return str(error)
