"""The ways to a cluster, and the lock on the embedded one."""

import os
import stat
import sys
import types
from pathlib import Path
from typing import Any

import oslo_messaging
import pytest
from filelock import FileLock
from oslo_config import cfg
from oslo_messaging import opts as messaging_opts

from minova import conf as minova_conf
from minova.cli.connection import connect, exclusive, log_folder
from minova.exception import BrokerUnreachable, ConfigurationError
from minova.objects import Pong
from minova.rpc import transport as transport_module
from minova.rpc.control import LowestVersionEndpoint
from minova.rpc.server import expose
from tests.unit.cli.rig import SERVICE
from tests.unit.loopback import Loopback


def make_conf(url: str) -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    minova_conf.register_opts(conf)
    for group, options in messaging_opts.list_opts():
        conf.register_opts(options, group=group)
    conf([])
    conf.set_override("transport_url", url)
    return conf


@pytest.fixture
def fake() -> cfg.ConfigOpts:
    return make_conf("fake://")


@pytest.fixture
def said() -> list[str]:
    return []


def test_lock_is_held_and_given_back(fake: cfg.ConfigOpts, said: list[str]) -> None:
    folder = Path(fake.state_path)
    with exclusive(fake, said.append):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert (folder / "minova.pid").read_text() == str(os.getpid())
        with pytest.raises(TimeoutError):
            FileLock(folder / "minova.lock").acquire(timeout=0)
    FileLock(folder / "minova.lock").acquire(timeout=0)
    assert not (folder / "minova.pid").exists()
    assert said == []


def test_folder_that_exists_keeps_its_mode(fake: cfg.ConfigOpts, said: list[str]) -> None:
    folder = Path(fake.state_path)
    folder.mkdir(mode=0o750)
    with exclusive(fake, said.append):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o750


@pytest.mark.parametrize(("pid", "who"), [("4711", " (process 4711)"), ("", ""), (None, "")])
def test_waits_for_the_holder_and_says_so(fake: cfg.ConfigOpts, pid: str | None, who: str) -> None:
    folder = Path(fake.state_path)
    folder.mkdir()
    other = FileLock(folder / "minova.lock")
    other.acquire()
    if pid is not None:
        (folder / "minova.pid").write_text(pid)
    said = []

    def release(message: str) -> None:
        said.append(message)
        other.release()

    with exclusive(fake, release):
        assert (folder / "minova.pid").read_text() == str(os.getpid())
    assert said == [f"waiting for another minova-manage{who}…"]


def test_state_path_that_cannot_be_made(fake: cfg.ConfigOpts, said: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fake.set_override("state_path", str(tmp_path / "file" / "state"))
    with pytest.raises(ConfigurationError, match="state cannot be used: Not a directory"), exclusive(fake, said.append):
        pass


def test_lock_that_cannot_be_made(fake: cfg.ConfigOpts, said: list[str]) -> None:
    (Path(fake.state_path) / "minova.lock").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="cannot be used"), exclusive(fake, said.append):
        pass


def test_embedded_cluster(fake: cfg.ConfigOpts, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[object] = []

    class Cluster:
        conductor_api = "the conductor"

        def __init__(self, conf: cfg.ConfigOpts, hosts: list[str]) -> None:
            events.append(hosts)

        def __enter__(self) -> "Cluster":
            events.append("locked" if (Path(fake.state_path) / "minova.pid").exists() else "open")
            return self

        def __exit__(self, *_error: object) -> None:
            events.append("locked" if (Path(fake.state_path) / "minova.pid").exists() else "open")

        def control(self, topic: str) -> str:
            return f"control of {topic}"

    monkeypatch.setitem(sys.modules, "minova.embedded", types.SimpleNamespace(Cluster=Cluster))
    fake.set_override("hosts", 3, group="embedded")
    with connect(fake, said.append) as connection:
        api: Any = connection
        assert api.conductor == "the conductor"
        assert api.control("compute") == "control of compute"
        assert connection.ctxt.user_id
    assert events == [["host1", "host2", "host3"], "locked", "locked"]
    assert not (Path(fake.state_path) / "minova.pid").exists()


class Conductor:
    target = oslo_messaging.Target(version="1.0")

    @expose
    def list_services(self, ctxt: Any) -> list[Any]:
        return [SERVICE]


class Control:
    target = oslo_messaging.Target(namespace="control", version="1.0")

    @expose
    def ping(self, ctxt: Any) -> Pong:
        return Pong(service="conductor", host="c1", uptime=1.0)


@pytest.fixture
def closed(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put the loopback in the place of a broker; return what is written down when it is left."""
    closed: list[str] = []
    endpoints = Conductor(), Control(), LowestVersionEndpoint(lambda topic: ("1.0", "c1"))
    loopback.serve("conductor", *endpoints)
    transport = loopback.transport
    monkeypatch.setattr(transport, "cleanup", lambda: closed.append("closed"))
    monkeypatch.setattr(transport_module, "get_transport", lambda _conf: transport)
    monkeypatch.setattr(transport_module, "is_fake", lambda _conf: False)
    return closed


def test_cluster_behind_a_broker(loopback: Loopback, closed: list[str], said: list[str]) -> None:
    with connect(loopback.conf, said.append) as connection:
        assert connection.conductor.list_services(connection.ctxt) == [SERVICE]
        assert connection.control("compute").TOPIC == "compute"
        assert closed == []
    assert closed == ["closed"]
    assert [sent.message["method"] for sent in loopback.sent] == ["ping", "get_lowest_version", "list_services"]
    assert not Path(loopback.conf.state_path).exists()


def test_broker_that_cannot_be_reached(
    loopback: Loopback, closed: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_args: object, **_options: object) -> None:
        raise ConnectionRefusedError("rabbit://user:secret@broker/ refused")

    monkeypatch.setattr(loopback, "send", refused)
    with pytest.raises(BrokerUnreachable, match="ConnectionRefusedError") as error, connect(loopback.conf, said.append):
        pass
    assert "secret" not in error.value.message


def test_broker_is_left_after_an_error(loopback: Loopback, closed: list[str], said: list[str]) -> None:
    with pytest.raises(ZeroDivisionError), connect(loopback.conf, said.append):
        raise ZeroDivisionError
    assert closed == ["closed"]


def test_broker_is_not_taken_leave_of_after_ctrl_c(loopback: Loopback, closed: list[str], said: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt), connect(loopback.conf, said.append):
        raise KeyboardInterrupt
    assert closed == []


def test_embedded_cluster_logs_beside_its_state(fake: cfg.ConfigOpts) -> None:
    assert log_folder(fake) == Path(fake.state_path)
    assert Path(fake.state_path).is_dir()


def test_client_of_a_broker_logs_to_a_folder_of_the_users_own(tmp_path: Path) -> None:
    conf = make_conf("rabbit://broker/")
    conf.set_override("state_path", "/var/lib/minova")
    assert log_folder(conf) == tmp_path / "minova"
