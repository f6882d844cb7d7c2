"""Reading a console in pieces."""

from pathlib import Path

import pytest

from minova.objects import ConsoleOutput
from minova.virt.libvirt.console import PIECE_BYTES, read_console


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_a_guest_that_has_written_nothing(log: Path) -> None:
    assert read_console(log, 0) == read_console(log, -5) == ConsoleOutput(text="", next_offset=0)


@pytest.mark.parametrize(
    ("offset", "text"),
    [(0, "one\r\ntwo\r\n"), (5, "two\r\n"), (10, ""), (-5, "two\r\n"), (-1000, "one\r\ntwo\r\n")],
)
def test_from_an_offset_on(log: Path, offset: int, text: str) -> None:
    log.write_bytes(b"one\r\ntwo\r\n")
    assert read_console(log, offset) == ConsoleOutput(text=text, next_offset=10)


def test_one_that_was_begun_anew_is_read_from_its_begin(log: Path) -> None:
    log.write_bytes(b"new")
    assert read_console(log, 10) == ConsoleOutput(text="new", next_offset=3)


def test_pieces_are_bounded_and_make_the_whole(log: Path) -> None:
    # Each character is cut in two at the end of one piece or the other.
    text = "é€😀x" * (PIECE_BYTES // 4)
    log.write_text(text, encoding="utf-8")
    pieces, offset = [], 0
    while (piece := read_console(log, offset)).text:
        assert piece.next_offset - offset <= PIECE_BYTES
        pieces.append(piece.text)
        offset = piece.next_offset
    assert "".join(pieces) == text


def test_a_character_that_is_not_whole_yet_is_left_to_the_next_piece(log: Path) -> None:
    log.write_bytes("a€".encode()[:-1])
    assert read_console(log, 0) == ConsoleOutput(text="a", next_offset=1)
    log.write_bytes("a€".encode())
    assert read_console(log, 1) == ConsoleOutput(text="€", next_offset=4)


def test_what_is_no_text_is_replaced(log: Path) -> None:
    log.write_bytes(b"a\xff\x00b")
    assert read_console(log, 0) == ConsoleOutput(text="a\ufffd\x00b", next_offset=4)
