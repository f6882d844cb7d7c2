"""Delete: destroy the guest and give its room back."""

from sqlalchemy.orm import Session

from minova.conductor.tasks.base import Task, guest_host
from minova.conductor.tasks.step import order, transaction
from minova.db import models
from minova.db.queries import COMPUTE
from minova.objects import utcnow
from minova.states import PowerState, Verb


def host_that_can_destroy(task: Task) -> str | None:
    """Say that a step is for the guest's host, unless that is fenced: then it destroys the guest when it is back."""
    host = guest_host(task)
    return None if host in task.action.data.get("fenced", []) else host


class DeleteInstance(Task):
    """Remove a guest for good."""

    verb = Verb.DELETE

    def check(self, session: Session) -> None:
        """Allow no host, and one that is fenced, since its guests count as gone; any other has to be up."""
        host = self.instance.host
        if host is None:
            return
        service = session.get(models.Service, (COMPUTE, host))
        if service is not None and service.forced_down:
            self.remember(fenced=[host])
        else:
            self.require_up(session, host)

    @order(host_that_can_destroy)
    def destroy(self, host: str) -> None:
        """Have the guest removed with its disks."""
        self.compute.terminate_instance(self.ctxt, host, self.order, self.instance)

    @transaction()
    def forget(self, session: Session) -> None:
        """Give the room back; the row stays for its history."""
        row = self.row(session)
        self.services.scheduler.release_all(session, row.uuid)
        row.host = None
        row.power_state = PowerState.NOSTATE
        row.deleted_at = utcnow()
