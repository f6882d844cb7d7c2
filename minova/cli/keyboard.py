"""Standard input, read piece by piece as it comes: what somebody types, or another program sends."""

import codecs
import io
import os
import select
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TextIO

from minova.exception import InvalidInput
from minova.objects import INPUT_LENGTH

ESCAPE = "\x1d"
"""Ctrl-]: whoever types it wants to leave."""

_LOCAL_MODES, _CHARACTERS = 3, 6
_DISABLED = b"\0"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Keyboard:
    """Standard input as text.

    :ivar is_terminal: somebody types it; what is no text is left out. Else it is an error.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Read from ``stream``, of which nothing must have been read. :raises InvalidInput: it is closed."""
        try:
            self._fd = stream.fileno() if stream is not None else -1
        except (io.UnsupportedOperation, ValueError):
            self._fd = -1
        if self._fd < 0:
            raise InvalidInput(reason="standard input is closed: for no input at all, add </dev/null")
        self.is_terminal = os.isatty(self._fd)
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore" if self.is_terminal else "strict")
        self._at_end = False
        self._waits = False
        self._leaving: BaseException | None = None

    def read(self, seconds: float) -> str | None:
        """Return what has come within so many seconds, as soon as there is anything; None: no more will come.

        :raises InvalidInput: what was sent is no text.
        """
        if self._at_end:
            return None
        self._waits = True
        try:
            self.check()
            ready, _, _ = select.select([self._fd], [], [], seconds)
        finally:
            self._waits = False
        return self._decode(self._take()) if ready else ""

    def check(self) -> None:
        """Raise what a signal has asked for: KeyboardInterrupt (or Ctrl-]) or SystemExit."""
        if self._leaving is not None:
            raise self._leaving

    @contextmanager
    def raw(self) -> Iterator[None]:
        """Have the terminal pass on each key as it is, but for Ctrl-]; put it back in order whatever happens."""
        before = termios.tcgetattr(self._fd)
        handlers = {number: signal.signal(number, self._interrupt) for number in _SIGNALS}
        try:
            tty.setraw(self._fd, termios.TCSADRAIN)
            if self._sends_signals():
                self._interrupt_by_escape()
            yield
        finally:
            # It may be gone.
            with suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSAFLUSH, before)
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _sends_signals(self) -> bool:
        try:
            os.tcgetpgrp(self._fd)
        except OSError:
            # It is not the one that this program was started from.
            return False
        return True

    def _interrupt_by_escape(self) -> None:
        """Have the terminal make SIGINT of Ctrl-], so that it is noticed whatever this program waits for."""
        mode = termios.tcgetattr(self._fd)
        mode[_LOCAL_MODES] |= termios.ISIG
        for key in (termios.VQUIT, termios.VSUSP):
            mode[_CHARACTERS][key] = _DISABLED
        mode[_CHARACTERS][termios.VINTR] = ESCAPE.encode()
        termios.tcsetattr(self._fd, termios.TCSADRAIN, mode)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        """Leave once nothing is under way: an exception amid a message to the broker would confuse that. Twice: now."""
        leaving = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        if self._waits or self._leaving is not None:
            raise leaving
        self._leaving = leaving

    def _take(self) -> bytes:
        try:
            return os.read(self._fd, INPUT_LENGTH)
        except OSError:
            # A terminal that is gone.
            return b""

    def _decode(self, piece: bytes) -> str | None:
        try:
            text = self._decoder.decode(piece, final=not piece)
        except UnicodeDecodeError:
            raise InvalidInput(reason="standard input: text in UTF-8 expected") from None
        if self.is_terminal:
            text, escape, _rest = text.replace("\0", "").partition(ESCAPE)
            self._at_end = bool(escape) or not piece
        else:
            if "\0" in text:
                raise InvalidInput(reason="standard input: text expected, which has no NUL")
            self._at_end = not piece
        return text if text or not self._at_end else None
