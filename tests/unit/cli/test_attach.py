"""A terminal is the instance's for a while, and what it was before once that is over."""

import os
import signal
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import pytest

from minova.cli.keyboard import Keyboard
from minova.exception import GuestNotFound, InstanceNotFound, InvalidInput, MinovaError, OperationRefused, PeerSilent
from minova.objects import INPUT_LENGTH, ConsoleOutput, Instance
from minova.states import TaskState, VmState
from tests.unit.cli.rig import INSTANCE, Ended, Manage, Script, Terminal

SECRET = "gehêim"
REFUSED = OperationRefused(host="host1", operation="console_input", reason="the guest is shutdown")
GONE = GuestNotFound(uuid=INSTANCE.uuid, host="host1")
SILENT = PeerSilent(peer="compute on host1", seconds=5)
MOVING = replace(INSTANCE, task_state=TaskState.MIGRATING)


def output(text: str = "", next_offset: int = 9, host: str = "host1") -> ConsoleOutput:
    return ConsoleOutput(text=text, next_offset=next_offset, host=host)


class Typist:
    """A terminal, and whoever sits before it."""

    def __init__(self) -> None:
        self.hand, slave = os.openpty()
        self.stream = os.fdopen(slave)

    def types(self, text: str) -> None:
        os.write(self.hand, text.encode())

    def mode(self) -> list[Any]:
        return termios.tcgetattr(self.stream.fileno())

    def leave(self) -> None:
        with suppress(OSError):
            os.close(self.hand)


@pytest.fixture
def typist() -> Iterator[Typist]:
    typist = Typist()
    yield typist
    typist.leave()
    typist.stream.close()


@pytest.fixture
def given(tmp_path: Path) -> Callable[[bytes], TextIO]:
    def make(content: bytes) -> TextIO:
        file = tmp_path / "input"
        file.write_bytes(content)
        return file.open()

    return make


def attach(manage: Manage, stdin: TextIO, *options: str, **answers: Any) -> Ended:
    manage.stdin = stdin
    manage.conductor.answers |= {"get_console_output": output(), "send_console_input": None, **answers}
    try:
        return manage("instance", "console", "web", *options)
    finally:
        stdin.close()


def sent(manage: Manage) -> str:
    return "".join(arguments["text"] for method, arguments in manage.asked if method == "send_console_input")


def test_keys_go_there_and_what_comes_back_is_shown_as_it_is(manage: Manage, typist: Typist) -> None:
    before, held = typist.mode(), os.dup(typist.stream.fileno())
    # What the instance writes, and what is typed thereupon.
    turns = [("log\r\nlogin: ", ""), ("\x1b[31m", "ls\x03"), ("", "ü\r"), ("\x07", "bye\x1d"), ("$ ", "")]

    def answer(instance: str, offset: int) -> ConsoleOutput:
        text, typed = turns.pop(0)
        typist.types(typed)
        return output(text)

    manage.stdout = Terminal
    ended = attach(manage, typist.stream, get_console_output=answer)
    assert (ended.status, ended.out) == (0, "login: \x1b[31m\x07$ ")
    assert ended.err == "connected to web (escape: Ctrl-])\n\n"
    assert sent(manage) == "ls\x03ü\rbye"
    assert termios.tcgetattr(held) == before
    os.close(held)


def test_terminal_passes_on_every_key_but_one(typist: Typist) -> None:
    before, keyboard = typist.mode(), Keyboard(typist.stream)
    with keyboard.raw():
        _, output_modes, _, local_modes, *_ = typist.mode()
        assert not output_modes & termios.OPOST
        assert not local_modes & (termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
        typist.types("\x03\x04\x1a\x1c\0\x11é")
        assert keyboard.read(5) == "\x03\x04\x1a\x1c\x11é"
        typist.types("last\x1dnever")
        assert keyboard.read(5) == "last"
        assert keyboard.read(5) is None
    assert typist.mode() == before


def test_terminal_of_the_program_makes_a_signal_of_that_key(typist: Typist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "tcgetpgrp", lambda _fd: os.getpgrp())
    with Keyboard(typist.stream).raw():
        mode = typist.mode()
    assert mode[3] & termios.ISIG
    assert [mode[6][key] for key in (termios.VINTR, termios.VQUIT, termios.VSUSP)] == [b"\x1d", b"\0", b"\0"]


def raise_while_busy(keyboard: Keyboard, *numbers: int) -> None:
    """Have signals come while the terminal is not read, and then read it."""
    with keyboard.raw():
        for number in numbers:
            signal.raise_signal(number)
        keyboard.read(5)
        pytest.fail("it went on")


@pytest.mark.parametrize(
    ("number", "kind"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit)],
)
def test_terminal_is_put_back_when_a_signal_ends_it(
    typist: Typist, number: signal.Signals, kind: type[BaseException]
) -> None:
    before, handler = typist.mode(), signal.getsignal(number)
    with pytest.raises(kind) as caught:
        raise_while_busy(Keyboard(typist.stream), number)
    assert (typist.mode(), signal.getsignal(number)) == (before, handler)
    assert kind is KeyboardInterrupt or caught.value.code == 128 + number


def test_who_does_not_want_to_wait_says_so_twice(typist: Typist, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keyboard, "read", lambda *_: pytest.fail("the second signal waits too"))
    with pytest.raises(KeyboardInterrupt):
        raise_while_busy(Keyboard(typist.stream), signal.SIGINT, signal.SIGINT)


def test_terminal_is_put_back_after_an_error(manage: Manage, typist: Typist) -> None:
    before, held = typist.mode(), os.dup(typist.stream.fileno())
    broken = Script([output(), RuntimeError("broken")])
    ended = attach(manage, typist.stream, get_console_output=broken)
    assert ended.status == 1
    assert "broken" in ended.err
    assert termios.tcgetattr(held) == before
    os.close(held)


def test_terminal_that_is_gone(manage: Manage, typist: Typist) -> None:
    def answer(instance: str, offset: int) -> Any:
        if offset >= 0:
            typist.leave()
        return output()

    assert attach(manage, typist.stream, get_console_output=answer).status == 0


def test_what_is_piped_is_sent_and_answered(manage: Manage, given: Callable[[bytes], TextIO]) -> None:
    pieces = Script([output("$ "), output(), output("pong", 13), output("!\n", 15), output("", 15)])
    ended = attach(manage, given("ping ü\n".encode()), get_console_output=pieces)
    assert (ended.status, ended.out, ended.err) == (0, "pong!\n", "")
    assert sent(manage) == "ping ü\n"


@pytest.mark.parametrize(("options", "seconds"), [((), 2.0), (("--wait", "0"), 1.0), (("--wait", "3.5"), 4.6)])
def test_it_ends_once_nothing_more_comes(
    manage: Manage, given: Callable[[bytes], TextIO], options: tuple[str, ...], seconds: float
) -> None:
    assert attach(manage, given(b""), *options).status == 0
    # The first second does not count: the guest may not have heard yet.
    assert sum(manage.slept) == pytest.approx(seconds)


@pytest.mark.parametrize("seconds", ["-1", "nan", "inf"])
def test_time_that_is_none(manage: Manage, given: Callable[[bytes], TextIO], seconds: str) -> None:
    ended = attach(manage, given(b""), f"--wait={seconds}")
    assert (ended.status, ended.err) == (1, f"minova-manage: error: --wait {seconds}: 0 or more seconds expected\n")


def test_much_is_sent_in_pieces(manage: Manage, given: Callable[[bytes], TextIO]) -> None:
    text = "ü" * 3000
    attach(manage, given(text.encode()))
    assert sent(manage) == text
    assert max(len(arguments.get("text", "")) for _, arguments in manage.asked) <= INPUT_LENGTH


@pytest.mark.parametrize(
    ("content", "told"), [(b"\xff\xfe", "text in UTF-8 expected"), (b"a\0b", "text expected, which has no NUL")]
)
def test_what_is_no_text_is_not_sent(
    manage: Manage, given: Callable[[bytes], TextIO], content: bytes, told: str
) -> None:
    ended = attach(manage, given(content))
    assert (ended.status, ended.err) == (1, f"minova-manage: error: standard input: {told}\n")
    assert sent(manage) == ""


def test_input_that_is_closed(manage: Manage) -> None:
    with pytest.raises(InvalidInput, match="standard input is closed"):
        Keyboard(None)


@pytest.mark.parametrize("error", [REFUSED, InstanceNotFound(name="web")])
def test_instance_without_a_console(manage: Manage, typist: Typist, error: MinovaError) -> None:
    ended = attach(manage, typist.stream, send_console_input=error)
    assert (ended.status, ended.out, ended.err) == (1, "", f"minova-manage: error: {error.message}\n")


def test_it_stays_with_an_instance_that_moves(manage: Manage, given: Callable[[bytes], TextIO]) -> None:
    there = [output("torn", 99, "host2"), output("hello\n", 6, "host2"), output("", 6, "host2")]
    ended = attach(
        manage,
        given(b"text"),
        get_instance=Script([INSTANCE, MOVING, MOVING, INSTANCE]),
        send_console_input=Script([None, GONE, REFUSED, GONE, None]),
        get_console_output=Script([output(), GONE, GONE, GONE, *there]),
    )
    assert (ended.status, ended.out, ended.err) == (0, "hello\n", "web is on host host2 now\n")
    texts = [arguments["text"] for method, arguments in manage.asked if method == "send_console_input"]
    assert texts[:5] == ["", "text", "text", "text", "text"]
    assert "text" not in texts[5:]
    offsets = [arguments["offset"] for method, arguments in manage.asked if method == "get_console_output"]
    assert offsets[4:7] == [9, 0, 6]


@pytest.mark.parametrize(
    ("last", "told"),
    [
        (replace(INSTANCE, vm_state=VmState.STOPPED), "instance web has been stopped"),
        (replace(INSTANCE, vm_state=VmState.DELETED), "instance web has been deleted"),
        (INSTANCE, REFUSED.message),
        (InstanceNotFound(name=INSTANCE.uuid), f"no such instance: {INSTANCE.uuid}"),
    ],
)
def test_it_ends_with_the_instance(
    manage: Manage, given: Callable[[bytes], TextIO], last: Instance | MinovaError, told: str
) -> None:
    ended = attach(
        manage,
        given(b"text"),
        get_instance=Script([INSTANCE, MOVING, last]),
        send_console_input=Script([None, REFUSED]),
        get_console_output=Script([output(), output("bye\n", 13), output("", 13)]),
    )
    assert (ended.status, ended.out, ended.err) == (1, "bye\n", f"minova-manage: error: {told}\n")


def test_text_that_may_have_arrived_is_not_sent_again(manage: Manage, given: Callable[[bytes], TextIO]) -> None:
    ended = attach(manage, given(SECRET.encode()), send_console_input=Script([None, SILENT]))
    assert (ended.status, ended.err) == (1, f"minova-manage: error: {SILENT.message}\n")
    assert sent(manage) == SECRET


def test_host_that_is_silent_for_a_while(manage: Manage, given: Callable[[bytes], TextIO]) -> None:
    pieces = Script([output(), SILENT, output("here\n", 14), output("", 14)])
    assert attach(manage, given(b""), get_console_output=pieces).out == "here\n"


def test_console_is_kept_open(manage: Manage, given: Callable[[bytes], TextIO]) -> None:
    attach(manage, given(b""), "--wait", "10")
    texts = [arguments["text"] for method, arguments in manage.asked if method == "send_console_input"]
    assert len(texts) >= 5
    assert set(texts) == {""}
