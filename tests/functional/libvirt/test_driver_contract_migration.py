"""The libvirt driver does what every virt driver has to do about live migrations."""

from tests.contract.migration import *  # noqa: F403
