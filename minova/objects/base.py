"""What all wire objects have in common."""

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Protocol

import msgspec

Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time that says what it is relative to; without that it is refused, for it cannot be compared."""

UUID = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
"""The name of something for good; drivers make names of files of it."""

RPCVersion = Annotated[str, msgspec.Meta(pattern=r"^\d{1,9}\.\d{1,9}$")]
"""Such as ``1.2``; all pins are made of these, and one that is none would break them."""

TYPE, VERSION, DATA = "minova.object", "minova.version", "minova.data"
"""The keys under which an object on the wire has its class name, its version and its fields."""


class WireObject(Protocol):
    """A frozen dataclass that may travel: it knows its own version.

    Within a major version a class only grows, and a new field has a default: a reader ignores fields that it does not
    know and fills in defaults for those that are missing.
    """

    VERSION: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


def utcnow() -> datetime:
    """Now, aware and in UTC: the one clock of everything that is stored or sent."""
    return datetime.now(UTC)
