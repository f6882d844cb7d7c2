"""Outcomes on their way: reported again and again until a conductor has stored them."""

import logging
import threading

import oslo_messaging

from minova.conductor.rpcapi import ConductorAPI
from minova.context import RequestContext, current_context, working_for
from minova.exception import MinovaError, PeerSilent
from minova.objects import HeldOrder, Outcome

LOG = logging.getLogger(__name__)


class Outbox:
    """Delivers outcomes to whichever conductor answers."""

    def __init__(self, conductor: ConductorAPI) -> None:
        self._conductor = conductor
        self._lock = threading.Lock()
        self._pending: list[tuple[RequestContext, Outcome]] = []
        self._rejected: set[tuple[str, int]] = set()
        self._underway: set[tuple[str, int]] = set()

    def deliver(self, outcome: Outcome) -> None:
        """Report an outcome for whom this thread works; if no conductor takes it now, keep it for :meth:`retry`."""
        ctxt = current_context()
        with self._lock:
            self._pending.append((ctxt, outcome))
        self._try(ctxt, outcome)

    def retry(self) -> None:
        """Report once more what was not taken so far, for as long as conductors answer."""
        with self._lock:
            pending = list(self._pending)
        for ctxt, outcome in pending:
            with working_for(ctxt):
                answered = self._try(ctxt, outcome)
            if not answered:
                break

    def orders(self) -> list[tuple[str, int]]:
        """Return (action id, sequence) of the orders whose outcomes are on their way.

        An outcome that a conductor could not store is not among them: nothing would ever end its action.
        """
        with self._lock:
            underway = [_order(outcome) for _ctxt, outcome in self._pending]
            return [order for order in underway if order not in self._rejected]

    def held_for(self, instance_uuid: str) -> list[HeldOrder]:
        """Return the orders for a guest that are done and whose outcomes no conductor has taken yet."""
        with self._lock:
            mine = [outcome for _ctxt, outcome in self._pending if outcome.order.instance_uuid == instance_uuid]
            return [HeldOrder.of(outcome.order, outcome.received_at, done=True) for outcome in mine]

    def _try(self, ctxt: RequestContext, outcome: Outcome) -> bool:
        """Report an outcome, unless another thread is about to; return whether there was an answer."""
        order = _order(outcome)
        with self._lock:
            if order in self._underway:
                return True
            self._underway.add(order)
        try:
            return self._report(ctxt, outcome)
        finally:
            with self._lock:
                self._underway.discard(order)

    def _report(self, ctxt: RequestContext, outcome: Outcome) -> bool:
        try:
            self._conductor.report_outcome(ctxt, outcome)
        except (PeerSilent, oslo_messaging.MessagingException):
            LOG.warning("No conductor took the outcome of %s yet", outcome.order.step)
            return False
        except MinovaError as error:
            # What is wrong with this one does not keep others back.
            LOG.warning("The outcome of %s was not taken yet: %s", outcome.order.step, error.message)
            with self._lock:
                self._rejected.add(_order(outcome))
            return True
        with self._lock:
            self._pending = [each for each in self._pending if each[1] is not outcome]
            self._rejected.discard(_order(outcome))
        return True


def _order(outcome: Outcome) -> tuple[str, int]:
    return outcome.order.action_id, outcome.order.sequence
