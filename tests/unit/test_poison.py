"""The poison of ``conftest.py`` bites."""

import contextlib
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import platformdirs
import pytest
from oslo_config import cfg

from minova import conf as minova_conf

HERE = Path(__file__).parent


def bites(match: str) -> pytest.RaisesExc[BaseException]:
    return pytest.raises(pytest.fail.Exception, match=match)


def test_connect() -> None:
    with socket.socket() as client, bites("opens a socket"):
        client.connect(("127.0.0.1", 9))


def test_bind() -> None:
    with socket.socket() as server, bites("opens a socket"):
        server.bind(("127.0.0.1", 0))


def test_datagram() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as client, bites("opens a socket"):
        client.sendto(b"", ("127.0.0.1", 9))


def test_name_lookup() -> None:
    with bites("looks a name up"):
        urllib.request.urlopen("http://localhost:9/")


def test_sleep() -> None:
    with bites("sleeps"):
        time.sleep(0)


def test_sleep_cannot_be_swallowed() -> None:
    with bites("sleeps"), contextlib.suppress(Exception):
        time.sleep(0)


def test_subprocess() -> None:
    with bites("starts a program"):
        subprocess.run([sys.executable, "--version"], check=False)


def test_system() -> None:
    with bites("starts a program"):
        os.system("true")


def test_fork() -> None:
    with bites("forks"):
        os.fork()


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_CREAT], ids=["write", "update", "create"])
def test_write_outside(flags: int) -> None:
    with bites("writes outside"):
        os.open(HERE / "stray", flags)
    assert not (HERE / "stray").exists()


def test_mkdir_outside() -> None:
    with bites("writes outside"):
        (HERE / "stray").mkdir()


def test_write_through_dots(tmp_path: Path) -> None:
    with bites("writes outside"):
        (tmp_path / ".." / ".." / ".." / "stray").write_text("")


def test_database_outside() -> None:
    with bites("writes outside"):
        sqlite3.connect(HERE / "stray.sqlite")


def test_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    Path("file").write_text("here")
    sqlite3.connect(tmp_path / "folder" / "some.sqlite").close()
    sqlite3.connect(":memory:").close()
    assert Path(__file__).read_text()
    assert Path("file").resolve().parent == tmp_path


def test_home_is_the_folder_of_the_test(tmp_path: Path) -> None:
    assert Path.home() == tmp_path
    assert platformdirs.user_state_path("minova").is_relative_to(tmp_path)


def test_state_path_is_in_the_folder_of_the_test(tmp_path: Path) -> None:
    conf = cfg.ConfigOpts()
    minova_conf.register_opts(conf)
    conf([])
    assert Path(conf.state_path).is_relative_to(tmp_path)


def test_thread_left_over_fails_its_test(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the fixture by hand around a thread that does not end in time."""
    conftest = request.config.pluginmanager.get_plugin(str(HERE / "conftest.py"))
    monkeypatch.setattr(conftest, "_CLEANUP_SECONDS", 0.0)
    guard = conftest.no_thread_left.__wrapped__(None)
    next(guard)
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="stray")
    thread.start()
    try:
        with pytest.raises(AssertionError, match="stray"):
            next(guard)
    finally:
        end.set()
        thread.join()
