"""A caller whose queue of answers is away for a while, as after a restart of the broker."""

import json
from collections.abc import Callable

import kombu

from tests.fixtures.services.program import wait_for
from tests.fixtures.site import Site

REPLY_QUEUE = "reply_of_a_caller_that_comes_back"


def ask(producer: kombu.Producer) -> None:
    """Send what oslo.messaging sends for a call of ``ping``."""
    asked = {
        "method": "ping",
        "args": {},
        "namespace": "control",
        "version": "1.0",
        "_msg_id": "1",
        "_reply_q": REPLY_QUEUE,
        "_timeout": None,
    }
    body = json.dumps({"oslo.version": "2.0", "oslo.message": json.dumps(asked)})
    producer.publish(body, routing_key="conductor", content_type="application/json", content_encoding="utf-8")


def test_caller_whose_queue_comes_back_is_answered_again_at_once(make_site: Callable[..., Site]) -> None:
    site = make_site("[oslo_messaging_rabbit]\nkombu_missing_consumer_retry_timeout = 1\n")
    conductor = site.add_conductor()
    site.wait_until_up()
    with kombu.Connection(site.transport_url.replace("rabbit://", "amqp://", 1)) as connection:
        producer = connection.Producer()
        ask(producer)
        site.wait_for(lambda: f"missing queue ({REPLY_QUEUE})" in conductor.log.read_text(), "an answer is given up")
        queue = kombu.Queue(REPLY_QUEUE, exclusive=True, channel=connection.default_channel)
        queue.declare()

        def is_answered() -> bool:
            ask(producer)
            return queue.get(no_ack=True) is not None

        wait_for(is_answered, "an answer", 30)
