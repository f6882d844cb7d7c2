"""Orders, and what waits for their outcomes."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from oslo_config import cfg

from minova.compute.lease import HostLease
from minova.compute.work import Job
from minova.objects import Order, Outcome, utcnow
from tests.unit.clock import Clock

PATIENCE = 10.0
"""Seconds after which what is waited for will not happen any more."""


def a_lease(conf: cfg.ConfigOpts, clock: Clock | None = None) -> HostLease:
    """Return a lease that holds."""
    lease = HostLease(conf, clock or Clock())
    lease.renew(lease.now())
    return lease


def an_order(
    action: str = "action1",
    *,
    guest: str = "guest1",
    step: str = "power_on",
    sequence: int = 1,
    attempt: int = 1,
    lasts: float = 60.0,
    sent: float = 0.0,
) -> Order:
    """Return an order that was sent so many seconds ago, and is worth beginning for so many from now on."""
    now = utcnow()
    return Order(
        action_id=action,
        instance_uuid=guest,
        step=step,
        sequence=sequence,
        attempt=attempt,
        sent_at=now - timedelta(seconds=sent),
        deadline=now + timedelta(seconds=lasts),
    )


class Gate:
    """Work that begins, and ends when it is told so."""

    def __init__(self) -> None:
        self._begun = threading.Semaphore(0)
        self._opened = threading.Event()
        self.runs = 0

    def __call__(self, _job: Job) -> dict[str, Any]:
        self.runs += 1
        self._begun.release()
        assert self._opened.wait(PATIENCE), "the gate was never opened"
        return {}

    def wait(self) -> None:
        """Wait until the work has begun, or has begun once more."""
        assert self._begun.acquire(timeout=PATIENCE), "the work was never begun"

    def open(self) -> None:
        self._opened.set()


class Delivered:
    """Takes outcomes, and waits for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.outcomes: list[Outcome] = []

    def __call__(self, outcome: Outcome) -> None:
        with self._changed:
            self.outcomes.append(outcome)
            self._changed.notify_all()

    def wait(self, count: int) -> list[Outcome]:
        """Wait for so many outcomes, and return them in the order in which they came."""
        self.until(lambda: len(self.outcomes) >= count)
        assert len(self.outcomes) == count
        return self.outcomes

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        with self._changed:
            # Not all that is waited for comes with an outcome.
            while not self._changed.wait_for(condition, 0.01):
                assert time.monotonic() < deadline, f"only these came: {self.outcomes}"
