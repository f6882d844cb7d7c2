"""The clock by which waiting is measured."""

import time


def uptime() -> float:
    """Return the seconds since the machine was started: unlike those of ``time.monotonic``, with those it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
