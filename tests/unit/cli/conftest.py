"""What the tests of the commands share."""

import pytest

from tests.unit.cli.rig import Manage


@pytest.fixture
def manage() -> Manage:
    return Manage()
