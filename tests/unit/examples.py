"""Examples of wire objects, made from the types of their fields."""

import types
import typing
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from minova.objects.base import UUID, RPCVersion

_PLAIN: dict[Any, Any] = {
    UUID: "12345678-90ab-cdef-1234-567890abcdef",
    RPCVersion: "1.2",
    bool: True,
    datetime: datetime(2020, 2, 29, 12, 30, 15, 123456, tzinfo=UTC),
    float: 0.25,
    int: 7,
    str: "söme text",
    dict[str, Any]: {"key": ["a", 1, None, {"nested": True}]},
}


def example(kind: Any) -> Any:
    """Return a value of the type; no field of it has its default, and nothing that may be there is left out."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return kind(**{field.name: example(hints[field.name]) for field in fields(kind)})
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return example(args[0])
    if origin in (types.UnionType, typing.Union):
        return example(next(arg for arg in args if arg is not types.NoneType))
    if origin is tuple:
        return (example(args[0]),) * 2 if args[-1] is Ellipsis else tuple(example(arg) for arg in args)
    if origin is list:
        return [example(args[0])] * 2
    assert issubclass(kind, Enum), f"no example of {kind}"
    return list(kind)[-1]
