"""The receiving side: what is exposed, and the one wrapper around every dispatch."""

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import oslo_messaging
from oslo_messaging.rpc import dispatcher, server

from minova.exception import MinovaError, ServiceFault
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
    return _Server(transport, target, Dispatcher(endpoints, f"{topic}:{host}"))


class _Server(server.RPCServer):  # type: ignore[misc]  # oslo.messaging has no types
    """oslo.messaging's, with the standard library's thread pool: futurist's takes up to a second to shut down."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._executor_cls = ThreadPoolExecutor


class Dispatcher(dispatcher.RPCDispatcher):  # type: ignore[misc]  # oslo.messaging has no types
    """Logs and times every message, and decides what an error becomes.

    An error of minova's own is an answer: it goes back by its type. Any other is a fault: its traceback is logged here,
    and the caller gets a :class:`~minova.exception.ServiceFault` that tells where to look.
    """

    def __init__(self, endpoints: Sequence[object], service: str) -> None:
        super().__init__(list(endpoints), Serializer(), oslo_messaging.ExplicitRPCAccessPolicy)
        self._service = service

    def dispatch(self, incoming: Any) -> Any:
        """Run the endpoint's method for one message and return its result."""
        method = str(incoming.message.get("method"))
        started = time.perf_counter()
        try:
            result = super().dispatch(incoming)
        except MinovaError as error:
            LOG.info("%s: %s refused: %s", self._service, method, error.message)
            raise dispatcher.ExpectedException from error
        except Exception as error:
            LOG.exception("%s: %s failed", self._service, method)
            self._raise_fault(incoming, method, error)
        LOG.debug("%s: %s took %.1f ms", self._service, method, (time.perf_counter() - started) * 1000)
        return result

    def _raise_fault(self, incoming: Any, method: str, error: Exception) -> None:
        request_id = str(incoming.ctxt.get("request_id"))
        try:
            raise ServiceFault(
                service=self._service,
                method=method,
                kind=type(error).__name__,
                reason=str(error),
                request_id=request_id,
            ) from None
        except ServiceFault:
            # Takes the fault from sys.exc_info(), and keeps oslo.messaging from logging it once more.
            raise dispatcher.ExpectedException from None
