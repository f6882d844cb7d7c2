"""Outcomes are reported until a conductor has stored them."""

from collections.abc import Callable
from typing import cast

import oslo_messaging
import pytest

from minova.compute.outbox import Outbox
from minova.conductor.rpcapi import ConductorAPI
from minova.context import RequestContext
from minova.exception import PeerSilent, ServiceFault
from minova.objects import Outcome, Result, utcnow
from tests.unit.compute.rig import an_order

SILENT = PeerSilent(peer="any conductor", seconds=10)
FAULT = ServiceFault(service="conductor", method="report_outcome", kind="KeyError", reason="", request_id="req")


class Conductor:
    """Takes outcomes, once it has raised all errors that it was given."""

    def __init__(self) -> None:
        self.errors: dict[str, list[Exception]] = {}
        self.taken: list[str] = []
        self.before_taking: Callable[[], None] = lambda: None

    def report_outcome(self, ctxt: RequestContext, outcome: Outcome) -> None:
        action = outcome.order.action_id
        if self.errors.get(action):
            raise self.errors[action].pop(0)
        before, self.before_taking = self.before_taking, lambda: None
        before()
        self.taken.append(action)


@pytest.fixture
def conductor() -> Conductor:
    return Conductor()


@pytest.fixture
def outbox(conductor: Conductor) -> Outbox:
    return Outbox(cast("ConductorAPI", conductor))


def outcome(action: str, sequence: int = 1) -> Outcome:
    now = utcnow()
    order = an_order(action, sequence=sequence)
    return Outcome(order=order, host="host1", result=Result.SUCCEEDED, received_at=now, started_at=now, finished_at=now)


def test_outcome_that_is_taken_is_done_with(conductor: Conductor, outbox: Outbox) -> None:
    outbox.deliver(outcome("action1"))
    outbox.retry()
    assert conductor.taken == ["action1"]
    assert outbox.orders() == []


@pytest.mark.parametrize("error", [SILENT, oslo_messaging.MessageDeliveryFailure()])
def test_outcome_that_is_not_taken_is_reported_again(conductor: Conductor, outbox: Outbox, error: Exception) -> None:
    conductor.errors["action1"] = [error, error]
    outbox.deliver(outcome("action1", sequence=7))
    assert outbox.orders() == [("action1", 7)]
    outbox.retry()
    assert (conductor.taken, outbox.orders()) == ([], [("action1", 7)])
    outbox.retry()
    assert (conductor.taken, outbox.orders()) == (["action1"], [])


def test_outcomes_are_reported_again_in_their_order(conductor: Conductor, outbox: Outbox) -> None:
    actions = ["action1", "action2", "action3"]
    for action in actions:
        conductor.errors[action] = [SILENT]
        outbox.deliver(outcome(action))
    outbox.retry()
    assert conductor.taken == actions


def test_rest_waits_while_no_conductor_answers(conductor: Conductor, outbox: Outbox) -> None:
    conductor.errors = {"action1": [SILENT, SILENT], "action2": [SILENT]}
    for action in ("action1", "action2"):
        outbox.deliver(outcome(action))
    outbox.retry()
    assert conductor.taken == []
    assert outbox.orders() == [("action1", 1), ("action2", 1)]
    outbox.retry()
    assert conductor.taken == ["action1", "action2"]


def test_outcome_that_conductors_choke_on_does_not_hold_up_the_rest(conductor: Conductor, outbox: Outbox) -> None:
    conductor.errors = {"bad": [FAULT] * 3, "good": [FAULT]}
    for action in ("bad", "good"):
        outbox.deliver(outcome(action))
    outbox.retry()
    assert conductor.taken == ["good"]


def test_order_whose_outcome_conductors_choke_on_is_not_in_hand(conductor: Conductor, outbox: Outbox) -> None:
    """Else its lease would be renewed for ever, and nothing would ever end its action."""
    conductor.errors = {"bad": [FAULT] * 2}
    outbox.deliver(outcome("bad"))
    assert outbox.orders() == []
    outbox.retry()
    outbox.retry()
    assert (conductor.taken, outbox.orders()) == (["bad"], [])


def test_outcome_that_is_on_its_way_is_not_sent_by_another_thread_too(conductor: Conductor, outbox: Outbox) -> None:
    conductor.before_taking = outbox.retry
    outbox.deliver(outcome("action1"))
    assert conductor.taken == ["action1"]
    assert outbox.orders() == []


def test_it_tells_of_a_guest_what_is_done_and_was_not_taken_yet(conductor: Conductor, outbox: Outbox) -> None:
    conductor.errors = {"kept": [SILENT]}
    outbox.deliver(outcome("kept", sequence=3))
    outbox.deliver(outcome("taken"))
    [held] = outbox.held_for("guest1")
    assert (held.action_id, held.step, held.sequence, held.done) == ("kept", "power_on", 3, True)
    assert outbox.held_for("guest2") == []
    outbox.retry()
    assert outbox.held_for("guest1") == []
