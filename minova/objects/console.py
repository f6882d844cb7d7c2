"""What guests write to their serial consoles."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleOutput:
    """A piece of what a guest has written.

    :ivar text: control characters included; what is no UTF-8 is replaced.
    :ivar next_offset: where the next piece begins, in bytes.
    :ivar host: where it was written, as conductors say to those who ask.
    """

    VERSION: ClassVar[str] = "1.0"
    text: str
    next_offset: int
    host: str = ""
