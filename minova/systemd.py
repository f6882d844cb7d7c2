"""What systemd is told of a daemon: that it serves, lives, reads its configuration again, stops. See sd_notify(3)."""

import logging
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, MutableMapping

LOG = logging.getLogger(__name__)

BEAT_SECONDS = 1.0
"""How often a worker shows that it is alive."""


class Notifier:
    """Sends messages to the service manager that has started this process."""

    def __init__(self, address: str, watchdog: float | None = None) -> None:
        """Send to a socket, ``@`` standing for one without a file; ``watchdog``: seconds of silence that it bears."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self.watchdog = watchdog

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> "Notifier | None":
        """Return what tells the service manager, if there is one.

        It is taken out of the environment: cotyledon would say at once that all is ready, and a hypervisor's or other
        child's messages are not the service's.
        """
        address, usec, pid = (environ.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
        if not address:
            return None
        is_watched = usec.isdigit() and pid in ("", str(os.getpid()))
        return cls(address, int(usec) / 1_000_000 if is_watched else None)

    def tell(self, **fields: object) -> None:
        """Send one message of ``NAME=value`` lines."""
        message = "\n".join(f"{name}={value}" for name, value in fields.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto(message.encode(), self._address)
            except OSError as error:
                LOG.warning("systemd was not told %s: %s", message, error)


class Pulse:
    """What a master and its workers tell each other: memory that they share, of which each writes its own part."""

    def __init__(self, workers: int) -> None:
        self._beats = multiprocessing.RawArray("d", workers)
        self._serving = multiprocessing.RawArray("b", workers)
        self._reloads = multiprocessing.RawArray("L", workers)
        self._asked = multiprocessing.RawValue("L")

    def beat(self, worker: int, serving: bool) -> None:
        """Show that a worker is alive, and whether it serves."""
        self._serving[worker] = serving
        self._beats[worker] = time.monotonic()

    def ask_for_reload(self) -> None:
        """Have all workers read the configuration again."""
        self._asked.value += 1

    def follow(self, worker: int, reload: Callable[[], None]) -> None:
        """Call ``reload`` if a worker has been asked for that since it last did it, however often."""
        asked = self._asked.value
        if self._reloads[worker] != asked:
            reload()
            self._reloads[worker] = asked

    def start_again(self, worker: int) -> None:
        """Note that a worker has died and another is about to take its place, with the master's configuration."""
        self._serving[worker] = False
        self._beats[worker] = 0.0
        self._reloads[worker] = self._asked.value

    def all_serve(self) -> bool:
        """Return whether each worker serves, with the newest configuration."""
        return all(self._serving) and all(reloads == self._asked.value for reloads in self._reloads)

    def all_live(self, seconds: float) -> bool:
        """Return whether each worker has shown within so many seconds that it is alive, once it has begun to.

        A worker that starts may have to wait for a broker or a database; the others must not suffer for that.
        """
        earliest = time.monotonic() - seconds
        return all(beat == 0.0 or beat > earliest for beat in self._beats)


class Vigil:
    """Keeps systemd informed of the workers, from a thread of the master's."""

    def __init__(self, notifier: Notifier, pulse: Pulse) -> None:
        self._notifier = notifier
        self.pulse = pulse
        self._ready = False
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to look after the workers."""
        threading.Thread(target=self._watch, name="systemd", daemon=True).start()

    def reload(self) -> None:
        """Say that the configuration is read again; that this is done, :meth:`look` will say."""
        self._notifier.tell(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
        self._ready = False

    def stop(self) -> None:
        """Say that the service stops."""
        self._stopping.set()
        self._notifier.tell(STOPPING=1, STATUS="finishing what runs")

    def look(self) -> None:
        """Tell what there is to tell now.

        A worker that hangs is not told of, and systemd starts the service anew. One that has died is not held against
        the service: another takes its place.
        """
        if not self._ready and self.pulse.all_serve():
            self._ready = True
            self._notifier.tell(READY=1, STATUS="serving")
        if self._notifier.watchdog is not None and self.pulse.all_live(self._notifier.watchdog):
            self._notifier.tell(WATCHDOG=1)

    def _watch(self) -> None:
        self._notifier.tell(STATUS="starting")
        interval = min(BEAT_SECONDS, (self._notifier.watchdog or BEAT_SECONDS) / 3)
        while not self._stopping.wait(interval):
            self.look()
