"""The receiving side: what is exposed, and the one wrapper around every dispatch."""

import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import oslo_messaging
from oslo_messaging.rpc import dispatcher, server

from minova import failpoints
from minova.context import FreshContextPool, RequestContext
from minova.exception import InvalidInput, MinovaError, ServiceFault
from minova.rpc.inspection import MessageRefused, check_message, typed_arguments
from minova.rpc.serializer import Serializer

LOG = logging.getLogger(__name__)

_Method = TypeVar("_Method", bound=Callable[..., Any])


def expose(method: _Method) -> _Method:
    """Mark an endpoint's method as one that peers may call; all others are out of their reach."""
    oslo_messaging.expose(method)
    return method


def get_server(
    transport: oslo_messaging.Transport, topic: str, host: str, endpoints: Sequence[object]
) -> server.RPCServer:
    """Return a server that takes messages for ``topic``, and for ``topic`` on ``host``, to ``endpoints``."""
    target = oslo_messaging.Target(topic=topic, server=host)
    served = Dispatcher(endpoints, f"{topic}:{host}", transport.conf.rpc.max_message_size)
    return _Server(transport, target, served)


class _Server(server.RPCServer):  # type: ignore[misc]  # oslo.messaging has no types
    """oslo.messaging's, with the standard library's thread pool: futurist's takes up to a second to shut down."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._executor_cls = FreshContextPool

    def _process_incoming(self, incoming: Any) -> None:
        _tap_reply(incoming[0], self._target.topic)
        super()._process_incoming(incoming)


class Dispatcher(dispatcher.RPCDispatcher):  # type: ignore[misc]  # oslo.messaging has no types
    """Inspects, logs and times every message, and decides what an error becomes.

    An error of minova's own is an answer: it goes back by its type. Any other is a fault: its traceback is logged here,
    and the caller gets a :class:`~minova.exception.ServiceFault` that tells where to look. A message that no client
    sends is refused before anything is done with it, and leaves one line in the log.
    """

    def __init__(self, endpoints: Sequence[object], service: str, max_size: int) -> None:
        super().__init__(list(endpoints), Serializer(), oslo_messaging.ExplicitRPCAccessPolicy)
        self._service = service
        self._topic = service.partition(":")[0]
        self._max_size = max_size

    def dispatch(self, incoming: Any) -> Any:
        """Run the endpoint's method for one message and return its result."""
        try:
            check_message(incoming.message, incoming.ctxt, incoming.client_timeout, self._max_size)
            self._require_served(incoming.message)
        except MessageRefused as error:
            self._refuse(error)
        except (dispatcher.NoSuchMethod, oslo_messaging.UnsupportedVersion) as error:
            LOG.error("%s: message refused: %s", self._service, error)
            self._raise_fault(incoming, error)
        return self._dispatch(incoming)

    def _dispatch(self, incoming: Any) -> Any:
        method, started = incoming.message["method"], time.perf_counter()
        try:
            result = super().dispatch(incoming)
        except MessageRefused as error:
            self._refuse(error)
        except MinovaError as error:
            LOG.info("%s: %s refused: %s", self._service, method, error.message)
            raise dispatcher.ExpectedException from error
        except Exception as error:
            LOG.exception("%s: %s failed", self._service, method)
            self._raise_fault(incoming, error)
        LOG.debug("%s: %s took %.1f ms", self._service, method, (time.perf_counter() - started) * 1000)
        return result

    def _do_dispatch(self, endpoint: object, method: str, ctxt: dict[str, Any], args: dict[str, Any]) -> Any:
        """Run one endpoint's method: as oslo.messaging does, and check the types of the arguments."""
        context = self.serializer.deserialize_context(ctxt)
        typed = typed_arguments(getattr(type(endpoint), method), self._objects(context, args))
        failpoints.before("dispatch", f"{self._topic}.{method}")
        answer = getattr(endpoint, method)(context, **typed)
        failpoints.after("dispatch", f"{self._topic}.{method}")
        return self.serializer.serialize_entity(context, answer)

    def _objects(self, ctxt: RequestContext, args: dict[str, Any]) -> dict[str, Any]:
        try:
            return {name: self.serializer.deserialize_entity(ctxt, value) for name, value in args.items()}
        except InvalidInput as error:
            raise MessageRefused(error.message) from None

    def _require_served(self, message: dict[str, Any]) -> None:
        """Check that there is such a method.

        oslo.messaging finds out too, but leaves a thread behind that tells the caller for ever that it is at work.

        :raises NoSuchMethod: there is not, or it is not exposed.
        :raises UnsupportedVersion: there is no such namespace, or not in this version.
        """
        method, version = message["method"], message.get("version", "1.0")
        targets = [(endpoint, getattr(endpoint, "target", self._default_target)) for endpoint in self.endpoints]
        serving = [
            endpoint
            for endpoint, target in targets
            if self._is_namespace(target, message.get("namespace")) and self._is_compatible(target, version)
        ]
        if not serving:
            raise oslo_messaging.UnsupportedVersion(version, method=method)
        if not any(hasattr(each, method) and self.access_policy.is_allowed(each, method) for each in serving):
            raise dispatcher.NoSuchMethod(method)

    def _refuse(self, error: MessageRefused) -> NoReturn:
        LOG.error("%s: message refused: %s", self._service, error)
        _answer(InvalidInput(reason=f"the message was refused: {error}"))

    def _raise_fault(self, incoming: Any, error: Exception) -> NoReturn:
        _answer(
            ServiceFault(
                service=self._service,
                method=incoming.message["method"],
                kind=type(error).__name__,
                reason=str(error),
                request_id=str(incoming.ctxt.get("request_id")),
            )
        )


def _tap_reply(message: Any, topic: str) -> None:
    """Have the answer to a message pass its failpoints, if somebody waits for it."""
    if failpoints.active() and getattr(message, "orig_msg_id", None):
        name, reply = f"{topic}.{message.message.get('method')}", message.reply

        def send(*args: Any, **kwargs: Any) -> None:
            again = functools.partial(reply, *args, **kwargs)
            failpoints.message("reply", name, again, again, lambda: None)

        message.reply = send


def _answer(error: MinovaError) -> NoReturn:
    """Send an error back; it is taken from sys.exc_info(), and oslo.messaging logs all but this kind once more."""
    try:
        raise error from None
    except MinovaError:
        raise dispatcher.ExpectedException from None
