"""What unit tests share, and poison: what they must not touch fails them at once.

An audit hook sees what any library does, whichever of its many names it is called by. What it raises is no
``Exception``, so that code under test cannot swallow it.
"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import stevedore._cache
from oslo_config import cfg

from minova import conf as minova_conf
from minova.conf import base
from minova.context import RequestContext
from tests.unit.loopback import Loopback

_POISONED = {
    "os.exec": "starts a program",
    "os.fork": "forks",
    "os.posix_spawn": "starts a program",
    "os.system": "starts a program",
    "socket.bind": "opens a socket",
    "socket.connect": "opens a socket",
    "socket.getaddrinfo": "looks a name up",
    "socket.gethostbyname": "looks a name up",
    "socket.sendto": "opens a socket",
    "subprocess.Popen": "starts a program",
}

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

_CLEANUP_SECONDS = 5.0


class _Poison:
    """Bites while a unit test runs."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._checks: dict[str, Callable[..., str | None]] = {
            "open": self._open,
            "os.mkdir": self._mkdir,
            "sqlite3.connect": self._sqlite,
        }

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        check = self._checks.get(event)
        offence = check(*args) if check else _POISONED.get(event)
        if offence:
            pytest.fail(f"a unit test {offence} ({event}{args!r})")

    def _open(self, path: Any, _mode: str | None, flags: int) -> str | None:
        return self._outside(path) if flags & _WRITING else None

    def _mkdir(self, path: Any, *_rest: Any) -> str | None:
        return self._outside(path)

    def _sqlite(self, database: Any) -> str | None:
        name = os.fsdecode(database).removeprefix("file:")
        return None if not name or ":memory:" in name else self._outside(name)

    def _outside(self, path: Any) -> str | None:
        if isinstance(path, int):
            return None
        place = Path(os.path.abspath(os.fsdecode(path)))  # noqa: PTH100  resolve() opens files, and so comes back here
        allowed = place.is_relative_to(str(self.folder)) or place.is_relative_to("/dev") or "__pycache__" in place.parts
        return None if allowed else "writes outside its folder"


_POISON = _Poison()
sys.addaudithook(_POISON)


def _sleep(seconds: float) -> NoReturn:
    pytest.fail(f"a unit test sleeps ({seconds} s)")


@pytest.fixture(autouse=True)
def poison(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Shut a unit test up in its folder."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in os.environ:
        if name.startswith("OS_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    state_path = next(option for option in base.OPTS if option.dest == "state_path")
    monkeypatch.setattr(state_path, "default", str(tmp_path / "state"))
    # It keeps what is installed in a file of the user's, and has settled where when it was imported.
    monkeypatch.setattr(stevedore._cache._c, "_dir", str(tmp_path_factory.getbasetemp()))
    monkeypatch.chdir(tmp_path)
    # Python audits this one from 3.13 on only.
    monkeypatch.setattr(time, "sleep", _sleep)
    _POISON.folder = tmp_path_factory.getbasetemp()
    yield
    _POISON.folder = None


@pytest.fixture(autouse=True)
def no_thread_left(poison: None) -> Iterator[None]:
    """Fail a test that leaves a thread behind."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(_CLEANUP_SECONDS)
    alive = [thread.name for thread in left if thread.is_alive()]
    assert not alive, f"threads are left over: {alive}"


@pytest.fixture
def conf() -> Iterator[cfg.ConfigOpts]:
    """Return the one instance that has oslo.messaging's options for tracing, without which it sends nothing."""
    minova_conf.register_opts(cfg.CONF)
    cfg.CONF([], default_config_files=[], default_config_dirs=[])
    yield cfg.CONF
    cfg.CONF.reset()


@pytest.fixture
def loopback(conf: cfg.ConfigOpts) -> Loopback:
    """Return a transport that delivers at once, and keeps what was sent."""
    return Loopback(conf)


@pytest.fixture
def ctxt() -> RequestContext:
    """Return the context of some user's request."""
    return RequestContext(user="someone")
