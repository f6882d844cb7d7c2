"""Drivers by the names that the configuration uses."""

from collections.abc import Callable, Mapping
from pathlib import Path

from oslo_config import cfg

from minova import failpoints
from minova.exception import ConfigurationError
from minova.virt.driver import ComputeDriver
from minova.virt.fake import FakeDriver


def make_driver(conf: cfg.ConfigOpts, host: str) -> ComputeDriver:
    """Return the driver that ``[compute] driver`` names, for ``host``. :raises ConfigurationError:"""
    return failpoints.tapped(_DRIVERS[conf.compute.driver](conf, host), "driver")


def _make_libvirt_driver(conf: cfg.ConfigOpts, host: str) -> ComputeDriver:
    try:
        # Not everybody has what this needs.
        from minova.virt.libvirt.driver import LibvirtDriver
        from minova.virt.libvirt.images import ImageCache
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("minova"):
            raise
        reason = f"[compute] driver = libvirt needs {error.name}, which is not installed: pip install 'minova[libvirt]'"
        raise ConfigurationError(reason=reason) from None
    options = conf.libvirt
    images = ImageCache(conf, host, Path(options.image_cache_path), Path(options.instances_path))
    return LibvirtDriver(conf, host, images)


_DRIVERS: Mapping[str, Callable[[cfg.ConfigOpts, str], ComputeDriver]] = {
    "fake": FakeDriver,
    "libvirt": _make_libvirt_driver,
}
