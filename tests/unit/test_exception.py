"""Every error crosses the wire as itself, and says in one line what is wrong."""

import inspect
import re
import sys
import typing
from dataclasses import fields
from typing import Any

import oslo_messaging
import pytest
from oslo_messaging._drivers import common

from minova import exception, exception_images, exception_moves
from minova.exception import EXCHANGED_MODULES, MinovaError, NotFound
from minova.rpc.client import _own_type

MODULES = (exception, exception_images, exception_moves)

EXAMPLES: dict[Any, Any] = {
    str: "söme text",
    float: 2.5,
    list[str]: ["one", "two"],
    dict[str, int]: {"RamFilter": 2, "DiskFilter": 1},
}


def kinds(base: type[MinovaError] = MinovaError) -> list[type[MinovaError]]:
    found = [base]
    for kind in base.__subclasses__():
        if kind.__module__ in {module.__name__ for module in MODULES}:
            found += kinds(kind)
    return found


def example(kind: type[MinovaError]) -> MinovaError:
    hints = typing.get_type_hints(kind)
    return kind(**{field.name: EXAMPLES[hints[field.name]] for field in fields(kind)})


def over_the_wire(error: MinovaError) -> Exception:
    try:
        raise error
    except MinovaError:
        sent = common.serialize_remote_exception(sys.exc_info())
    received: Exception = common.deserialize_remote_exception(sent, EXCHANGED_MODULES)
    return received


every_kind = pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)


@every_kind
def test_survives_the_wire_as_its_own_type(kind: type[MinovaError]) -> None:
    error = example(kind)
    received = over_the_wire(error)
    assert isinstance(received, kind)
    own = _own_type(received)
    assert type(own) is kind
    assert own.kwargs == error.kwargs
    assert str(own) == str(error)


@every_kind
def test_survives_a_second_wire(kind: type[MinovaError]) -> None:
    """As when a conductor passes on what a compute answered."""
    error = example(kind)
    received = over_the_wire(error)
    assert isinstance(received, MinovaError)
    again = over_the_wire(received)
    assert isinstance(again, MinovaError)
    assert type(_own_type(again)) is kind


@every_kind
def test_message_is_one_line(kind: type[MinovaError]) -> None:
    error = example(kind)
    assert str(error) == error.message
    assert error.message
    assert "\n" not in error.message


@every_kind
def test_fields_are_all_in_the_message(kind: type[MinovaError]) -> None:
    """Else nobody would miss them."""
    error = example(kind)
    for name, value in error.kwargs.items():
        words = list(value) if isinstance(value, list | dict) else [f"{value:g}" if name == "seconds" else str(value)]
        assert all(word in error.message for word in words)


@every_kind
def test_describes_itself(kind: type[MinovaError]) -> None:
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")


@every_kind
def test_fields_are_keywords_and_required(kind: type[MinovaError]) -> None:
    parameters = inspect.signature(kind).parameters.values()
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters)
    assert all(parameter.default is parameter.empty for parameter in parameters)


def test_foreign_errors_are_no_type_of_ours() -> None:
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError:
        sent = common.serialize_remote_exception(sys.exc_info())
    received = common.deserialize_remote_exception(sent.replace("builtins", "os"), EXCHANGED_MODULES)
    assert isinstance(received, oslo_messaging.RemoteError)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert drawn_tree() == {kind.__name__: kind.__bases__[0].__name__ for kind in kinds() if kind is not MinovaError}


def drawn_tree() -> dict[str, str]:
    """Return class to base, as drawn."""
    parents: dict[str, str] = {}
    above = {0: "MinovaError"}
    for line in str(exception.__doc__).splitlines():
        drawn = re.match(r"^ {4}([│├└─ ]+)(\w+(?:, \w+)*)", line)
        if drawn:
            depth = len(drawn[1]) // 4
            for name in drawn[2].split(", "):
                parents[name] = above[depth - 1]
                above[depth] = name
    return parents


@pytest.mark.parametrize("kind", NotFound.__subclasses__(), ids=lambda kind: kind.__name__)
def test_what_is_missing_is_named(kind: type[NotFound]) -> None:
    thing = kind.__name__.removesuffix("NotFound").lower()
    assert str(kind(name="web")) == f"no such {thing}: web"
