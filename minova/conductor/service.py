"""minova-conductor as a service: everything it consists of, put together."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import oslo_messaging
from oslo_config import cfg
from oslo_db.exception import DBDuplicateEntry
from sqlalchemy.orm import Session

from minova.compute.rpcapi import ComputeAPI
from minova.conductor import notices
from minova.conductor.administration import Administration
from minova.conductor.consoles import Consoles
from minova.conductor.engine import Engine
from minova.conductor.images import Images
from minova.conductor.inquiry import Inquiry
from minova.conductor.leases import Leases
from minova.conductor.listening import Listening
from minova.conductor.manager import ConductorManager
from minova.conductor.migrations import Migrations
from minova.conductor.queries import Queries
from minova.conductor.reconcile import Reconciler
from minova.conductor.retention import Retention
from minova.conductor.rpcapi import HISTORY, TOPIC
from minova.conductor.tasks import Services
from minova.context import service_context
from minova.db import models
from minova.db.queries import COMPUTE, CONDUCTOR
from minova.db.session import Database, LostRace
from minova.exception import MinovaError
from minova.notifications.notifier import Notifier
from minova.notifications.payloads import ServiceChange
from minova.objects import utcnow
from minova.rpc.control import ControlAPI, ControlEndpoint, LowestVersionEndpoint
from minova.rpc.rollcall import RollCallAPI
from minova.rpc.server import get_server
from minova.rpc.versions import Pins
from minova.scheduler.scheduler import Scheduler
from minova.service import RENEWALS_PER_LEASE, Master, Service

LOG = logging.getLogger(__name__)

_TRIES = 3
"""How often a message to a compute is tried to be sent: for less than a lease, if it is refused."""


class ConductorService(Service):
    """One conductor: a process, of which a host may have several, that are one service to the others.

    They share a row and a queue, which say that at least one of them serves. Actions belong to one of them.
    """

    def __init__(
        self, conf: cfg.ConfigOpts, transport: oslo_messaging.Transport, database: Database, master: Master
    ) -> None:
        """Put a conductor together; ``database`` is at its newest revision, and is closed with the service.

        :raises ConfigurationError: the notifications are configured wrongly.
        """
        self._conf = conf
        self._database = database
        self._host: str = conf.host
        self._started_at = master.started_at
        self._notifier = Notifier(conf, f"{CONDUCTOR}:{self._host}")
        database.publish_to(self._notifier.send)
        queries = Queries(conf, database)
        self._pins = Pins(conf, queries.lowest_version)
        compute = ComputeAPI(conf, transport, self._pins, retry=_TRIES)
        services = Services(conf, compute, Scheduler(conf))
        self.engine = Engine(database, services, self._host)
        self._conductors = ControlAPI(conf, transport, TOPIC, retry=1)
        self._listening = Listening(conf)
        self.leases = Leases(conf, database, self.engine, self._listening)
        self.retention = Retention(conf, database)
        manager = ConductorManager(
            self.engine,
            queries,
            Administration(database, services, self.engine),
            Migrations(conf, database, services, self.engine),
            Reconciler(conf, database, services.scheduler, self.leases),
            self.leases,
            Inquiry(conf, database, services, self.engine.machine, self._listening),
            Images(database),
            Consoles(database, services.compute),
        )
        roll, tasks = RollCallAPI(conf, transport), self.engine.activities
        control = ControlEndpoint(CONDUCTOR, self._host, HISTORY.version, self._pins, tasks, roll, master.workers)
        lowest = LowestVersionEndpoint(queries.lowest_version)
        super().__init__(get_server(transport, TOPIC, self._host, [manager, control, lowest]))

    def start(self) -> None:
        """Begin to serve."""
        self._notifier.start()
        super().start()

    def announce(self) -> None:
        """Register: who lists the services finds this one, and not before it takes messages."""
        self._database.write(self._register)

    def timers(self) -> Sequence[tuple[float, Callable[[], None]]]:
        """Return what keeps this conductor alive to the others, their actions alive with it, and the database small."""
        return (
            (min(self._conf.report_interval, self._conf.conductor.lease / RENEWALS_PER_LEASE), self.heartbeat),
            (self._conf.report_interval, self._pins.sink),
            (self._conf.conductor.lease / RENEWALS_PER_LEASE, self._listen),
            (self._conf.conductor.lease / RENEWALS_PER_LEASE, self.leases.renew),
            (self._conf.conductor.sweep_interval, self.leases.sweep),
            (self._conf.conductor.purge_interval, self.retention.run),
        )

    def heartbeat(self) -> None:
        """Write down that this conductor is alive, which shows that the database takes what is written."""
        self._database.write(self._beat)
        self._listening.stored()

    def _listen(self) -> None:
        """Ask ourselves by way of the broker: who does not hear himself hears nobody."""
        try:
            self._conductors.ping(service_context(), self._host)
        except (MinovaError, oslo_messaging.MessagingException) as error:
            LOG.warning("Nothing comes through the broker: %s", error)
        else:
            self._listening.heard()

    def describe(self) -> Mapping[str, Any]:
        """Return what the service is doing now."""
        doing = self.engine.activities()
        return {
            "name": self.engine.owner,
            "running since": self._started_at.isoformat(),
            "doing": [f"{task.what} {task.subject} since {task.since.isoformat()}" for task in doing] or ["nothing"],
            "pins": [f"{pin.topic} {pin.version}: {pin.reason}" for pin in self._pins.in_force()] or ["none yet"],
            "pools": {
                "steps": f"{len(doing)} in work, and {self._conf.conductor.threads} threads for what is sent",
                "RPC": f"{self._conf.executor_thread_pool_size} threads",
                "database": self._database.engine.pool.status(),
            },
        }

    def is_forced_down(self, host: str) -> bool:
        """Return whether an operator has said that a compute host is off."""
        with self._database.read() as session:
            row = session.get(models.Service, (COMPUTE, host))
            return row is not None and row.forced_down

    def hand_over(self) -> None:
        """Let other conductors have the steps in work: whoever is later with one is not listened to."""
        left = len(self.engine.active_actions())
        self.leases.hand_over()
        LOG.info("Conductor %s stops: %d of its actions handed over", self.engine.owner, left)

    def drain(self) -> None:
        """Finish the steps in work, which may wait for an answer; other conductors need not wait for that."""
        self.engine.close()
        self.leases.hand_over()
        self.retention.stop()
        self.engine.stop()
        self.leases.hand_over()

    def close(self) -> None:
        """Send the notifications that are left, and close the database."""
        self._notifier.stop()
        self._database.close()
        LOG.info("Conductor %s has stopped", self.engine.owner)

    def reset(self) -> None:
        """Resolve the pins again."""
        self._pins.reset()

    def _register(self, session: Session) -> None:
        known = session.get(models.Service, (CONDUCTOR, self._host))
        started_before = known.started_at if known is not None else None
        row = self._beat(session)
        if started_before != self._started_at:
            # The first of the workers tells of them all.
            notices.service(session, row, ServiceChange.STARTED if started_before else ServiceChange.REGISTERED)

    def _beat(self, session: Session) -> models.Service:
        row = session.get(models.Service, (CONDUCTOR, self._host))
        if row is None:
            row = models.Service(binary=CONDUCTOR, host=self._host)
            session.add(row)
        row.rpc_version, row.started_at, row.last_seen_at = HISTORY.version, self._started_at, utcnow()
        # An operator can say only of one that is silent that it is off.
        row.forced_down = False
        try:
            session.flush()
        except DBDuplicateEntry:
            # All workers of a new host begin at once.
            raise LostRace from None
        return row
