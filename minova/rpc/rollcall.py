"""A roll call: one message to all services at once, and each that is there says so."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import uuid4

import oslo_messaging
from oslo_config import cfg

from minova.context import RequestContext
from minova.objects import Presence
from minova.rpc.client import RPCAPI
from minova.rpc.server import expose, get_server
from minova.rpc.versions import History, Release

TOPIC = "rollcall"

HISTORY = History((Release(version="1.0", summary="The first.", methods=("present",)),))


class RollCallAPI(RPCAPI):
    """Client of those who call the roll: all of them hear each answer, and know theirs by the round."""

    TOPIC = TOPIC
    HISTORY = HISTORY

    def __init__(self, conf: cfg.ConfigOpts, transport: oslo_messaging.Transport) -> None:
        super().__init__(conf, transport, None)

    def present(self, ctxt: RequestContext, round_id: str, presence: Presence) -> None:
        """Cast to :meth:`RollCall.present`."""
        self._fanout(ctxt, "present", round_id=round_id, presence=presence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One that is there.

    :ivar seconds: how long its answer took.
    """

    presence: Presence
    seconds: float


class RollCall:
    """One round of it."""

    target = oslo_messaging.Target(version=HISTORY.version)

    def __init__(self) -> None:
        self.round_id = uuid4().hex
        self._started = time.monotonic()
        self._answers: list[Answer] = []
        self._changed = threading.Condition()

    @expose
    def present(self, ctxt: RequestContext, round_id: str, presence: Presence) -> None:
        """Take down who is there."""
        if round_id != self.round_id:
            return
        with self._changed:
            self._answers.append(Answer(presence=presence, seconds=time.monotonic() - self._started))
            self._changed.notify()

    def collect(self, complete: Callable[[Sequence[Answer]], bool], seconds: float) -> list[Answer]:
        """Return the answers once they are ``complete``, or those that came within ``seconds``."""
        with self._changed:
            self._changed.wait_for(lambda: complete(self._answers), seconds)
            return list(self._answers)


@contextmanager
def listen(transport: oslo_messaging.Transport) -> Iterator[RollCall]:
    """Make a round that hears answers; the caller sends ``ControlAPI.announce`` with its ``round_id``."""
    roll = RollCall()
    # All share two queues that are never used, and each has one of its own for the answers, which the broker forgets.
    server = get_server(transport, TOPIC, "anyone", [roll])
    server.start()
    try:
        yield roll
    finally:
        server.stop()
        server.wait()
