"""``instance console``, at a terminal and in a pipe, with guests that answer and move."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fixtures.virt.site import HOST1, HOST2, VirtSite
from tests.fixtures.virt.terminal import TerminalSession


@pytest.fixture(autouse=True)
def no_unexpected_error() -> None:
    """Accept errors in the log of the tests' own process: what daemons meet is in theirs."""


@contextmanager
def attached(site: VirtSite) -> Iterator[TerminalSession]:
    """Attach somebody to the console of the guest on host1."""
    session = TerminalSession(site.command("instance", "console", "vm"), site.environment)
    try:
        session.wait_for("connected to vm (escape: Ctrl-])")
        # From now on, keys are passed on as they are.
        session.wait_for("tick=")
        yield session
    finally:
        session.close()


def test_somebody_talks_to_a_guest_that_moves(site: VirtSite) -> None:
    site.boot(HOST1)
    with attached(site) as session:
        session.types("ping one\r")
        session.wait_for("pong one\r\n")
        site.manage("instance", "live-migrate", "vm", "--to", HOST2)
        session.wait_for(f"vm is on host {HOST2} now")
        session.types("ping two\r")
        session.wait_for("pong two\r\n")
        site.manage("instance", "reboot", "vm", "--hard")
        session.wait_for("tick=1 ")
        session.types("ping three\r")
        session.wait_for("pong three\r\n")
        session.types("\x1d")
        assert session.wait() == 0


def test_terminal_is_left_as_it_was(site: VirtSite) -> None:
    site.boot(HOST1)
    for number, status in ((signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        with attached(site) as session:
            assert session.mode() != session.before
            session.send_signal(number)
            assert (number, session.wait()) == (number, status)
            assert session.mode() == session.before


def test_it_ends_with_the_guest(site: VirtSite) -> None:
    site.boot(HOST1)
    end_by(site, "stop", "has been stopped")
    site.manage("instance", "start", "vm")
    end_by(site, "delete", "has been deleted")


def end_by(site: VirtSite, command: str, told: str) -> None:
    """End the guest while somebody is attached to its console, and check what he is told."""
    with attached(site) as session:
        site.run(args=("instance", command, "vm"))
        assert session.wait() == 1
        assert f"minova-manage: error: instance vm {told}" in session.read()


def test_program_talks_to_a_guest(site: VirtSite) -> None:
    uuid = site.boot(HOST1)
    site.tell(HOST1, uuid, "ping first", "pong first")
    done = subprocess.run(
        site.command("instance", "console", "vm", "--wait", "0"),
        env=site.environment,
        input="ping piped\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "pong piped" in done.stdout
    assert "pong first" not in done.stdout
