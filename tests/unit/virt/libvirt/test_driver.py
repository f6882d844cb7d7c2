"""What the libvirt driver does without libvirt."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from oslo_config import cfg

pytest.importorskip("libvirt")

from minova import conf as minova_conf
from minova.virt.libvirt.driver import LibvirtDriver
from minova.virt.libvirt.images import ImageCache


def test_no_image_is_removed_while_the_guests_that_use_it_are_not_to_be_seen(tmp_path: Path) -> None:
    conf = cfg.ConfigOpts()
    minova_conf.register_opts(conf)
    conf(args=[], default_config_files=[], default_config_dirs=[])
    conf.set_override("state_path", str(tmp_path))
    cleaned: list[str] = []
    images = SimpleNamespace(clean_up=lambda: cleaned.append("images"))
    driver = LibvirtDriver(conf, "host1", cast("ImageCache", images))
    instances = tmp_path / "instances"
    instances.rename(tmp_path / "unmounted")
    instances.mkdir()
    driver.manage_image_cache()
    assert not cleaned
    instances.rmdir()
    (tmp_path / "unmounted").rename(instances)
    driver.manage_image_cache()
    assert cleaned == ["images"]
