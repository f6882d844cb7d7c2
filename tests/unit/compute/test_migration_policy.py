"""What is left open is as the source is configured."""

from dataclasses import fields
from typing import Any

import pytest
from oslo_config import cfg

from minova.compute.migration_policy import effective
from minova.db import convert
from minova.objects import MigrationOptions
from minova.states import TimeoutAction
from tests.unit.rows import an_instance

INSTANCE = convert.instance(an_instance("guest1", memory_mb=2048))

CONFIGURED: dict[str, Any] = {
    "live_migration_downtime": 120,
    "live_migration_completion_timeout": 10,
    "live_migration_timeout_action": "force_complete",
    "live_migration_permit_auto_converge": True,
}

ASKED = MigrationOptions(
    block_migration=True,
    bandwidth_mib=7,
    max_downtime_ms=1,
    auto_converge=False,
    post_copy=False,
    timeout=0,
    timeout_action=TimeoutAction.ABORT,
)


def merged(conf: cfg.ConfigOpts, options: MigrationOptions, **configured: Any) -> MigrationOptions:
    for name, value in configured.items():
        conf.set_override(name, value, "compute")
    return effective(options, conf, INSTANCE)


def test_nothing_but_the_bandwidth_is_left_open(conf: cfg.ConfigOpts) -> None:
    found = merged(conf, MigrationOptions())
    assert [field.name for field in fields(found) if getattr(found, field.name) is None] == ["bandwidth_mib"]


def test_configuration_counts_where_nothing_is_asked(conf: cfg.ConfigOpts) -> None:
    assert merged(conf, MigrationOptions(), **CONFIGURED) == MigrationOptions(
        max_downtime_ms=120,
        auto_converge=True,
        post_copy=False,
        timeout=20,
        timeout_action=TimeoutAction.FORCE_COMPLETE,
    )


def test_what_is_asked_counts_even_if_it_is_no_or_nothing(conf: cfg.ConfigOpts) -> None:
    assert merged(conf, ASKED, **CONFIGURED, live_migration_permit_post_copy=True) == ASKED


@pytest.mark.parametrize(
    ("asked", "slows_down"),
    [
        (MigrationOptions(), False),
        (MigrationOptions(post_copy=False), True),
        (MigrationOptions(auto_converge=True), True),
    ],
    ids=str,
)
def test_where_post_copy_is_permitted_nobody_is_slowed_down_unasked(
    conf: cfg.ConfigOpts, asked: MigrationOptions, slows_down: bool
) -> None:
    found = merged(conf, asked, live_migration_permit_post_copy=True, live_migration_permit_auto_converge=True)
    assert found.auto_converge is slows_down
