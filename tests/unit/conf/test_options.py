"""Every option of minova says what it is for, of which type, and within which bounds."""

from typing import Any

import pytest
from oslo_config import cfg

from minova import conf as minova_conf
from minova.conf import rpc, upgrade_levels
from minova.rpc.client import Timeout

OPTIONS = [(str(group), option) for group, options in minova_conf.list_opts() for option in options]

every_option = pytest.mark.parametrize(
    ("section", "option"), OPTIONS, ids=[f"{section}.{option.dest}" for section, option in OPTIONS]
)


@every_option
def test_has_a_help_text(section: str, option: cfg.Opt) -> None:
    assert option.help
    assert option.help.endswith(".")


@every_option
def test_has_a_valid_default(section: str, option: cfg.Opt) -> None:
    assert option.default is not None
    option.type(str(option.default) if not isinstance(option.default, list) else ",".join(option.default))


@every_option
def test_numbers_have_bounds(section: str, option: cfg.Opt) -> None:
    if isinstance(option, cfg.IntOpt | cfg.FloatOpt) and not option.dest.endswith("_multiplier"):
        kind: Any = option.type
        assert kind.min is not None
        assert kind.max is not None
        with pytest.raises(ValueError, match="greater"):
            kind(str(kind.min - 1))


def test_names_are_unique() -> None:
    names = [(section, option.dest) for section, option in OPTIONS]
    assert len(set(names)) == len(names)


def test_groups_have_a_title() -> None:
    assert all(group == "DEFAULT" or group.title for group, _options in minova_conf.list_opts())


def test_configurations_do_not_share_values() -> None:
    first, second = cfg.ConfigOpts(), cfg.ConfigOpts()
    for conf in (first, second):
        minova_conf.register_opts(conf)
        conf([], default_config_files=[], default_config_dirs=[])
    first.set_override("hosts", 9, "embedded")
    assert second.embedded.hosts == 2


def test_every_class_of_timeouts_is_an_option() -> None:
    assert {timeout.value for timeout in Timeout} <= {option.dest for option in rpc.OPTS}


@pytest.mark.parametrize("level", ["auto", "1.0", "12.34"])
def test_valid_levels(level: str) -> None:
    assert upgrade_levels.OPTS[0].type(level) == level


@pytest.mark.parametrize("level", ["", "1", "1.", "v1.0", "1.0.0", "latest", "auto1.0"])
def test_invalid_levels(level: str) -> None:
    with pytest.raises(ValueError, match="regex"):
        upgrade_levels.OPTS[0].type(level)
