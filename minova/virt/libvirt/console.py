"""Reading what guests write to their serial consoles."""

import codecs
from pathlib import Path

from minova.objects import ConsoleOutput

PIECE_BYTES = 64 * 1024
"""So much is read at once at most."""


def read_console(log: Path, offset: int) -> ConsoleOutput:
    """Return a piece of what a guest has written; offsets as in :class:`~minova.virt.driver.ComputeDriver`."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            # A log that is shorter than that was begun anew.
            start = max(0, size + offset) if offset < 0 else offset if offset <= size else 0
            file.seek(start)
            piece = file.read(PIECE_BYTES)
    except FileNotFoundError:
        return ConsoleOutput(text="", next_offset=0)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    text = decoder.decode(piece)
    # A character whose end is not there yet is left to the next piece.
    unfinished, _state = decoder.getstate()
    return ConsoleOutput(text=text, next_offset=start + len(piece) - len(unfinished))
