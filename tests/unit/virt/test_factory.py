"""Drivers by name, and what is told where one cannot be had."""

import sys

import pytest
from oslo_config import cfg

from minova.exception import ConfigurationError
from minova.virt.factory import make_driver
from minova.virt.fake import FakeDriver


def test_the_default_is_fake(conf: cfg.ConfigOpts) -> None:
    assert isinstance(make_driver(conf, "host1"), FakeDriver)


def test_without_libvirt_python_the_libvirt_driver_says_how_to_get_it(
    conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf.set_override("driver", "libvirt", group="compute")
    for name in [name for name in sys.modules if name.startswith("minova.virt.libvirt")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "libvirt", None)
    with pytest.raises(ConfigurationError) as caught:
        make_driver(conf, "host1")
    assert caught.value.message == (
        "configuration: [compute] driver = libvirt needs libvirt, which is not installed: pip install 'minova[libvirt]'"
    )
