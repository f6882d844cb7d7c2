"""The sending side: notifications leave by a thread of its own, so that nobody ever waits for them."""

import fnmatch
import logging
import queue
import threading

import oslo_messaging
from oslo_config import cfg

from minova.exception import ConfigurationError
from minova.notifications.catalogue import CATALOGUE, Notification
from minova.objects.wire import to_wire

LOG = logging.getLogger(__name__)

GROUP = "oslo_messaging_notifications"
OFF, BROKER = "noop", "messagingv2"
DRIVERS = (BROKER, "log", OFF)
"""oslo.messaging's drivers that make sense here; none at all is as good as ``noop``."""


def check(conf: cfg.ConfigOpts) -> None:
    """Check what is configured about notifications.

    :raises ConfigurationError: a driver does not exist, no topic is named, a pattern means no event, or the URL of the
        transport cannot be used.
    """
    for name in conf[GROUP].driver:
        if name not in DRIVERS:
            _refuse(f"[{GROUP}] driver = {name}: there are: {', '.join(DRIVERS)}")
    if BROKER in conf[GROUP].driver and not conf[GROUP].topics:
        _refuse(f"[{GROUP}] topics has no value: the notifications would go nowhere")
    for pattern in conf.notifications.event_types:
        if not matching(pattern):
            _refuse(f"[notifications] event_types: {pattern} means no event; docs/notifications.md has all")
    get_transport(conf)


def matching(pattern: str) -> frozenset[str]:
    """Return the types of the events that a pattern with ``*`` and ``?`` means."""
    return frozenset(name for name in CATALOGUE if fnmatch.fnmatchcase(name, pattern))


def get_transport(conf: cfg.ConfigOpts) -> oslo_messaging.Transport:
    """Return the transport of the notifications: that of the RPC, unless they have one of their own.

    :raises ConfigurationError: its URL cannot be used.
    """
    try:
        return oslo_messaging.get_notification_transport(conf)
    except (oslo_messaging.InvalidTransportURL, oslo_messaging.DriverLoadFailure, ValueError) as error:
        # The error quotes the URL, and the URL may hold a password.
        reason = f"{url_option(conf)} cannot be used ({type(error).__name__})"
        raise ConfigurationError(reason=f"{reason}; it looks like rabbit://user:pass@host:5672/") from None


def url_option(conf: cfg.ConfigOpts) -> str:
    """Return the name of the option that the URL of the notifications' broker comes from."""
    return f"[{GROUP}] transport_url" if conf[GROUP].transport_url else "[DEFAULT] transport_url"


def _refuse(reason: str) -> None:
    raise ConfigurationError(reason=reason)


class Notifier:
    """Sends notifications as well as it can: whatever goes wrong, no operation notices. Actions are the record."""

    def __init__(self, conf: cfg.ConfigOpts, publisher_id: str) -> None:
        """Send as ``publisher_id``, such as ``minova-conductor:host``; nothing is sent before :meth:`start`.

        :raises ConfigurationError: as :func:`check` and :func:`get_transport`.
        """
        check(conf)
        self._wanted = frozenset[str]().union(*(matching(pattern) for pattern in conf.notifications.event_types))
        self._room: int = conf.notifications.queue_size
        self._drain_timeout: float = conf.notifications.drain_timeout
        self._queue: queue.SimpleQueue[Notification | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._dropped = 0
        self._thread: threading.Thread | None = None
        self._notifier: oslo_messaging.Notifier | None = None
        if set(conf[GROUP].driver) - {OFF}:
            self._notifier = oslo_messaging.Notifier(get_transport(conf), publisher_id)

    def start(self) -> None:
        """Begin to send, if there is anywhere to send to."""
        if self._notifier is not None:
            # It may be waiting for a broker that never comes back, and must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="notifications", daemon=True)
            self._thread.start()

    def send(self, notification: Notification) -> None:
        """Have a notification sent soon; if too many wait already, it is dropped."""
        if self._thread is None or notification.event_type not in self._wanted:
            return
        if self._queue.qsize() < self._room:
            self._queue.put(notification)
        else:
            self._drop()

    def stop(self) -> None:
        """Send what waits, for as long as ``drain_timeout`` allows; what is left then is lost."""
        if self._thread is None:
            return
        self._queue.put(None)
        self._thread.join(self._drain_timeout)
        if self._thread.is_alive():
            lost = self._queue.qsize() + self._dropped
            LOG.warning("Notifications that could not be sent in time are lost: %d", lost)
        self._thread = None

    def _run(self) -> None:
        for notification in iter(self._queue.get, None):
            self._publish(notification)
            if self._queue.empty():
                self._tell_dropped()
        self._tell_dropped()

    def _publish(self, notification: Notification) -> None:
        try:
            # oslo.messaging has a method for each priority, and logs what its drivers cannot send.
            publish = getattr(self._notifier, notification.priority)
            publish({}, notification.event_type, to_wire(notification.payload))
        except Exception:
            LOG.exception("Notification %s was not sent", notification.event_type)

    def _drop(self) -> None:
        with self._lock:
            self._dropped += 1
            first = self._dropped == 1
        if first:
            LOG.warning("Notifications are dropped: %d wait already, and cannot be sent", self._room)

    def _tell_dropped(self) -> None:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            LOG.warning("Notifications that were dropped: %d; those that waited are sent", dropped)
