"""Whether a conductor hears the others, and since when: what it cannot hear, or write down, is nobody's silence."""

import threading
from collections.abc import Callable

from oslo_config import cfg

from minova.clock import uptime
from minova.objects import utcnow


class Listening:
    """Knows of the gaps in which this conductor could not hear, or could not write down what it heard.

    It has to be told often that broker and database are known to work; nothing for longer than a lease is a gap.
    """

    def __init__(self, conf: cfg.ConfigOpts, clock: Callable[[], float] = uptime) -> None:
        """Listen from now on. ``clock`` tells seconds, and never goes back."""
        self._conf = conf
        self._clock = clock
        self._lock = threading.Lock()
        self._heard_at = self._stored_at = clock()
        self.since = utcnow()
        """When the last gap ended, or the conductor began."""

    def heard(self) -> None:
        """Note that a message has come through the broker."""
        with self._lock:
            self._heard_at = self._note(self._heard_at)

    def stored(self) -> None:
        """Note that the database has taken something: it may refuse that while it still answers."""
        with self._lock:
            self._stored_at = self._note(self._stored_at)

    def is_deaf(self) -> bool:
        """Return whether nothing came through the broker for longer than a lease."""
        return self._is_gap(self._heard_at, self._clock())

    def is_cut_off(self) -> bool:
        """Return whether that is so, or the database took nothing for as long."""
        return self.is_deaf() or self._is_gap(self._stored_at, self._clock())

    def _note(self, before: float) -> float:
        now = self._clock()
        if self._is_gap(before, now):
            self.since = utcnow()
        return now

    def _is_gap(self, before: float, now: float) -> bool:
        return bool(now - before > self._conf.conductor.lease)
