"""The base of every ``rpcapi.py``: versions, pins, timeouts and errors are dealt with here, once."""

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any, ClassVar, NoReturn

import oslo_messaging
from kombu import exceptions as kombu
from oslo_config import cfg

from minova import failpoints
from minova.broker import why_unreachable
from minova.context import RequestContext
from minova.exception import EXCHANGED_MODULES, MinovaError, PeerSilent, PeerTooOld, ServiceFault
from minova.objects import Pin
from minova.rpc.serializer import Serializer
from minova.rpc.versions import History, Pins, check_level, serves


class Timeout(StrEnum):
    """The classes of waiting; the values are the options of ``[rpc]`` that set their seconds."""

    PING = "ping_timeout"
    QUICK = "quick_timeout"
    NORMAL = "normal_timeout"
    LONG = "long_timeout"
    """Monitored: the peer says every now and then that it is still at it, and one that does not is given up early."""


class RPCAPI:
    """One topic's client. A subclass adds a method of three to five lines for each method of the endpoint."""

    TOPIC: ClassVar[str]
    HISTORY: ClassVar[History]
    NAMESPACE: ClassVar[str | None] = None

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        transport: oslo_messaging.Transport,
        pins: Pins | None,
        *,
        retry: int | None = None,
    ) -> None:
        """Make a client; nothing is sent and no pin resolved before the first message.

        :param pins: None: nothing holds this client back.
        :param retry: how often it tries to reach a broker that is away; None: it waits for it.
        :raises ConfigurationError: ``[upgrade_levels]`` names a version that does not exist.
        """
        if pins is not None:
            check_level(conf, self.TOPIC, self.HISTORY)
            pins.expect(self.TOPIC, self.HISTORY.version)
        self._conf = conf
        self._pins = pins
        target = oslo_messaging.Target(topic=self.TOPIC, namespace=self.NAMESPACE)
        self._client = oslo_messaging.get_rpc_client(transport, target, serializer=Serializer(), retry=retry)

    def can_send_version(self, version: str) -> bool:
        """Return whether every live peer understands messages of ``version``."""
        return serves(self._pin().version, version)

    def _pin(self) -> Pin:
        newest = self.HISTORY.version
        if self._pins is None:
            return Pin(topic=self.TOPIC, version=newest, reason="never pinned")
        return self._pins.pin(self.TOPIC, newest)

    def _cast(self, ctxt: RequestContext, host: str | None, method: str, version: str = "", /, **args: Any) -> None:
        """Send ``method`` and go on. ``version``: what the arguments need; default: the version that added it.

        :raises PeerTooOld: the pin is below the version.
        :raises MessageDeliveryFailure: the broker is away, and this client does not wait for it.
        """
        client = self._client.prepare(server=host, version=self._version(method, version))
        send = functools.partial(client.cast, ctxt, method, **args)
        with _delivery():
            failpoints.message("cast", f"{self.TOPIC}.{method}", send, send, lambda: None)

    def _fanout(self, ctxt: RequestContext, method: str, /, **args: Any) -> None:
        """Send ``method`` to every server of the topic at once, and go on.

        :raises PeerTooOld: the pin is below the version that added it.
        :raises MessageDeliveryFailure: the broker is away, and this client does not wait for it.
        """
        client = self._client.prepare(fanout=True, version=self._version(method, ""))
        with _delivery():
            client.cast(ctxt, method, **args)

    def _call(
        self,
        ctxt: RequestContext,
        timeout: Timeout,
        host: str | None,
        method: str,
        version: str = "",
        /,
        **args: Any,
    ) -> Any:
        """Send ``method``, wait for its answer and return it; a peer's error is raised here as its own type.

        :raises PeerTooOld: the pin is below the version.
        :raises PeerSilent: no answer in time, or nobody to tell the pin.
        """
        return self._ask(ctxt, timeout, host, method, self._version(method, version), args)

    def _ask(
        self, ctxt: RequestContext, timeout: Timeout, host: str | None, method: str, version: str, args: dict[str, Any]
    ) -> Any:
        """Do as :meth:`_call` does, without a look at the pin."""
        seconds, started = self._conf.rpc[timeout.value], time.monotonic()
        monitor = self._conf.rpc.monitor_timeout if timeout is Timeout.LONG else None
        client = self._client.prepare(server=host, version=version, timeout=seconds, call_monitor_timeout=monitor)
        peer = f"{self.TOPIC} on {host}" if host else f"any {self.TOPIC}"
        try:
            ask = functools.partial(client.call, ctxt, method, **args)
            with _delivery():
                return failpoints.message(
                    "call",
                    f"{self.TOPIC}.{method}",
                    ask,
                    functools.partial(client.cast, ctxt, method, **args),
                    functools.partial(_hear_nothing, monitor or seconds),
                )
        except oslo_messaging.MessagingTimeout:
            early = time.monotonic() - started < seconds
            raise PeerSilent(peer=peer, seconds=(monitor or seconds) if early else seconds) from None
        except oslo_messaging.MessageDeliveryFailure:
            # The broker is away, and the driver has given up sooner than it was told to.
            raise PeerSilent(peer=peer, seconds=round(time.monotonic() - started, 1)) from None
        except oslo_messaging.RemoteError as error:
            # A type that is not ours: no traceback of a peer reaches a user.
            reason = str(error.value)
            raise ServiceFault(
                service=peer, method=method, kind=str(error.exc_type), reason=reason, request_id=str(ctxt.request_id)
            ) from None
        except MinovaError as error:
            raise self._learn_from(_own_type(error)) from None

    def _learn_from(self, error: MinovaError) -> MinovaError:
        """Resolve the pins again if an error says that an older peer has come since they were resolved."""
        is_older = isinstance(error, ServiceFault) and error.kind == oslo_messaging.UnsupportedVersion.__name__
        if self._pins is not None and is_older:
            self._pins.reset()
        return error

    def _version(self, method: str, version: str) -> str:
        needed = version or self.HISTORY.since[method]
        pin = self._pin()
        if not serves(pin.version, needed):
            raise PeerTooOld(method=f"{self.TOPIC}.{method}", needed=needed, pinned=pin.version, holder=pin.reason)
        return needed


@contextmanager
def _delivery() -> Iterator[None]:
    """Send messages: what goes wrong while a connection is new is an error of kombu's, of AMQP's, or of the system's.

    :raises MessageDeliveryFailure: the broker is away; what the driver itself raises if a connection is lost.
    """
    try:
        yield
    except (kombu.OperationalError, kombu.ConnectionError, kombu.ChannelError, OSError) as error:
        raise oslo_messaging.MessageDeliveryFailure(why_unreachable(error)) from error


def _hear_nothing(seconds: float) -> NoReturn:
    """Wait as one whose message was lost."""
    time.sleep(seconds)
    raise oslo_messaging.MessagingTimeout


def _own_type(error: MinovaError) -> MinovaError:
    """Return the error as it was raised: what crossed a wire is of a made-up subclass whose text is a traceback."""
    for kind in type(error).__mro__:
        if kind.__module__ in EXCHANGED_MODULES:
            return kind(**error.kwargs)  # type: ignore[no-any-return]
    raise AssertionError(f"{error!r} is no error of minova's")
