"""Run a daemon, and start it again when a signal has ended it: ``python -m tools.cluster.respawn COMMAND …``.

So a cluster can be tried with ``kill -9``: honcho ends all that it has started as soon as one of them ends.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

_PAUSE = 1.0
"""Seconds before it is started again: time for its workers to notice, and for whoever wants to see it gone."""


class Respawner:
    """Keeps one daemon running until it is told to stop."""

    def __init__(self, command: Sequence[str]) -> None:
        """Prepare to run ``command``."""
        self._command = command
        self._daemon: subprocess.Popen[bytes] | None = None
        self._told = 0

    def run(self) -> int:
        """Run the daemon until it ends by itself, or has to; return its exit status."""
        status = 0
        while not self._told:
            # Of a group of its own: it hears of honcho's signals by what is forwarded alone, and so only once.
            self._daemon = subprocess.Popen(self._command, process_group=0)
            if self._told:
                # Just before there was nobody to tell.
                self._daemon.send_signal(self._told)
            status = self._daemon.wait()
            if status >= 0:
                return status
            if not self._told:
                sys.stderr.write(f"ended by {signal.Signals(-status).name}, started again\n")
                time.sleep(_PAUSE)
        return 128 - status

    def forward(self, number: int, _frame: FrameType | None) -> None:
        """Have the daemon stop, and not start again."""
        self._told = number
        if self._daemon is not None:
            self._daemon.send_signal(number)


def main() -> int:
    """Run the command line's daemon and return the exit status."""
    respawner = Respawner(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, respawner.forward)
    return respawner.run()


if __name__ == "__main__":
    sys.exit(main())
