"""The queues of a service at the broker: whether those that exist are such as the configuration asks for.

The type of a queue cannot be changed. A server that meets one of another type fails, and would fail again for ever.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_messaging._drivers.common import PURPOSE_LISTEN, PURPOSE_SEND

from minova.broker import why_unreachable
from minova.exception import BrokerUnreachable, ConfigurationError
from minova.rpc.transport import get_transport

_NOT_FOUND, _PRECONDITION_FAILED = 404, 406
"""Codes of AMQP."""


def require_queues(conf: cfg.ConfigOpts, topic: str, host: str) -> None:
    """Make the queues of a server, or see that they are what it needs; wait for the broker as long as it takes.

    :raises ConfigurationError: the broker has other queues of these names.
    :raises BrokerUnreachable: the broker refuses us.
    """
    with _connected(conf, retry=None) as connection:
        for queue in (topic, f"{topic}.{host}"):
            _declare(conf, connection, queue)


def check_queues(conf: cfg.ConfigOpts, queues: Sequence[str]) -> None:
    """Look at queues, and make none.

    :raises ConfigurationError: the broker has other queues of these names.
    :raises BrokerUnreachable: the broker is not there, or refuses us.
    """
    with _connected(conf, retry=0) as connection:
        for queue in queues:
            if _exists(connection, queue):
                _declare(conf, connection, queue)


@contextmanager
def _connected(conf: cfg.ConfigOpts, retry: int | None) -> Iterator[Any]:
    """Connect as oslo.messaging does; ``retry`` is how often to try again, None: for ever."""
    transport: oslo_messaging.Transport = get_transport(conf)
    try:
        # Private, but the one that knows all about URLs, TLS and failover, and how queues are declared.
        connect = transport._driver._get_connection
        # This kind alone can be told not to try for ever, but a thread sends heartbeats on it; the other is ours.
        with connect(PURPOSE_SEND, retry=retry), connect(PURPOSE_LISTEN) as context:
            yield context.connection
    except ConfigurationError:
        raise
    except Exception as error:
        raise BrokerUnreachable(reason=why_unreachable(error), option="[DEFAULT] transport_url") from None
    finally:
        transport.cleanup()


def _exists(connection: Any, queue: str) -> bool:
    try:
        # The broker closes the channel in which something is not found.
        connection.connection.channel().queue_declare(queue, passive=True)
    except connection.connection.channel_errors as error:
        if error.code == _NOT_FOUND:
            return False
        raise
    return True


def _declare(conf: cfg.ConfigOpts, connection: Any, queue: str) -> None:
    """Declare a queue just as a server does, which changes nothing if it is there already."""
    consumers: list[Any] = []
    # The driver's own would log each refusal in lines of its own, and hide what kind of error it was.
    connection.declare_consumer = consumers.append
    connection.declare_topic_consumer(conf.control_exchange, queue)
    try:
        consumers[0].declare(connection)
    except connection.connection.channel_errors as error:
        if error.code != _PRECONDITION_FAILED:
            raise
        wanted = conf.oslo_messaging_rabbit.rabbit_quorum_queue
        option = "[oslo_messaging_rabbit] rabbit_quorum_queue"
        reason = (
            f"the broker has queue {queue}, or its exchange, of another type than {option} = {str(wanted).lower()} "
            f"makes ({error.reply_text}): set it to {str(not wanted).lower()} until all services are upgraded, or stop "
            "all services and delete the old queues as docs/upgrading.md says"
        )
        raise ConfigurationError(reason=reason) from None
