"""What all tests need before anything of oslo's is imported."""

import pytest

from minova.cmd import init_backend

init_backend()

# What is collected by way of other modules.
pytest.register_assert_rewrite("tests.contract")
