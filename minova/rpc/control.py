"""The namespace ``control``, which every service serves: is it there, what does it speak, what does it do now."""

import os
import time
from collections.abc import Callable
from importlib.metadata import version as installed_version

import oslo_messaging
from oslo_config import cfg

from minova.broker import why_unreachable
from minova.context import RequestContext, service_context
from minova.exception import BrokerUnreachable
from minova.objects import Activity, Pin, Pong, Presence, ServiceVersions, Task
from minova.rpc.client import RPCAPI, Timeout
from minova.rpc.rollcall import RollCallAPI
from minova.rpc.server import expose
from minova.rpc.versions import History, LowestVersion, Pins, Release

NAMESPACE = "control"

HISTORY = History(
    (
        Release(
            version="1.0",
            summary="The first.",
            methods=("ping", "get_versions", "get_activity", "get_lowest_version"),
        ),
        Release(version="1.1", summary="What is sent to all services at once.", methods=("announce", "reset")),
    )
)


class ControlEndpoint:
    """What every service answers."""

    target = oslo_messaging.Target(namespace=NAMESPACE, version=HISTORY.version)

    def __init__(
        self,
        service: str,
        host: str,
        rpc_version: str,
        pins: Pins,
        tasks: Callable[[], list[Task]],
        roll: RollCallAPI,
        workers: int = 1,
    ) -> None:
        """Answer for one process of ``service`` on ``host``.

        :param tasks: says what it is doing when it is asked.
        :param roll: takes the answer to a roll call.
        :param workers: how many such processes there are on the host.
        """
        self._service, self._host, self._rpc_version = service, host, rpc_version
        self._pins = pins
        self._roll = roll
        self._workers = workers
        self._tasks = tasks
        self._started = time.monotonic()

    @expose
    def ping(self, ctxt: RequestContext) -> Pong:
        """Say that the service is there."""
        return Pong(service=self._service, host=self._host, uptime=time.monotonic() - self._started)

    @expose
    def get_versions(self, ctxt: RequestContext) -> ServiceVersions:
        """Say which version the service speaks, and at which pins it holds its messages to others."""
        return ServiceVersions(
            service=self._service,
            host=self._host,
            release=installed_version("minova"),
            rpc_version=self._rpc_version,
            pins=self._pins.in_force(),
        )

    @expose
    def get_activity(self, ctxt: RequestContext) -> Activity:
        """Say what the service is doing now."""
        return Activity(service=self._service, host=self._host, tasks=tuple(self._tasks()))

    @expose
    def announce(self, ctxt: RequestContext, round_id: str) -> None:
        """Answer a roll call."""
        presence = Presence(
            service=self._service,
            host=self._host,
            process=os.getpid(),
            workers=self._workers,
            uptime=time.monotonic() - self._started,
            release=installed_version("minova"),
            rpc_version=self._rpc_version,
            pins=self._pins.in_force(),
            tasks=tuple(self._tasks()),
        )
        self._roll.present(ctxt, round_id, presence)

    @expose
    def reset(self, ctxt: RequestContext) -> None:
        """Resolve the pins again, as SIGHUP does; the configuration is not read again."""
        self._pins.reset()


class LowestVersionEndpoint:
    """What only a conductor answers, since it alone can read the services' rows: how old the oldest peer is."""

    target = oslo_messaging.Target(namespace=NAMESPACE, version=HISTORY.version)

    def __init__(self, lowest: LowestVersion) -> None:
        self._lowest = lowest

    @expose
    def get_lowest_version(self, ctxt: RequestContext, topic: str) -> Pin | None:
        """Return the lowest version of any live service of ``topic``, and its host as the reason."""
        lowest = self._lowest(topic)
        return Pin(topic=topic, version=lowest[0], reason=lowest[1]) if lowest else None


class ControlAPI(RPCAPI):
    """Client of the ``control`` namespace of one topic; pins do not hold it back, for it is what tells them."""

    HISTORY = HISTORY
    NAMESPACE = NAMESPACE

    def __init__(
        self, conf: cfg.ConfigOpts, transport: oslo_messaging.Transport, topic: str, *, retry: int | None = None
    ) -> None:
        self.TOPIC = topic  # type: ignore[misc]  # the one client that serves several topics
        super().__init__(conf, transport, None, retry=retry)

    def ping(self, ctxt: RequestContext, host: str | None) -> Pong:
        """Call :meth:`ControlEndpoint.ping`."""
        pong: Pong = self._call(ctxt, Timeout.PING, host, "ping")
        return pong

    def reach_broker(self, ctxt: RequestContext) -> None:
        """See whether the broker takes a message: a call to one that is not there would try for ever.

        :raises BrokerUnreachable: it does not.
        """
        try:
            self._client.prepare(version=self.HISTORY.since["ping"], retry=0).cast(ctxt, "ping")
        except Exception as error:
            raise BrokerUnreachable(reason=why_unreachable(error), option="[DEFAULT] transport_url") from None

    def get_versions(self, ctxt: RequestContext, host: str | None) -> ServiceVersions:
        """Call :meth:`ControlEndpoint.get_versions`."""
        versions: ServiceVersions = self._call(ctxt, Timeout.QUICK, host, "get_versions")
        return versions

    def get_activity(self, ctxt: RequestContext, host: str | None) -> Activity:
        """Call :meth:`ControlEndpoint.get_activity`."""
        activity: Activity = self._call(ctxt, Timeout.QUICK, host, "get_activity")
        return activity

    def announce(self, ctxt: RequestContext, round_id: str) -> None:
        """Cast to :meth:`ControlEndpoint.announce`, of all servers of the topic."""
        self._fanout(ctxt, "announce", round_id=round_id)

    def reset(self, ctxt: RequestContext) -> None:
        """Cast to :meth:`ControlEndpoint.reset`, of all servers of the topic."""
        self._fanout(ctxt, "reset")

    def get_lowest_version(self, ctxt: RequestContext, topic: str) -> Pin | None:
        """Call :meth:`LowestVersionEndpoint.get_lowest_version`."""
        pin: Pin | None = self._call(ctxt, Timeout.QUICK, None, "get_lowest_version", topic=topic)
        return pin

    def lowest(self, topic: str) -> tuple[str, str] | None:
        """Serve as :data:`~minova.rpc.versions.LowestVersion` to a process that has no database."""
        pin = self.get_lowest_version(service_context(), topic)
        return (pin.version, pin.reason) if pin else None
