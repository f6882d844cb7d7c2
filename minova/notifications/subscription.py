"""The listening side of a command that only looks on: it takes nothing from anybody, and leaves nothing behind."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import kombu
import msgspec
import oslo_messaging
from kombu.mixins import ConsumerMixin
from oslo_config import cfg
from oslo_messaging._drivers.common import PURPOSE_SEND

from minova.broker import why_unreachable
from minova.exception import BrokerUnreachable, ConfigurationError
from minova.notifications.catalogue import Priority
from minova.notifications.notifier import BROKER, GROUP, check, get_transport, url_option

LOG = logging.getLogger(__name__)

MAX_WAITING = 10000
"""Messages that the broker keeps for a reader who is slow; older ones are dropped then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A notification as it came; the payload may be of a version, or a publisher, that is not known here."""

    timestamp: str
    priority: str
    publisher_id: str
    event_type: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Broker:
    """How oslo.messaging reaches the broker, and what it declares there."""

    connection: kombu.Connection
    exchange: kombu.Exchange


def require_on(conf: cfg.ConfigOpts) -> None:
    """Check that there may be something to see.

    :raises ConfigurationError: notifications are off, or cannot be seen from outside of the process that sends them.
    """
    check(conf)
    options, how = conf[GROUP], f"set [{GROUP}] driver = {BROKER} for the conductors, and restart them"
    if BROKER not in options.driver:
        told = ", ".join(options.driver) or "nothing"
        raise ConfigurationError(reason=f"notifications are not sent to the broker (driver = {told}): {how}")
    if str(options.transport_url or conf.transport_url).startswith("fake:"):
        raise ConfigurationError(
            reason="notifications on fake:// cannot leave the process that sends them, so nobody else's can be seen: "
            "set [DEFAULT] transport_url = rabbit://user:password@host:5672/ and start the daemons"
        )


class Subscription(ConsumerMixin):  # type: ignore[misc]  # kombu has no types
    """All notifications from now on, in a queue of its own that goes when the connection does.

    oslo.messaging's listeners have queues that stay: with a pool of its own, each listener would leave one behind that
    fills up for ever.
    """

    should_stop: bool

    def __init__(self, conf: cfg.ConfigOpts, notify: Callable[[str], None]) -> None:
        """Reach the broker; ``notify`` is told when the listening begins, and when the connection was lost.

        :raises ConfigurationError: as :func:`require_on`.
        :raises BrokerUnreachable: the broker is not there.
        """
        require_on(conf)
        self._topics: list[str] = conf[GROUP].topics
        self._notify = notify
        self._arrived: deque[Message] = deque()
        self._listens = False
        broker = _reach(conf)
        self.connection, self._exchange = broker.connection, broker.exchange

    def __iter__(self) -> Iterator[Message]:
        """Yield one message after the other, until it is stopped; what is sent without a connection is missed."""
        while not self.should_stop:
            try:
                for _ in self.consume():
                    while self._arrived:
                        yield self._arrived.popleft()
            except (*self.connection.connection_errors, *self.connection.channel_errors) as error:
                self._listens = False
                self._notify(f"the connection to the broker was lost ({type(error).__name__}); trying again…")

    def interrupt(self, *_signal: object) -> None:
        """End within a second: a handler for Ctrl-C.

        An exception in the midst of reading from the broker would lose a piece of what that says. Its answer to the
        farewell would not be understood any more, and be waited for for ever.

        :raises KeyboardInterrupt: nothing is being read, or it is not the first time.
        """
        if self.should_stop or not self._listens:
            raise KeyboardInterrupt
        self.should_stop = True

    def get_consumers(self, make: Callable[..., kombu.Consumer], _channel: Any) -> list[kombu.Consumer]:
        """Return what consumes: one queue for all topics and priorities."""
        keys = [f"{topic}.{priority}" for topic in self._topics for priority in Priority]
        queue = kombu.Queue(
            f"minova-manage_watch_{uuid4().hex}",
            bindings=[kombu.binding(self._exchange, key) for key in keys],
            durable=False,
            exclusive=True,
            auto_delete=True,
            max_length=MAX_WAITING,
        )
        return [make(queues=[queue], callbacks=[self._take], accept=["json"], no_ack=True)]

    def on_consume_ready(self, *_args: Any, **_more: Any) -> None:
        """Say that nothing is missed any more."""
        self._listens = True
        self._notify(f"watching {', '.join(self._topics)} on exchange {self._exchange.name}; Ctrl-C ends it")

    def on_connection_error(self, exc: Exception, interval: float) -> None:
        """Leave it at what was said when the connection was lost."""
        LOG.info("The broker is still away: %s; next look in %s s", type(exc).__name__, interval)

    def _take(self, body: Any, _message: Any) -> None:
        try:
            self._arrived.append(msgspec.json.decode(body["oslo.message"], type=Message))
        except (KeyError, TypeError, msgspec.MsgspecError):
            LOG.warning("A message that is no notification was left out")


def _reach(conf: cfg.ConfigOpts) -> _Broker:
    transport: oslo_messaging.Transport = get_transport(conf)
    try:
        # Private, but the one that knows all about URLs, TLS and failover, and how the exchange was declared.
        with transport._driver._get_connection(PURPOSE_SEND, retry=0) as context:
            ours = context.connection
            exchange = kombu.Exchange(
                conf.control_exchange, "topic", durable=ours.durable, auto_delete=ours.amqp_auto_delete
            )
            return _Broker(ours.connection.clone(), exchange)
    except Exception as error:
        raise BrokerUnreachable(reason=why_unreachable(error), option=url_option(conf)) from None
    finally:
        transport.cleanup()
