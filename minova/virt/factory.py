"""Drivers by the names that the configuration uses."""

from collections.abc import Callable, Mapping

from oslo_config import cfg

from minova import failpoints
from minova.virt.driver import ComputeDriver
from minova.virt.fake import FakeDriver

_DRIVERS: Mapping[str, Callable[[cfg.ConfigOpts, str], ComputeDriver]] = {"fake": FakeDriver}


def make_driver(conf: cfg.ConfigOpts, host: str) -> ComputeDriver:
    """Return the driver that ``[compute] driver`` names, for ``host``. :raises ConfigurationError:"""
    return failpoints.tapped(_DRIVERS[conf.compute.driver](conf, host), "driver")
