"""A machine that moves actions, and what tests do with it again and again."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast
from uuid import uuid4

from oslo_config import cfg
from sqlalchemy import select
from sqlalchemy.orm import Session

from minova.compute.rpcapi import ComputeAPI
from minova.conductor.machine import Machine
from minova.conductor.tasks import Services, Task
from minova.context import RequestContext
from minova.db import models
from minova.db.session import Database
from minova.objects import Fault, Guest, HostCapacity, HostReport, MigrationOptions, utcnow
from minova.scheduler.scheduler import Scheduler
from minova.states import OPEN_ACTION, PowerState, Verb, VmState
from tests.unit.rows import a_node, a_service, an_instance

INSTANCE = "some-uuid"
REFUSAL = Fault(code="OperationRefused", message="the host refused")
SILENCE = Fault(code="PeerSilent", message="nobody answered")
NO_ROOM = Fault(code="InsufficientResources", message="no room")
ACCIDENT = Fault(code="RuntimeError", message="boom", details="Traceback")


class Computes:
    """Takes down what is sent to computes: (method, host) each."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.old = False

    def can_check_spawn(self) -> bool:
        """Tell beforehand whether guests can be made, unless they are old."""
        return not self.old

    def check_options(self, _options: MigrationOptions) -> None:
        """All options mean something to these computes."""

    def __getattr__(self, method: str) -> Callable[..., None]:
        def send(_ctxt: RequestContext, host: str, *_args: Any, **_more: Any) -> None:
            self.sent.append((method, host))

        return send


class Rig:
    """host1, host2 and host3 with an instance on host1, and a machine."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database) -> None:
        self.conf = conf
        self.database = database
        self.computes = Computes()
        self.services = Services(conf, cast("ComputeAPI", self.computes), Scheduler(conf))
        self.machine = Machine(self.services, "conductor:here", "here/1")
        database.write(self._fill)

    def _fill(self, session: Session) -> None:
        names = ("host1", "host2", "host3")
        session.add_all(row for host in names for row in (a_service(host), a_node(host)))
        session.add(an_instance(INSTANCE))
        session.flush()
        self.place(session, "host1")

    def place(self, session: Session, host: str) -> None:
        """Let the instance live on a host."""
        row = session.get_one(models.Instance, INSTANCE)
        row.host = host
        session.add(
            models.Allocation(
                instance_uuid=INSTANCE, host=host, vcpus=row.vcpus, memory_mb=row.memory_mb, disk_gb=row.disk_gb
            )
        )
        node = session.get_one(models.ComputeNode, host)
        node.vcpus_used, node.memory_mb_used, node.disk_gb_used = row.vcpus, row.memory_mb, row.disk_gb

    # Actions.

    def begin(self, verb: Verb, *, instance: str = INSTANCE, **args: Any) -> models.Action:
        """Submit an operation on the instance, and return its action as it is then."""

        def work(session: Session) -> models.Action:
            row = session.get_one(models.Instance, instance)
            args.setdefault("destination", None)
            return self.machine.begin(session, str(uuid4()), RequestContext(user="me"), verb, row, args).action

        return self.database.write(work)

    def boot(self) -> models.Action:
        """Submit the boot of the instance, which is made anew for that."""

        def work(session: Session) -> models.Action:
            row = session.get_one(models.Instance, INSTANCE)
            self.services.scheduler.release_all(session, INSTANCE)
            row.host, row.vm_state, row.power_state = None, VmState.BUILDING, PowerState.NOSTATE
            return self.machine.begin(
                session, str(uuid4()), RequestContext(user="me"), Verb.BOOT, row, {"destination": None}
            ).action

        return self.database.write(work)

    def succeed(self, action: models.Action, **data: Any) -> models.Action:
        """Let the step that an action is at succeed."""
        return self._do(action, lambda session, task: self.machine.succeed(session, task, data))

    def fail(self, action: models.Action, fault: Fault = REFUSAL, *, cancelled: bool = False) -> models.Action:
        """Let the step that an action is at fail, or be cancelled half-way."""
        return self._do(action, lambda session, task: self.machine.fail(session, task, fault, cancelled=cancelled))

    def cancel(self, action: models.Action) -> models.Action:
        """Ask for an action to be cancelled."""

        def request(_session: Session, task: Task) -> None:
            task.action.cancel_requested = True

        return self._do(action, request)

    def _do(self, action: models.Action, work: Callable[[Session, Task], None]) -> models.Action:
        def run(session: Session) -> models.Action:
            row = session.get_one(models.Action, action.id)
            work(session, self.machine.load(session, row))
            return row

        return self.database.write(run)

    def write_once(self, work: Callable[[Session], None]) -> None:
        """Run a transaction that is not tried again if another was faster."""
        with self.database._writers.begin() as session:
            work(session)

    def at(self, action: models.Action) -> str:
        """Return what an action is at: the name of the step and the host; or how it ended."""
        with self.database.read() as session:
            row = session.get_one(models.Action, action.id)
            if row.status not in OPEN_ACTION:
                return str(row.status)
            step = self.machine.load(session, row).current
            assert step is not None
            return f"{step.name} on {row.waits_for}"

    def visit(self, action: models.Action) -> int:
        """Return by what a compute tells the step in work from one that is sent again."""
        with self.database.read() as session:
            return self.machine.load(session, session.get_one(models.Action, action.id)).order.visit

    def walk(self, action: models.Action, **data: Any) -> list[str]:
        """Let all steps succeed, and return what the action was at, one after the other, and how it ended."""
        path = [self.at(action)]
        while " on " in path[-1]:
            self.succeed(action, **data)
            path.append(self.at(action))
        return path

    # What is in the database.

    @property
    def instance(self) -> models.Instance:
        with self.database.read() as session:
            return session.get_one(models.Instance, INSTANCE)

    @property
    def migration(self) -> models.Migration:
        with self.database.read() as session:
            return session.scalars(select(models.Migration)).one()

    def rooms(self) -> list[str]:
        """Return the hosts on which the instance has room."""
        with self.database.read() as session:
            return sorted(session.scalars(select(models.Allocation.host)))

    def faults(self) -> list[tuple[str, str]]:
        """Return (code, message) of all faults, oldest first."""
        with self.database.read() as session:
            rows = session.scalars(select(models.InstanceFault).order_by(models.InstanceFault.id))
            return [(row.code, row.message) for row in rows]

    def change(self, kind: type[models.Base], key: Any, **values: Any) -> None:
        """Change a row."""

        def work(session: Session) -> None:
            row = session.get_one(kind, key)
            for name, value in values.items():
                setattr(row, name, value)

        self.database.write(work)

    def settle(self) -> None:
        """Let it be a while ago that anything happened to the instance."""
        self.change(models.Instance, INSTANCE, updated_at=utcnow() - timedelta(hours=1))


def a_report(host: str, *guests: Guest, **more: Any) -> HostReport:
    """Return the report of a host that has these guests."""
    values = {"rpc_version": "1.0", "started_at": utcnow(), "made_at": utcnow(), "started": False, **more}
    capacity = HostCapacity(vcpus=8, memory_mb=8192, disk_gb=100, hypervisor_type="fake")
    return HostReport(host=host, capacity=capacity, guests=guests, **values)


def a_guest(power_state: PowerState = PowerState.RUNNING, *, migrating_to: str | None = None) -> Guest:
    """Return the instance's guest."""
    return Guest(uuid=INSTANCE, name="vm", power_state=power_state, migrating_to=migrating_to)
