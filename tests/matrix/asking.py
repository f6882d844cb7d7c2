"""What an operator asks of the services while they die and come back."""

import threading
from collections.abc import Callable
from contextlib import suppress

from minova.context import RequestContext, working_for
from minova.exception import PeerSilent

_MOST_TIMES = 20
"""How often is asked for one thing: for longer than anybody is dead for."""


def insist(ask: Callable[[], object]) -> None:
    """Ask as an operator would: if no answer comes, for who was asked may be dead or just be starting, again."""
    for _ in range(_MOST_TIMES - 1):
        with suppress(PeerSilent):
            ask()
            return
    ask()


class Background:
    """Something that is being done, and what came of it."""

    def __init__(self, work: Callable[[], str], ctxt: RequestContext) -> None:
        self._ctxt = ctxt
        self._result = ""
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def done(self) -> bool:
        """Return whether it has ended."""
        return not self._thread.is_alive()

    def result(self) -> str:
        """Wait for its end, and return or raise what came of it."""
        self._thread.join(60)
        assert self.done(), "the operator still waits for an answer"
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self, work: Callable[[], str]) -> None:
        try:
            with working_for(self._ctxt):
                self._result = work()
        except BaseException as error:
            self._error = error
