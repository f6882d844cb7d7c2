"""A sample of the crash matrix; ``tox -e crash-matrix`` does all of it."""

import os
import signal
import subprocess
import sys

import pytest

from tests.fixtures.services.services import Services

_CELLS = "30"
_SEED = os.environ.get("MINOVA_MATRIX_SEED")
"""Of the choice of cells; without it each run makes another, and tells which."""


@pytest.mark.timeout(900, method="signal")
def test_a_sample_of_the_crash_matrix_holds(services: Services) -> None:
    # Skips where they are not installed.
    assert services.rabbitmq
    assert services.postgresql
    # On its own: it forks, and pytest's processes have threads.
    command = [sys.executable, "-m", "tests.matrix", "--sample", _CELLS, "--jobs", "3"]
    command += ["--seed", _SEED] if _SEED else []
    matrix = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        told, _none = matrix.communicate()
    finally:
        if matrix.poll() is None:
            # As by Ctrl-C, so that all of its processes stop what they have started.
            os.killpg(matrix.pid, signal.SIGINT)
            matrix.wait()
    assert matrix.returncode == 0, told
