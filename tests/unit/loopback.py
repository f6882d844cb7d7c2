"""A transport that takes each message to its dispatcher at once: no threads, no polling, and JSON all the same."""

import json
from dataclasses import dataclass, field
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_messaging._drivers import base, common
from oslo_messaging.rpc import dispatcher
from oslo_messaging.transport import RPCTransport

from minova.exception import EXCHANGED_MODULES
from minova.rpc.server import Dispatcher


@dataclass(frozen=True)
class Sent:
    """One message that a client sent."""

    topic: str
    server: str | None
    call: bool
    timeout: float | None
    monitor: int | None
    fanout: bool
    ctxt: dict[str, Any]
    message: dict[str, Any]

    @property
    def args(self) -> dict[str, Any]:
        return dict(self.message["args"])


@dataclass
class Incoming:
    """As much of an incoming message as a dispatcher looks at."""

    ctxt: dict[str, Any]
    message: dict[str, Any]
    client_timeout: float = 0


@dataclass
class Loopback:
    """Delivers to the dispatchers that were added; a call that nobody serves times out at once."""

    conf: cfg.ConfigOpts
    dispatchers: dict[str, Dispatcher] = field(default_factory=dict)
    sent: list[Sent] = field(default_factory=list)

    @property
    def transport(self) -> RPCTransport:
        return RPCTransport(self)

    def serve(self, topic: str, *endpoints: object) -> None:
        self.dispatchers[topic] = Dispatcher(endpoints, f"{topic}:here", self.conf.rpc.max_message_size)

    def require_features(self, requeue: bool = False) -> None:
        base.BaseDriver.require_features(self, requeue)

    def send(
        self,
        target: oslo_messaging.Target,
        ctxt: dict[str, Any],
        message: dict[str, Any],
        wait_for_reply: bool | None = None,
        timeout: float | None = None,
        call_monitor_timeout: int | None = None,
        **_options: Any,
    ) -> Any:
        ctxt, message = json.loads(json.dumps([ctxt, message]))
        sent = Sent(
            topic=target.topic,
            server=target.server,
            call=bool(wait_for_reply),
            timeout=timeout,
            monitor=call_monitor_timeout,
            fanout=bool(target.fanout),
            ctxt=ctxt,
            message=message,
        )
        self.sent.append(sent)
        if target.topic in self.dispatchers:
            return self._dispatch(self.dispatchers[target.topic], Incoming(ctxt, message))
        if wait_for_reply:
            raise oslo_messaging.MessagingTimeout
        return None

    def _dispatch(self, served: Dispatcher, incoming: Incoming) -> Any:
        try:
            return json.loads(json.dumps(served.dispatch(incoming)))
        except dispatcher.ExpectedException as error:
            failure = common.serialize_remote_exception(error.exc_info)
        raise common.deserialize_remote_exception(failure, EXCHANGED_MODULES)
