"""What all tests need before anything of oslo's is imported."""

import os
import signal

import pytest

from minova.cmd import init_backend

init_backend()

# A shell has what it runs in the background ignore Ctrl-C, and what that starts ignores it too: tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What is collected by way of other modules.
pytest.register_assert_rewrite("tests.contract")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return more than there are processors, unless xdist is told: tests of whole services mostly wait for these."""
    told = "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ
    return None if told else len(os.sched_getaffinity(0)) + 2
