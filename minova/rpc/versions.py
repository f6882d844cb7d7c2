"""Versions of RPC interfaces as data, and the pins that hold clients back during an upgrade."""

from collections.abc import Callable
from dataclasses import dataclass, field

from oslo_config import cfg

from minova.exception import ConfigurationError
from minova.objects import Pin


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One version of an RPC interface.

    :ivar methods: the methods that it added.
    :ivar arguments: the (method, argument) pairs that it added to methods that were there.
    """

    version: str
    summary: str
    methods: tuple[str, ...] = ()
    arguments: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """All versions of one interface, oldest first."""

    releases: tuple[Release, ...]
    since: dict[str, str] = field(init=False)
    """Method to the version that added it."""

    def __post_init__(self) -> None:
        methods = {name: release.version for release in self.releases for name in release.methods}
        object.__setattr__(self, "since", methods)

    @property
    def version(self) -> str:
        """The newest version."""
        return self.releases[-1].version


def parse(version: str) -> tuple[int, int]:
    """Return ``"1.2"`` as ``(1, 2)``, which compares as versions do."""
    major, minor = version.split(".")
    return int(major), int(minor)


def serves(peer: str, needed: str) -> bool:
    """Return whether a peer of version ``peer`` understands a message of version ``needed``."""
    (peer_major, peer_minor), (major, minor) = parse(peer), parse(needed)
    return peer_major == major and peer_minor >= minor


def check_level(conf: cfg.ConfigOpts, topic: str, history: History) -> None:
    """Check that ``[upgrade_levels]`` holds a topic at a version that exists.

    :raises ConfigurationError: it does not.
    """
    level, known = conf.upgrade_levels[topic], [release.version for release in history.releases]
    if level != "auto" and level not in known:
        choices = ", ".join(["auto", *known])
        raise ConfigurationError(reason=f"[upgrade_levels] {topic} = {level}: no such version; choose one of {choices}")


LowestVersion = Callable[[str], tuple[str, str] | None]
"""Given a topic: the lowest version that a live service of it reports, and that service's host; None: none is live."""


class Pins:
    """The pins of one process: resolved once for each topic, and again after :meth:`reset`; :meth:`sink` lowers."""

    def __init__(self, conf: cfg.ConfigOpts, lowest: LowestVersion) -> None:
        """Take the levels from ``[upgrade_levels]`` and, where one is ``auto``, from ``lowest``."""
        self._conf = conf
        self._lowest = lowest
        self._newest: dict[str, str] = {}
        self._resolved: dict[str, Pin] = {}

    def expect(self, topic: str, newest: str) -> None:
        """Have :meth:`sink` look after ``topic``; ``newest`` is the newest version that we know."""
        self._newest[topic] = newest

    def pin(self, topic: str, newest: str) -> Pin:
        """Return the version at which messages to ``topic`` are held; ``newest`` is the newest that we know."""
        if topic not in self._resolved:
            pin, lasts = self._resolve(topic, newest)
            if not lasts:
                return pin
            self._resolved[topic] = pin
        return self._resolved[topic]

    def reset(self) -> None:
        """Forget what was resolved: what has been upgraded since will count."""
        self._resolved.clear()

    def sink(self) -> None:
        """Lower the pins at once if older peers have come: what these do not know must not be sent to them.

        To be done again and again. A pin rises at :meth:`reset` only, when the operator says that all are upgraded.
        """
        for topic, newest in self._newest.items():
            pin = self.pin(topic, newest)
            if self._conf.upgrade_levels[topic] == "auto":
                lower, _lasts = self._resolve(topic, pin.version)
                if lower.version != pin.version:
                    self._resolved[topic] = lower

    def in_force(self) -> tuple[Pin, ...]:
        """Return what was resolved so far."""
        return tuple(self._resolved.values())

    def _resolve(self, topic: str, newest: str) -> tuple[Pin, bool]:
        level = self._conf.upgrade_levels[topic]
        if level != "auto":
            return Pin(topic=topic, version=level, reason=f"[upgrade_levels] {topic} = {level}"), True
        lowest = self._lowest(topic)
        if lowest is None:
            return Pin(topic=topic, version=newest, reason="no live service is known"), False
        version, host = lowest
        if parse(version) >= parse(newest):
            return Pin(topic=topic, version=newest, reason="all live services are as new"), True
        return Pin(topic=topic, version=version, reason=f"host {host}"), True
