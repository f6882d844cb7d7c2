"""What minova says of its libraries' options."""

import pytest
from oslo_config import cfg

from minova.conf.advice import DATABASE, RABBIT, advise
from minova.conf.load import all_opts, set_defaults


def test_what_is_said_is_said_once() -> None:
    option = cfg.StrOpt("ssl", help="Use it")
    for _ in range(2):
        advise([option], {"ssl": "Or not."})
    assert option.help == "Use it. Or not."


@pytest.mark.parametrize(
    ("section", "name", "said"),
    [("oslo_messaging_rabbit", name, said) for name, said in RABBIT.items()]
    + [("database", name, said) for name, said in DATABASE.items()],
)
def test_what_is_said_is_said_of_an_option(section: str, name: str, said: str) -> None:
    set_defaults()
    [found] = [each for group, options in all_opts() if group == section for each in options if each.dest == name]
    assert said in str(found.help)
