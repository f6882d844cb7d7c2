"""What all tests need before anything of oslo's is imported."""

from minova.cmd import init_backend

init_backend()
