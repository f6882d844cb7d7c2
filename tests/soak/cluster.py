"""The cluster that is soaked: many hosts, a few conductors, and what must hold whenever it comes to rest."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from sqlalchemy import func, select

from minova.cli.connection import Connection
from minova.context import RequestContext
from minova.db import models
from minova.db.queries import COMPUTE
from minova.objects import Hop
from minova.states import OPEN_ACTION, VmState
from tests.fixtures import invariants
from tests.fixtures.daemon import Daemon
from tests.fixtures.nursery import Nursery
from tests.fixtures.services.program import wait_for
from tests.fixtures.services.services import Services
from tests.fixtures.site import Site

CONDUCTORS = 3
TAKEOVERS = "takeover"
"""What :meth:`Cluster.counts` counts besides the verbs."""

CONFIGURATION = """
[DEFAULT]
report_interval = 2
service_down_time = 12
executor_thread_pool_size = 8
[conductor]
lease = 4
sweep_interval = 0.5
unresponsive_timeout = 30
[compute]
live_migration_progress_interval = 1
report_retry_interval = 1
[rpc]
quick_timeout = 5
normal_timeout = 15
monitor_timeout = 5
[oslo_messaging_rabbit]
kombu_missing_consumer_retry_timeout = 1
[fake]
operation_time = 0.05
migration_bandwidth = 100
vcpus = 64
"""

_PATIENCE = 120.0
"""Seconds in which everything comes to rest once nobody asks for anything and nobody dies any more."""


class Cluster:
    """Daemons, and a connection to them."""

    def __init__(self, folder: Path, hosts: int) -> None:
        """Start everything, and wait until it is up."""
        with ExitStack() as opened:
            self._start(opened, folder, hosts)
            self._open = opened.pop_all()

    def _start(self, opened: ExitStack, folder: Path, hosts: int) -> None:
        self._folder = folder
        services = Services()
        opened.callback(services.stop)
        nursery = opened.enter_context(Nursery())
        url, connection = services.rabbitmq.transport_url(), services.postgresql.connection()
        self.site = Site(folder, url, connection, CONFIGURATION, nursery=nursery)
        opened.callback(self._kill_all)
        self.conductors = [self.site.add_conductor(f"control{number}") for number in range(1, CONDUCTORS + 1)]
        self.site.wait_until_up()
        self.computes = [self.site.add_compute(f"host{number}") for number in range(1, hosts + 1)]
        self.site.wait_until_up()
        connected: Connection = opened.enter_context(self.site.connect())
        self.api = connected.conductor
        self._control = connected.control

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._open.close()

    @staticmethod
    def request() -> RequestContext:
        """Return the context of a new request."""
        return RequestContext(user="soak")

    def come_to_rest(self) -> None:
        """Bring back all that is dead, wait for all actions to end, and check I1 to I5."""
        for daemon in self.site.daemons:
            if not daemon.runs:
                daemon.start()
        self.site.wait_until_up()
        for service in self.api.list_services(self.request()):
            if service.binary == COMPUTE and service.forced_down:
                self.api.set_service_forced_down(self.request(), service.host, False)
        wait_for(lambda: not self._open_actions(), "all actions end", _PATIENCE)
        self._wait_until_sound()

    def empty(self) -> None:
        """Delete all instances, and check that nothing is left of them anywhere."""
        while instances := self.api.list_instances(self.request()):
            for instance in instances:
                self.site.end_of(self.api.delete_instance(self.request(), instance.uuid).id)
        self._wait_until_sound()
        wait_for(lambda: not list((self._folder / "state" / "fake").glob("*/*.json")), "no guest is left", _PATIENCE)

    def counts(self) -> dict[str, Counter[str]]:
        """Return how the actions of each verb have ended, and how many hops were takeovers."""
        ends = select(models.Action.verb, models.Action.status, func.count()).group_by(
            models.Action.verb, models.Action.status
        )
        takeovers = select(func.count()).where(models.ActionEvent.hop == Hop.TAKEOVER)
        found: dict[str, Counter[str]] = {}
        with self.site.database.read() as session:
            for verb, status, number in session.execute(ends):
                found.setdefault(verb, Counter())[status] = number
            found[TAKEOVERS] = Counter({"of steps": session.scalars(takeovers).one()})
        return found

    def instances(self) -> list[tuple[str, VmState, str | None]]:
        """Return (UUID, state, host) of each instance, as the database has them."""
        row = models.Instance
        query = select(row.uuid, row.vm_state, row.host).where(row.vm_state != VmState.DELETED).order_by(row.uuid)
        with self.site.database.read() as session:
            return [(uuid, state, host) for uuid, state, host in session.execute(query)]

    def has_ended(self, action_id: str) -> bool:
        """Return whether an action has ended."""
        return self.site.action(action_id).status not in OPEN_ACTION

    def living(self) -> list[Daemon]:
        """Return the daemons that run."""
        return [daemon for daemon in self.site.daemons if daemon.runs]

    def _open_actions(self) -> int:
        query = select(func.count()).select_from(models.Action).where(models.Action.status.in_(OPEN_ACTION))
        with self.site.database.read() as session:
            return int(session.scalars(query).one())

    def _wait_until_sound(self) -> None:
        def check() -> None:
            guests = invariants.fake_guests(self._folder / "state" / "fake", set())
            invariants.check(self.site.database, guests, set())

        invariants.wait_until_kept(check, _PATIENCE)

    def _kill_all(self) -> None:
        for daemon in self.site.daemons:
            daemon.kill()
        self.site.stop()
