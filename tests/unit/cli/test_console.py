"""What a guest has written is shown, and does no harm to a terminal."""

from pathlib import Path
from typing import Any

import pytest

from minova.cli.console import harmless
from minova.exception import GuestNotFound, PeerSilent
from minova.objects import ConsoleOutput
from tests.unit.cli.rig import Manage, Script, Terminal

EVIL = "\x1b]0;title\x07one\r\n\x1b[31mtwo\x1b[0m\tthree\x9b2J\x1bc\x08\n"


def output(text: str, next_offset: int, host: str = "host1") -> ConsoleOutput:
    return ConsoleOutput(text=text, next_offset=next_offset, host=host)


def show(manage: Manage, *options: str, answers: Any) -> tuple[str, list[int]]:
    """Return what was shown, and from where on was asked."""
    manage.conductor.answers["get_console_output"] = Script(answers)
    ended = manage("instance", "console-log", "web", *options)
    return ended.out, [arguments["offset"] for _method, arguments in manage.asked]


def test_all_of_it_is_shown_piece_by_piece(manage: Manage) -> None:
    pieces = [output("one\n", 4), output("two\n", 8), output("", 8)]
    assert show(manage, answers=pieces) == ("one\ntwo\n", [0, 4, 8])
    assert manage.slept == []


def test_only_the_end_of_it_if_that_is_wanted(manage: Manage) -> None:
    assert show(manage, "--length", "4", answers=[output("two\n", 8), output("", 8)]) == ("two\n", [-4, 8])


def test_length_that_is_none(manage: Manage) -> None:
    ended = manage("instance", "console-log", "web", "--length", "0")
    assert (ended.status, ended.err) == (1, "minova-manage: error: --length 0: 1 or more bytes expected\n")


def test_it_is_followed_until_interrupted(manage: Manage) -> None:
    pieces = [output("one\n", 4), output("", 4), output("two\n", 8), KeyboardInterrupt()]
    assert show(manage, "--follow", answers=pieces) == ("one\ntwo\n", [0, 4, 4, 8])
    assert manage.slept == [0.5]


@pytest.mark.parametrize(
    "error", [PeerSilent(peer="compute on host1", seconds=5), GuestNotFound(uuid="uuid", host="host1")]
)
def test_who_follows_stays_with_it_from_host_to_host(manage: Manage, error: Exception) -> None:
    elsewhere = [output("torn\n", 9, "host2"), output("two", 3, "host2"), output("\n", 4, "host2")]
    pieces = [output("one\n", 4), error, *elsewhere, KeyboardInterrupt()]
    assert show(manage, "--follow", answers=pieces) == ("one\ntwo\n", [0, 4, 4, 0, 3, 4])


def test_console_that_begins_anew_where_it_is(manage: Manage) -> None:
    pieces = [output("one\n", 40), output("two\n", 4), output("", 4)]
    assert show(manage, answers=pieces) == ("one\ntwo\n", [0, 40, 4])


def test_host_that_does_not_tell(manage: Manage) -> None:
    manage.conductor.answers["get_console_output"] = PeerSilent(peer="compute on host1", seconds=5)
    ended = manage("instance", "console-log", "web")
    assert (ended.status, ended.err) == (
        1,
        "minova-manage: error: compute on host1 did not answer within 5 s\n",
    )


@pytest.mark.parametrize(
    ("terminal", "options", "shown"),
    [
        (True, [], "one\ntwo\tthree2J\n"),
        (True, ["--raw"], EVIL),
        (False, [], EVIL),
    ],
)
def test_terminal_is_protected(manage: Manage, terminal: bool, options: list[str], shown: str) -> None:
    if terminal:
        manage.stdout = Terminal
    assert show(manage, *options, answers=[output(EVIL, 40), output("", 40)])[0] == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünï 名\t\n", "plain ünï 名\t\n"),
        ("a\x1b[38;5;1mb\x1b[?25hc", "abc"),
        ("a\x1b(Bb\x1b=c\x1b", "abc"),
        ("a\x1bP1$r\x1b\\b\x1b]52;c;Zm9v\x1b\\c", "abc"),
        ("a\x00\x07\x08\x0b\x0c\r\x7f\x85\x9b\u202eb", "ab"),
        ("50%\r100%", "50%100%"),
        ("\udcff", ""),
    ],
)
def test_what_is_harmless(text: str, shown: str) -> None:
    assert harmless(text) == shown


def boot(manage: Manage, *options: str) -> Any:
    ended = manage("instance", "boot", "web", *options)
    assert (ended.status, ended.err) == (0, "")
    return manage.asked[0][1]["request"]


def test_files_of_a_boot_are_read(manage: Manage, tmp_path: Path) -> None:
    data, one, two = (tmp_path / name for name in ("data", "one.pub", "two.pub"))
    data.write_text("#cloud-config\npassword: gehêim\n")
    one.write_text("ssh-ed25519 AAAA one\n")
    two.write_text("ssh-rsa BBBB two\n")
    request = boot(manage, "--user-data", str(data), "--ssh-key", str(one), "--ssh-key", str(two))
    assert request.user_data == data.read_text()
    assert request.ssh_keys == ("ssh-ed25519 AAAA one", "ssh-rsa BBBB two")


def test_files_of_a_boot_that_cannot_be_read(manage: Manage, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "huge").write_bytes(b"x" * 2**17)
    for name, told in (
        ("none", "cannot read none: No such file or directory"),
        (".", "cannot read .: Is a directory"),
        ("binary", "binary: text in UTF-8 expected"),
        ("huge", "huge is too large to be meant"),
    ):
        for option in ("--user-data", "--ssh-key"):
            ended = manage("instance", "boot", "web", option, name)
            assert (ended.status, ended.err) == (1, f"minova-manage: error: {told}\n")
    assert manage.asked == []
