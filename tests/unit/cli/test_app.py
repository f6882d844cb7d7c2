"""The program itself: options, help, errors and exit statuses."""

import logging
import os
from typing import Any

import pytest

from minova.cli import app as app_module
from minova.cli.app import App
from minova.cli.commands import COMMANDS
from minova.exception import AmbiguousName, ConfigurationError
from tests.unit.cli.rig import Manage, Terminal


@pytest.mark.parametrize("argv", [[], ["--help"], ["help"], ["-h"]])
def test_help_lists_every_command(manage: Manage, argv: list[str]) -> None:
    ended = manage(*argv)
    assert (ended.status, ended.err) == (0, "")
    listed = {line.strip().split("  ")[0] for line in ended.out.partition("commands:")[2].splitlines()}
    assert set(COMMANDS) <= listed
    assert "--config-file" in ended.out
    assert manage.configured == []


@pytest.mark.parametrize("argv", [["instance", "--help"], ["help", "instance"]])
def test_help_on_a_noun(manage: Manage, argv: list[str]) -> None:
    ended = manage(*argv)
    assert ended.status == 0
    assert [line.split("  ")[1] for line in ended.out.splitlines()] == [
        name for name in sorted(COMMANDS) if name.startswith("instance ")
    ]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_on_a_command(manage: Manage, name: str) -> None:
    ended = manage(*name.split(), "--help")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith(f"usage: minova-manage {name} ")
    assert ended.out == manage("help", *name.split()).out


def test_every_command_says_what_it_is_for(manage: Manage) -> None:
    for line in manage("--help").out.partition("commands:\n")[2].splitlines():
        assert len(line) <= 120
        assert line[28:].strip(), line


def test_version(manage: Manage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "version", lambda name: f"1.2.3 of {name}")
    assert manage("--version").out == "minova-manage 1.2.3 of minova\n"


def test_abbreviated_command(manage: Manage) -> None:
    assert manage("inst", "sh", "web").status == 0
    assert manage.asked == [("get_instance", {"instance": "web"})]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("instance bot web", "no such command: instance bot; did you mean: instance boot, instance reboot, "),
        ("instence list", "no such command: instence list; did you mean: instance list, "),
        ("host", "no such command: host; did you mean: host drain, host list, host show, host undrain"),
        ("xyzzy", "no such command: xyzzy; see: minova-manage --help"),
        ("help xyzzy", "no such command: xyzzy; see: minova-manage --help"),
    ],
)
def test_unknown_command(manage: Manage, command: str, message: str) -> None:
    ended = manage(*command.split())
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith(f"minova-manage: error: {message}")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        "instance boot",
        "instance boot web --vcpus two",
        "instance list --colour",
        "instance reset-state web --state building",
        "instance list -f html",
        "--colour instance list",
        "--config-file",
    ],
)
def test_wrong_usage(manage: Manage, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    ended = manage(*command.split())
    assert ended.status == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]
    assert manage.asked == []


@pytest.mark.parametrize("command", ["instance boot web -c colour", "instance list -c colour", "rpc map -c colour"])
def test_unknown_column_is_refused_before_the_deed(manage: Manage, command: str) -> None:
    ended = manage(*command.split())
    assert ended.status == 1
    assert ended.err.startswith("minova-manage: error: no such column: colour; there are: ")
    assert manage.asked == []


def test_error_is_one_line(manage: Manage) -> None:
    manage.conductor.answers["get_instance"] = AmbiguousName(name="web", candidates=["u1", "u2"])
    ended = manage("instance", "show", "web")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == "minova-manage: error: 2 instances are named web; use one of their UUIDs: u1, u2\n"


def test_configuration_is_loaded_with_the_files_that_were_named(manage: Manage) -> None:
    options = ["--config-file", "a.conf", "--debug", "instance", "list", "--config-file=b.conf", "--config-dir", "c"]
    assert manage(*options).status == 0
    assert manage.configured == [(["--config-file=a.conf", "--config-file=b.conf", "--config-dir=c"], True)]


def test_wrong_configuration(manage: Manage, monkeypatch: pytest.MonkeyPatch) -> None:
    def configure(args: list[str], debug: bool) -> Any:
        raise ConfigurationError(reason="a.conf: no such option")

    monkeypatch.setattr(manage, "_configure", configure)
    ended = manage("instance", "list")
    assert (ended.status, ended.err) == (1, "minova-manage: error: configuration: a.conf: no such option\n")


def test_unexpected_error_is_logged(manage: Manage, caplog: pytest.LogCaptureFixture) -> None:
    manage.log_file = "state/minova-manage.log"
    manage.conductor.answers["list_hosts"] = ZeroDivisionError("by\nzero")
    with caplog.at_level(logging.ERROR):
        ended = manage("host", "list")
    assert ended.status == 1
    assert ended.err == (
        "minova-manage: error: unexpected ZeroDivisionError: by zero (the log has more: state/minova-manage.log)\n"
    )
    assert caplog.records[0].exc_info is not None


def test_unexpected_error_without_a_log(manage: Manage) -> None:
    manage.conductor.answers["list_hosts"] = ZeroDivisionError("by zero")
    ended = manage("host", "list")
    assert ended.status == 1
    assert ended.err.count("\n") == 1
    assert "--debug" in ended.err


def test_debug_shows_the_traceback(manage: Manage) -> None:
    manage.conductor.answers["list_hosts"] = ZeroDivisionError("by zero")
    ended = manage("--debug", "host", "list")
    assert ended.status == 1
    assert ended.err.startswith("Traceback")


def test_interrupt(manage: Manage) -> None:
    manage.conductor.answers["list_hosts"] = KeyboardInterrupt()
    ended = manage("host", "list")
    assert (ended.status, ended.out, ended.err) == (130, "", "")


def test_reader_that_went_away(manage: Manage, capfd: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        app = App(lambda: None, manage._configure, manage._connect, manage.slept.append, stdout, Terminal())
        assert app.run(["host", "list"]) == 141
    assert capfd.readouterr() == ("", "")
