"""The libvirt driver does what every virt driver has to do with guests."""

from tests.contract.lifecycle import *  # noqa: F403
