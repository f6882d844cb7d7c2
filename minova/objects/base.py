"""What all wire objects have in common."""

from datetime import UTC, datetime
from typing import Any, ClassVar, Protocol


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
