"""The lease of a host: for how long its compute may begin work without being heard."""

from collections.abc import Callable

from oslo_config import cfg

from minova.clock import uptime


class HostLease:
    """The leave to begin work: each report that a conductor takes renews it for ``service_down_time``.

    Guests of a host are made anew elsewhere only after it was silent for that long, which conductors count from when
    they take a report. The host counts from when it begins to make one, by a clock of its own: so whatever was in
    between, its lease has run out before anybody may do without it.
    """

    def __init__(self, conf: cfg.ConfigOpts, clock: Callable[[], float] = uptime) -> None:
        """Begin without one. ``clock`` tells seconds, and never goes back."""
        self._conf = conf
        self._clock = clock
        self._renewed_at: float | None = None

    def now(self) -> float:
        """Return the time of its clock, in seconds."""
        return self._clock()

    @property
    def holds(self) -> bool:
        """Whether work may begin now."""
        return self._renewed_at is not None and self.now() - self._renewed_at < self._conf.service_down_time

    def renew(self, made_at: float) -> None:
        """Renew it by a report that a conductor has taken, and that began to be made at ``made_at``."""
        self._renewed_at = made_at

    def revoke(self) -> None:
        """Let it run out now: an operator vouches for the host's being off."""
        self._renewed_at = None
