"""Every option of minova, one module per group. No module reads a global configuration: ``cmd/`` hands it down."""

import copy
from collections.abc import Iterable
from types import ModuleType

from oslo_config import cfg

from minova.conf import (
    base,
    compute,
    conductor,
    embedded,
    fake,
    image_cache,
    libvirt,
    notifications,
    rpc,
    scheduler,
    upgrade_levels,
)

GROUPS: tuple[ModuleType, ...] = (
    base,
    compute,
    conductor,
    embedded,
    fake,
    image_cache,
    libvirt,
    notifications,
    rpc,
    scheduler,
    upgrade_levels,
)

DEFAULT_CONNECTION = "sqlite:///$state_path/minova.sqlite"
"""The embedded default for ``[database] connection``."""


def register_opts(conf: cfg.ConfigOpts) -> None:
    """Register every option of minova."""
    for module in GROUPS:
        # A group that is registered twice shares the values that were set with the other configuration.
        conf.register_opts(module.OPTS, group=copy.deepcopy(module.GROUP))


def list_opts() -> Iterable[tuple[cfg.OptGroup | str, list[cfg.Opt]]]:
    """Return (group, options) of every group, for oslo-config-generator."""
    return [(module.GROUP or "DEFAULT", copy.deepcopy(module.OPTS)) for module in GROUPS]
