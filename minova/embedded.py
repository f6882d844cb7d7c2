"""A whole cluster in one process, over ``fake://``: for tests, the demo, and a command line without daemons."""

import logging
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import oslo_messaging
from oslo_config import cfg

from minova.compute.service import ComputeService
from minova.conductor import rpcapi
from minova.conductor.rpcapi import ConductorAPI
from minova.conductor.service import ConductorService
from minova.db import migration
from minova.db.session import Database
from minova.exception import PeerSilent
from minova.objects import utcnow
from minova.rpc.control import ControlAPI
from minova.rpc.transport import get_transport
from minova.rpc.versions import Pins
from minova.service import Master, Service
from minova.virt.factory import make_driver

LOG = logging.getLogger(__name__)


class Cluster:
    """One conductor and several computes; the database is migrated by itself."""

    def __init__(self, conf: cfg.ConfigOpts, hosts: Sequence[str]) -> None:
        """Make a cluster with a compute for each of ``hosts``; nothing runs before :meth:`start`.

        :raises ConfigurationError: an option is wrong.
        :raises DatabaseError: the database cannot be used.
        """
        self._conf = conf
        self._hosts = hosts
        self.transport: oslo_messaging.Transport = get_transport(conf)
        self.conductor_api = ConductorAPI(conf, self.transport, Pins(conf, self.control(rpcapi.TOPIC).lowest))
        self.conductors: list[ConductorService] = []
        self.computes: dict[str, ComputeService] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()

    def control(self, topic: str) -> ControlAPI:
        """Return a client of the control namespace of ``topic``."""
        return ControlAPI(self._conf, self.transport, topic)

    def start(self) -> None:
        """Start all services, and return when the conductor has heard of the hosts.

        A host that is forced down stays off, for that is what the operator said; one that does not report in time is
        nobody's reason to stop.
        """
        conductor = self.add_conductor()
        for host in self._hosts:
            if not conductor.is_forced_down(host):
                self.add_compute(host, wait=False)
        deadline = time.monotonic() + self._conf.rpc.quick_timeout
        for host, compute in self.computes.items():
            if not compute.reporter.accepted.wait(max(0.0, deadline - time.monotonic())):
                LOG.warning("Host %s has not reported yet", host)

    def add_conductor(self) -> ConductorService:
        """Start a conductor, and return it."""
        database = Database(self._conf)
        migration.upgrade(database)
        conductor = ConductorService(self._conf, self.transport, database, Master(started_at=utcnow()))
        self.conductors.append(conductor)
        conductor.start()
        return conductor

    def add_compute(self, host: str, *, wait: bool = True) -> ComputeService:
        """Start the compute of a host, and return it; ``wait`` until it is known to the conductor."""
        compute = ComputeService(self._conf, self.transport, host, make_driver(self._conf, host))
        self.computes[host] = compute
        compute.start()
        seconds = self._conf.rpc.normal_timeout
        if wait and not compute.reporter.accepted.wait(seconds):
            raise PeerSilent(peer=f"compute on {host}", seconds=seconds)
        return compute

    def stop(self) -> None:
        """Stop all services: computes first, so that a conductor takes what they have to report."""
        for conductor in self.conductors:
            # Nothing more is begun, and what computes were asked they still answer.
            conductor.engine.stop()
        services: list[Service] = [*self.computes.values(), *self.conductors]
        self.computes, self.conductors = {}, []
        for service in services:
            service.stop()
        self.transport.cleanup()
