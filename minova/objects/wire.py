"""How an object says on the wire what it is."""

from typing import Any

import msgspec

from minova.objects.base import DATA, TYPE, VERSION, WireObject


def to_wire(value: WireObject) -> dict[str, Any]:
    """Return an object as JSON types."""
    return {TYPE: type(value).__name__, VERSION: value.VERSION, DATA: msgspec.to_builtins(value)}
