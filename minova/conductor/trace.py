"""The trace of an action: every hop, with who did it, when, and how it ended."""

from datetime import datetime

from sqlalchemy.orm import Session

from minova.db import models
from minova.objects import Hop, Outcome, Result, utcnow


def add(
    session: Session,
    action: models.Action,
    hop: Hop,
    service: str,
    started_at: datetime,
    result: Result = Result.SUCCEEDED,
    *,
    step: str = "",
    finished_at: datetime | None = None,
    message: str = "",
) -> None:
    """Add one line; ``step`` is the action's current one and ``finished_at`` is now unless told otherwise."""
    session.add(
        models.ActionEvent(
            action_id=action.id,
            step=step or action.step,
            hop=hop,
            service=service,
            attempt=action.attempt,
            started_at=started_at,
            finished_at=finished_at or utcnow(),
            result=result,
            message=message,
        )
    )


def add_outcome(session: Session, action: models.Action, service: str, outcome: Outcome) -> None:
    """Add the three hops that an outcome tells of: the cast, the work, and the report to ``service``.

    The clocks of two hosts are compared here; they should be kept in step, as by NTP.
    """
    order, compute = outcome.order, f"compute:{outcome.host}"
    message = outcome.fault.message if outcome.fault else str(outcome.data.get("note", ""))
    # Work that was in hand already when its order was sent again has no cast before it.
    arrived_at = max(order.sent_at, outcome.received_at)
    add(session, action, Hop.CAST, service, order.sent_at, step=order.step, finished_at=arrived_at)
    add(
        session,
        action,
        Hop.WORK,
        compute,
        outcome.started_at,
        outcome.result,
        step=order.step,
        finished_at=outcome.finished_at,
        message=message,
    )
    add(session, action, Hop.REPORT, compute, outcome.finished_at, step=order.step)
