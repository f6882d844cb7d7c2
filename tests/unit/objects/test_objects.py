"""Every wire object keeps the rules that let old and new services talk to each other."""

import dataclasses
import re

import pytest

from minova import objects
from minova.objects import WIRE_TYPES, WireObject, utcnow
from tests.unit.examples import example

every_type = pytest.mark.parametrize("wire_type", WIRE_TYPES, ids=lambda kind: kind.__name__)


@every_type
def test_is_frozen_and_has_slots(wire_type: type[WireObject]) -> None:
    thing = example(wire_type)
    name = dataclasses.fields(wire_type)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(thing, name, "other")
    assert not hasattr(thing, "__dict__")


@every_type
def test_takes_keywords_only(wire_type: type[WireObject]) -> None:
    assert all(field.kw_only for field in dataclasses.fields(wire_type))


@every_type
def test_has_a_version(wire_type: type[WireObject]) -> None:
    assert re.fullmatch(r"[1-9]\d*\.\d+", wire_type.VERSION)
    assert "VERSION" not in {field.name for field in dataclasses.fields(wire_type)}


@every_type
def test_describes_itself(wire_type: type[WireObject]) -> None:
    assert wire_type.__doc__
    assert not wire_type.__doc__.startswith(f"{wire_type.__name__}(")


def test_all_are_listed() -> None:
    """A dataclass that lives in the package but is not listed could not travel."""
    defined = {
        value
        for name in dir(objects)
        if dataclasses.is_dataclass(value := getattr(objects, name)) and isinstance(value, type)
    }
    assert defined == set(WIRE_TYPES)


def test_names_are_unique() -> None:
    assert len({kind.__name__ for kind in WIRE_TYPES}) == len(WIRE_TYPES)


def test_utcnow_is_aware() -> None:
    offset = utcnow().utcoffset()
    assert offset is not None
    assert not offset
