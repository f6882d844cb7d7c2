"""A sample of the crash matrix; ``tox -e crash-matrix`` does all of it."""

import os
import subprocess
import sys

import pytest

from tests.fixtures.services.services import Services

_CELLS = "45"
_SEED = os.environ.get("MINOVA_MATRIX_SEED")
"""Of the choice of cells; without it each run makes another, and tells which."""


@pytest.mark.timeout(900, method="signal")
def test_a_sample_of_the_crash_matrix_holds(services: Services) -> None:
    # Skips where they are not installed.
    assert services.rabbitmq
    assert services.postgresql
    # On its own: it forks, and pytest's processes have threads.
    command = [sys.executable, "-m", "tests.matrix", "--sample", _CELLS, "--jobs", "3"]
    done = subprocess.run(
        [*command, *(["--seed", _SEED] if _SEED else [])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
