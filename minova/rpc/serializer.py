"""Wire objects and contexts to JSON types and back."""

from typing import Any

import msgspec
from oslo_messaging import serializer

from minova.context import RequestContext
from minova.exception import InvalidInput
from minova.objects import WIRE_TYPES
from minova.objects.base import DATA, TYPE, VERSION
from minova.objects.wire import to_wire

_TYPES = {wire_type.__name__: wire_type for wire_type in WIRE_TYPES}


class Serializer(serializer.Serializer):  # type: ignore[misc]  # oslo.messaging has no types
    """Sends a wire object as its class name, version and fields; lists of them too; other values as they are."""

    def serialize_entity(self, ctxt: RequestContext, entity: Any) -> Any:
        """Return ``entity`` as JSON types."""
        if isinstance(entity, tuple | list):
            return [self.serialize_entity(ctxt, item) for item in entity]
        wire_type = _TYPES.get(type(entity).__name__)
        if wire_type is None or not isinstance(entity, wire_type):
            return entity
        return to_wire(entity)

    def deserialize_entity(self, ctxt: RequestContext, entity: Any) -> Any:
        """Return what :meth:`serialize_entity` was given.

        :raises InvalidInput: not an object that this side knows, or its fields have wrong types.
        """
        if isinstance(entity, list):
            return [self.deserialize_entity(ctxt, item) for item in entity]
        if not isinstance(entity, dict) or TYPE not in entity:
            return entity
        return _to_object(entity)

    def serialize_context(self, ctxt: RequestContext) -> dict[str, Any]:
        """Return the context as JSON types."""
        return ctxt.to_dict()

    def deserialize_context(self, ctxt: dict[str, Any]) -> RequestContext:
        """Return the context, and make it this thread's, so that log lines carry its request id."""
        return RequestContext.from_dict(ctxt)


def _to_object(entity: dict[str, Any]) -> Any:
    name, version = str(entity[TYPE]), str(entity.get(VERSION))
    wire_type = _TYPES.get(name)
    if wire_type is None:
        raise InvalidInput(reason=f"the message holds an object of unknown type {name}")
    if version.partition(".")[0] != wire_type.VERSION.partition(".")[0]:
        raise InvalidInput(reason=f"{name} {version} is not compatible with {name} {wire_type.VERSION}")
    try:
        return msgspec.convert(entity.get(DATA), wire_type)
    except msgspec.ValidationError as error:
        raise InvalidInput(reason=f"the message holds a bad {name}: {error}") from None
