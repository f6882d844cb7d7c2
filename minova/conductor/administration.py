"""What operators say of hosts, services and instances: enable, fence, drain, reset."""

import logging

from sqlalchemy.orm import Session

from minova.conductor import faults
from minova.conductor.engine import Engine
from minova.conductor.tasks import Services, Task
from minova.context import RequestContext
from minova.db.models import Action
from minova.db.queries import COMPUTE, find_instance, find_node, find_service, instances_on, open_action
from minova.db.session import Database
from minova.exception import InvalidInput, MinovaError
from minova.objects import Fault, utcnow
from minova.states import OPERATIONS, ActionStatus, Verb, VmState

LOG = logging.getLogger(__name__)


class Administration:
    """Changes that are no operations on guests."""

    def __init__(self, database: Database, services: Services, engine: Engine) -> None:
        """Work on ``database``; what has to be moved is moved by ``engine``."""
        self._database = database
        self._services = services
        self._engine = engine

    def set_enabled(self, host: str, enabled: bool, reason: str) -> None:
        """Let a host be scheduled to, or not. :raises ServiceNotFound:"""
        self._database.write(self._set_enabled, host, enabled, reason)

    def set_forced_down(self, host: str, forced_down: bool) -> None:
        """Write down that the operator vouches for a host being off (or take that back). :raises ServiceNotFound:"""
        self._database.write(self._set_forced_down, host, forced_down)

    def drain(self, ctxt: RequestContext, host: str) -> list[str]:
        """Let a host take no more instances and move those that it has; return the ids of the actions.

        An instance that cannot be moved now stays, and gets a fault that says why.

        :raises HostNotFound:
        """
        guests = self._database.write(self._set_draining, host, True)
        return [action for uuid, state in guests for action in self._move_away(ctxt, uuid, state)]

    def undrain(self, host: str) -> None:
        """Let a host take instances again. :raises HostNotFound:"""
        self._database.write(self._set_draining, host, False)

    def reset_state(self, reference: str, state: VmState) -> str:
        """Set an instance's state by hand and end what runs on it; return its UUID.

        :raises InvalidInput: a state that needs a guest, and the instance has none.
        """
        uuid, task = self._database.write(self._reset_state, reference, state)
        if task is not None:
            self._engine.abort(task)
        return uuid

    def _set_enabled(self, session: Session, host: str, enabled: bool, reason: str) -> None:
        service = find_service(session, COMPUTE, host)
        service.enabled, service.disabled_reason = enabled, "" if enabled else reason

    def _set_forced_down(self, session: Session, host: str, forced_down: bool) -> None:
        find_service(session, COMPUTE, host).forced_down = forced_down

    def _set_draining(self, session: Session, host: str, draining: bool) -> list[tuple[str, VmState]]:
        find_node(session, host)
        find_service(session, COMPUTE, host).draining = draining
        return [(row.uuid, row.vm_state) for row in instances_on(session, host)]

    def _move_away(self, ctxt: RequestContext, uuid: str, state: VmState) -> list[str]:
        alive = state in OPERATIONS[Verb.LIVE_MIGRATE].allowed
        try:
            if alive:
                args: dict[str, object] = {"destination": None, "options": {}}
                return [self._engine.submit(ctxt, Verb.LIVE_MIGRATE, uuid, args)]
            return [self._engine.submit(ctxt, Verb.MIGRATE, uuid, {"destination": None})]
        except MinovaError as error:
            LOG.warning("Instance %s stays on a host that is drained", uuid)
            self._database.write(self._record_stays, uuid, error.message)
            return []

    def _record_stays(self, session: Session, uuid: str, why: str) -> None:
        message = f"it stays on a host that is drained: {why}"
        faults.record(session, uuid, None, Fault(code="NotDrained", message=message, host=self._engine.name))

    def _reset_state(self, session: Session, reference: str, state: VmState) -> tuple[str, Task | None]:
        """Return the instance's UUID, and the task that has been ended."""
        row = find_instance(session, reference)
        if row.host is None and state is not VmState.ERROR:
            raise InvalidInput(reason=f"instance {row.name} has no guest on any host: it cannot be {state}")
        action = open_action(session, row.uuid)
        task = None if action is None else self._end(session, action, state)
        row.vm_state, row.task_state, row.updated_at = state, None, utcnow()
        self._services.scheduler.release_all(session, row.uuid, keep=row.host)
        return row.uuid, task

    def _end(self, session: Session, action: Action, state: VmState) -> Task:
        task = self._engine.machine.load(session, action)
        action.error = "the operator reset the instance's state"
        task.remember(left=[action.error])
        self._engine.machine.close(session, task, ActionStatus.FAILED, state)
        return task
