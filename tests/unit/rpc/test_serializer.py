"""What goes over the wire comes out as it was, and what is broken is refused."""

import dataclasses
import json
from typing import Any

import pytest
from oslo_context import context

from minova.context import RequestContext
from minova.exception import InvalidInput
from minova.objects import WIRE_TYPES, BootRequest, Guest, HostReport, MigrationOptions, WireObject
from minova.rpc.serializer import Serializer
from tests.unit.examples import example

every_type = pytest.mark.parametrize("wire_type", WIRE_TYPES, ids=lambda kind: kind.__name__)


def over_the_wire(ctxt: RequestContext, entity: Any) -> Any:
    sent = json.dumps(Serializer().serialize_entity(ctxt, entity))
    return Serializer().deserialize_entity(ctxt, json.loads(sent))


def packed(ctxt: RequestContext, entity: WireObject, version: str | None = None, **changes: Any) -> dict[str, Any]:
    """Return the entity as it travels, with some of its fields changed."""
    sent: dict[str, Any] = json.loads(json.dumps(Serializer().serialize_entity(ctxt, entity)))
    sent["minova.data"].update(changes)
    if version:
        sent["minova.version"] = version
    return sent


@every_type
def test_round_trip(ctxt: RequestContext, wire_type: type[WireObject]) -> None:
    sent = example(wire_type)
    received = over_the_wire(ctxt, sent)
    assert type(received) is wire_type
    assert received == sent


@every_type
def test_unknown_fields_are_ignored(ctxt: RequestContext, wire_type: type[WireObject]) -> None:
    sent = example(wire_type)
    newer = packed(ctxt, sent, field_of_the_future={"x": 1})
    assert Serializer().deserialize_entity(ctxt, newer) == sent


@every_type
def test_newer_minor_version_is_understood(ctxt: RequestContext, wire_type: type[WireObject]) -> None:
    sent = example(wire_type)
    major = wire_type.VERSION.partition(".")[0]
    assert Serializer().deserialize_entity(ctxt, packed(ctxt, sent, version=f"{major}.99")) == sent


@every_type
def test_other_major_version_is_refused(ctxt: RequestContext, wire_type: type[WireObject]) -> None:
    with pytest.raises(InvalidInput, match=f"{wire_type.__name__} 99.0 is not compatible"):
        Serializer().deserialize_entity(ctxt, packed(ctxt, example(wire_type), version="99.0"))


def test_no_version_is_refused(ctxt: RequestContext) -> None:
    sent = packed(ctxt, MigrationOptions())
    del sent["minova.version"]
    with pytest.raises(InvalidInput, match="not compatible"):
        Serializer().deserialize_entity(ctxt, sent)


@every_type
def test_missing_fields_get_their_defaults(ctxt: RequestContext, wire_type: type[WireObject]) -> None:
    for field in dataclasses.fields(wire_type):
        sent = packed(ctxt, example(wire_type))
        del sent["minova.data"][field.name]
        if field.default is not dataclasses.MISSING:
            assert getattr(Serializer().deserialize_entity(ctxt, sent), field.name) == field.default
        elif field.default_factory is not dataclasses.MISSING:
            assert getattr(Serializer().deserialize_entity(ctxt, sent), field.name) == field.default_factory()
        else:
            with pytest.raises(InvalidInput, match=field.name):
                Serializer().deserialize_entity(ctxt, sent)


@pytest.mark.parametrize(
    "changes",
    [{"vcpus": "two"}, {"vcpus": None}, {"vcpus": 1.5}, {"name": 7}, {"host": ["a"]}],
    ids=str,
)
def test_wrong_types_are_refused(ctxt: RequestContext, changes: dict[str, Any]) -> None:
    sent = packed(ctxt, example(BootRequest), **changes)
    with pytest.raises(InvalidInput, match=f"bad BootRequest: .*{next(iter(changes))}"):
        Serializer().deserialize_entity(ctxt, sent)


def test_unknown_enum_member_is_refused(ctxt: RequestContext) -> None:
    with pytest.raises(InvalidInput, match="bad Guest"):
        Serializer().deserialize_entity(ctxt, packed(ctxt, example(Guest), power_state="exploded"))


@pytest.mark.parametrize("data", [None, [], "text", 3], ids=str)
def test_fields_that_are_no_fields_are_refused(ctxt: RequestContext, data: Any) -> None:
    sent = packed(ctxt, example(Guest))
    sent["minova.data"] = data
    with pytest.raises(InvalidInput, match="bad Guest"):
        Serializer().deserialize_entity(ctxt, sent)


def test_unknown_type_is_refused(ctxt: RequestContext) -> None:
    sent = packed(ctxt, example(Guest))
    sent["minova.object"] = "Popen"
    with pytest.raises(InvalidInput, match="unknown type Popen"):
        Serializer().deserialize_entity(ctxt, sent)


@pytest.mark.parametrize("entity", [None, True, 3, 0.5, "text", {"a": [1, {"b": None}]}, [], [[1], "a"]], ids=str)
def test_plain_values_stay_as_they_are(ctxt: RequestContext, entity: Any) -> None:
    assert over_the_wire(ctxt, entity) == entity


def test_objects_in_lists_and_tuples(ctxt: RequestContext) -> None:
    guest, options = example(Guest), MigrationOptions()
    assert over_the_wire(ctxt, [guest, [options, "text"]]) == [guest, [options, "text"]]
    assert over_the_wire(ctxt, (guest, options)) == [guest, options]


def test_a_namesake_is_no_wire_object(ctxt: RequestContext) -> None:
    namesake = type("Guest", (), {})()
    assert Serializer().serialize_entity(ctxt, namesake) is namesake


def test_objects_inside_objects(ctxt: RequestContext) -> None:
    report = example(HostReport)
    received = over_the_wire(ctxt, report)
    assert received.guests == report.guests
    assert received.orders == (("söme text", 7),) * 2


def test_context_round_trip(ctxt: RequestContext) -> None:
    sent = json.loads(json.dumps(Serializer().serialize_context(ctxt)))
    received = Serializer().deserialize_context(sent)
    assert (received.user_id, received.request_id) == ("someone", ctxt.request_id)


def test_received_context_becomes_the_threads(ctxt: RequestContext) -> None:
    sent = Serializer().serialize_context(ctxt)
    RequestContext(user="somebody else")
    received = Serializer().deserialize_context(sent)
    assert context.get_current() is received
