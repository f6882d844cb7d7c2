"""What guests write to their serial consoles, and what is written to them."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import msgspec

INPUT_LENGTH = 1024
"""So many characters are written to a console at once at most; in UTF-8 that is 4 KiB."""

ConsoleInput = Annotated[str, msgspec.Meta(max_length=INPUT_LENGTH)]
"""What is written to a console. It may hold passwords, so it gets into no log."""


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
