"""Actions, their trace, and the orders and outcomes that conductors and computes exchange about them."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from minova.objects.base import UUID, Moment
from minova.objects.instance import Fault
from minova.states import ActionStatus, Verb


class Hop(StrEnum):
    """What kind of work one line of a trace is."""

    SUBMIT = "submit"
    STEP = "step"
    UNDO = "undo"
    CALL = "call"
    CAST = "cast"
    WORK = "work"
    REPORT = "report"
    TAKEOVER = "takeover"


class Result(StrEnum):
    """How an order, a step or a hop ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One operation on one instance, from its submission to its end.

    :ivar step: the step in work, or the last one.
    :ivar attempt: how often this step was begun, from 1.
    :ivar owner: the conductor that works on it or did last.
    :ivar error: why it failed or was cancelled, one line; empty if it did not.
    """

    VERSION: ClassVar[str] = "1.0"
    id: str
    verb: Verb
    instance_uuid: UUID
    instance_name: str
    status: ActionStatus
    step: str
    attempt: int
    owner: str
    request_id: str
    user: str
    error: str
    cancel_requested: bool
    submitted_at: Moment
    finished_at: Moment | None
    migration_uuid: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionEvent:
    """One line of an action's trace.

    :ivar service: who did it, as ``conductor:<host>`` or ``compute:<host>``.
    """

    VERSION: ClassVar[str] = "1.0"
    step: str
    hop: Hop
    service: str
    attempt: int
    started_at: Moment
    finished_at: Moment
    result: Result
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a conductor tells a compute about the work it casts: whom it is for, and how to tell it from older work.

    :ivar sequence: grows with each order of an action: a compute refuses one that is older than the newest it has
        seen, a conductor refuses an outcome of any but the newest.
    :ivar deadline: when the conductor will have given up, if it hears nothing: not worth taking in after that.
    """

    VERSION: ClassVar[str] = "1.0"
    action_id: str
    instance_uuid: UUID
    step: str
    sequence: int
    attempt: int
    sent_at: Moment
    deadline: Moment

    @property
    def visit(self) -> int:
        """What an order has in common with those that are sent again of it, and with no other of its action.

        To send a step again raises both numbers; to come (back) to one raises the sequence, and begins with attempt 1.
        """
        return self.sequence - self.attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a compute reports of an order.

    :ivar data: JSON types that later steps of the task may use.
    :ivar fault: why it failed.
    """

    VERSION: ClassVar[str] = "1.0"
    order: Order
    host: str
    result: Result
    received_at: Moment
    started_at: Moment
    finished_at: Moment
    data: dict[str, Any] = field(default_factory=dict)
    fault: Fault | None = None
