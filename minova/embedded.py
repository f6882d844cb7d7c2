"""A whole cluster in one process, over ``fake://``: for tests, the demo, and a command line without daemons."""

import logging
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
from minova.rpc.control import ControlAPI
from minova.rpc.transport import get_transport
from minova.rpc.versions import Pins
from minova.service import Service
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
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.stop()

    def control(self, topic: str) -> ControlAPI:
        """Return a client of the control namespace of ``topic``."""
        return ControlAPI(self._conf, self.transport, topic)

    def start(self) -> None:
        """Start all services, and return when every host is known to the conductor."""
        self.add_conductor()
        for host in self._hosts:
            self.add_compute(host, wait=False)
        for host in self._hosts:
            self._wait_for(host)

    def add_conductor(self) -> ConductorService:
        """Start a conductor, and return it."""
        database = Database(self._conf)
        migration.upgrade(database)
        conductor = ConductorService(self._conf, self.transport, database)
        self.conductors.append(conductor)
        conductor.start()
        return conductor

    def add_compute(self, host: str, *, wait: bool = True) -> ComputeService:
        """Start the compute of a host, and return it; ``wait`` until it is known to the conductor."""
        compute = ComputeService(self._conf, self.transport, host, make_driver(self._conf, host))
        self.computes[host] = compute
        compute.start()
        if wait:
            self._wait_for(host)
        return compute

    def stop(self) -> None:
        """Stop all services: computes first, so that a conductor takes what they have to report."""
        services: list[Service] = [*self.computes.values(), *self.conductors]
        self.computes, self.conductors = {}, []
        for service in services:
            service.stop()
        self.transport.cleanup()

    def _wait_for(self, host: str) -> None:
        seconds = self._conf.rpc.normal_timeout
        if not self.computes[host].reporter.accepted.wait(seconds):
            raise PeerSilent(peer=f"compute on {host}", seconds=seconds)
