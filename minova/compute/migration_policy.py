"""How live migrations are done, as far as those who ask for them leave that open."""

import math
from dataclasses import fields, replace

from oslo_config import cfg

from minova.objects import Instance, MigrationOptions
from minova.states import TimeoutAction

_MIB_PER_GIB = 1024
_LEAST_GIB = 2
"""Nova's floor (``nova/virt/libvirt/driver.py``, ``_live_migration_data_gb``)."""


def effective(options: MigrationOptions, conf: cfg.ConfigOpts, instance: Instance) -> MigrationOptions:
    """Return options of which only the bandwidth may be None: what was left open is as this host is configured.

    As in Nova, permission to slow guests down is not used where there is that for post-copy; being asked for, it is.
    """
    ours = conf.compute
    post_copy = ours.live_migration_permit_post_copy if options.post_copy is None else options.post_copy
    configured = MigrationOptions(
        max_downtime_ms=ours.live_migration_downtime,
        auto_converge=ours.live_migration_permit_auto_converge and not post_copy,
        post_copy=post_copy,
        timeout=_time_limit(options, conf, instance),
        timeout_action=TimeoutAction(ours.live_migration_timeout_action),
    )
    asked = {field.name: getattr(options, field.name) for field in fields(options)}
    return replace(configured, **{name: value for name, value in asked.items() if value is not None})


def _time_limit(options: MigrationOptions, conf: cfg.ConfigOpts, instance: Instance) -> int:
    """Return the seconds that a migration may take for its size; 0: no limit."""
    gib = max(_LEAST_GIB, instance.memory_mb / _MIB_PER_GIB)
    gib += instance.disk_gb if options.block_migration else 0
    seconds: int = conf.compute.live_migration_completion_timeout
    return math.ceil(seconds * gib)
