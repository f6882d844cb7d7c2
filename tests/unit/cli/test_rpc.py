"""``rpc ping``, ``rpc versions``, ``rpc map``, and ``db``."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import oslo_messaging
import pytest

import minova
from minova.cli.rpcmap import Interface, gather, place
from minova.context import RequestContext
from minova.db import migration
from minova.exception import DatabaseError, PeerSilent
from minova.objects import Pin, Pong, Presence, Task
from minova.rpc.client import RPCAPI
from minova.rpc.server import expose
from minova.rpc.versions import History, Release
from minova.states import HostState
from tests.unit.cli.rig import SERVICE, START, Manage
from tests.unit.cli.test_connection import make_conf

CONDUCTOR = replace(SERVICE, binary="minova-conductor", host="c1")
SILENCE = PeerSilent(peer="compute on host1", seconds=10.0)


def test_ping_asks_every_service(manage: Manage) -> None:
    manage.conductor.answers["list_services"] = [CONDUCTOR, SERVICE]
    listed = manage("rpc", "ping", "-f", "json").json
    assert [(each["host"], each["binary"], each["error"]) for each in listed] == [
        ("c1", "minova-conductor", None),
        ("host1", "minova-compute", None),
    ]
    assert all(each["answer_ms"] >= 0 for each in listed)
    assert sorted(manage.topics) == ["compute", "conductor"]
    assert sorted(arguments["host"] for _name, arguments in manage.control.asked) == ["c1", "host1"]


@pytest.mark.parametrize(("state", "status"), [(HostState.UP, 1), (HostState.UNKNOWN, 0), (HostState.DOWN, 0)])
def test_ping_fails_if_a_service_that_is_up_is_silent(manage: Manage, state: HostState, status: int) -> None:
    manage.conductor.answers["list_services"] = [CONDUCTOR, replace(SERVICE, state=state)]

    def ping(host: str) -> Any:
        return SILENCE if host == "host1" else Pong(service="conductor", host=host, uptime=1.0)

    manage.control.answers["ping"] = ping
    ended = manage("rpc", "ping")
    assert ended.status == status
    assert "no answer" in ended.out
    assert SILENCE.message in ended.out
    message = "minova-manage: error: 1 of the services that are up did not answer\n"
    assert ended.err == (message if status else "")


def test_ping_of_one_host(manage: Manage) -> None:
    manage.conductor.answers["list_services"] = [CONDUCTOR, SERVICE]
    assert [each["host"] for each in manage("rpc", "ping", "--host", "host1", "-f", "json").json] == ["host1"]


def test_ping_of_a_host_that_is_not_there(manage: Manage) -> None:
    ended = manage("rpc", "ping", "--host", "host9")
    assert (ended.status, ended.err) == (1, "minova-manage: error: no such service: host9\n")


def answers(manage: Manage, *presences: Presence) -> None:
    """Have these answer when the second topic has been called."""

    def announce(round_id: str) -> None:
        if len(manage.topics) == 2:
            for presence in presences:
                manage.roll.present(RequestContext(), round_id, presence)

    manage.control.answers["announce"] = announce
    manage.conf = make_conf("fake://")
    manage.conf.set_override("ping_timeout", 0.1, "rpc")


PRESENCE = Presence(
    service="minova-compute",
    host="host1",
    process=42,
    workers=1,
    uptime=90.0,
    release="0.1.0",
    rpc_version="1.2",
    pins=(Pin(topic="conductor", version="1.0", reason="host c1"),),
    tasks=(Task(what="live_migration", subject="act-1", since=START),),
)
CONDUCTORS = [replace(PRESENCE, service="minova-conductor", host="c1", process=pid, workers=2) for pid in (7, 8)]


def test_roll_call_shows_every_process(manage: Manage) -> None:
    manage.conductor.answers["list_services"] = [CONDUCTOR, SERVICE]
    answers(manage, *CONDUCTORS, PRESENCE)
    listed = manage("rpc", "ping", "--all", "-f", "json").json
    assert [(each["host"], each["binary"], each["process"]) for each in listed] == [
        ("host1", "minova-compute", 42),
        ("c1", "minova-conductor", 7),
        ("c1", "minova-conductor", 8),
    ]
    assert listed[0]["pins"] == [{"topic": "conductor", "version": "1.0", "reason": "host c1"}]
    assert listed[0]["tasks"] == [{"what": "live_migration", "subject": "act-1", "since": START.isoformat()}]
    assert (listed[0]["uptime"], listed[0]["rpc_version"], listed[0]["release"]) == (90.0, "1.2", "0.1.0")
    assert sorted(manage.topics) == ["compute", "conductor"]


def test_roll_call_reads_well(manage: Manage) -> None:
    answers(manage, PRESENCE)
    shown = manage("rpc", "ping", "--all").out
    assert "90.0 s" in shown
    assert "conductor 1.0: host c1" in shown
    assert "live_migration (act-1) for" in shown


@pytest.mark.parametrize(
    ("present", "silent"), [([], ["c1", "host1"]), ([PRESENCE], ["c1"]), ([PRESENCE, CONDUCTORS[0]], ["c1"])]
)
def test_roll_call_shows_who_is_missing(manage: Manage, present: list[Presence], silent: list[str]) -> None:
    """Of a conductor with two processes, one is not enough."""
    manage.conductor.answers["list_services"] = [CONDUCTOR, SERVICE]
    answers(manage, *present)
    ended = manage("rpc", "ping", "--all", "-f", "json")
    assert [each["host"] for each in ended.json if each["answer_ms"] is None] == silent
    assert ended.status == 1
    assert ended.err == f"minova-manage: error: {len(silent)} of the services that are up did not answer\n"


def test_roll_call_misses_nobody_who_is_not_up(manage: Manage) -> None:
    manage.conductor.answers["list_services"] = [replace(SERVICE, state=HostState.UNKNOWN)]
    answers(manage)
    ended = manage("rpc", "ping", "--all", "-f", "json")
    assert (ended.status, ended.json) == (0, [])


def test_roll_call_shows_who_is_there_if_no_conductor_is(manage: Manage) -> None:
    manage.conductor.answers["list_services"] = SILENCE
    answers(manage, PRESENCE)
    ended = manage("rpc", "ping", "--all", "-f", "json")
    assert [(each["binary"], each["answer_ms"] is None) for each in ended.json] == [
        ("minova-compute", False),
        ("minova-conductor", True),
    ]
    assert ended.status == 1


def test_roll_call_is_of_all(manage: Manage) -> None:
    ended = manage("rpc", "ping", "--all", "--host", "host1")
    assert ended.status == 2
    assert not manage.configured


def test_reset_tells_all_services(manage: Manage) -> None:
    ended = manage("rpc", "reset")
    assert ended.status == 0
    assert sorted(manage.topics) == ["compute", "conductor"]
    assert [name for name, _arguments in manage.control.asked] == ["reset", "reset"]
    assert "minova-manage rpc versions" in ended.err


def test_versions_of_all_services(manage: Manage) -> None:
    manage.conductor.answers["list_services"] = [SERVICE, replace(SERVICE, host="host2", state=HostState.UNKNOWN)]
    assert manage("rpc", "versions", "-f", "json").json == [
        {
            "host": "host1",
            "binary": "minova-compute",
            "state": "up",
            "release": "0.1.0",
            "rpc_version": "1.2",
            "pins": [{"topic": "conductor", "version": "1.0", "reason": "host c1"}],
            "error": None,
        },
        {
            "host": "host2",
            "binary": "minova-compute",
            "state": "unknown",
            "release": None,
            "rpc_version": "1.2",
            "pins": [],
            "error": None,
        },
    ]
    assert [arguments["host"] for _name, arguments in manage.control.asked] == ["host1"]
    assert "conductor 1.0: host c1" in manage("rpc", "versions").out


def test_versions_without_an_answer(manage: Manage) -> None:
    manage.control.answers["get_versions"] = SILENCE
    ended = manage("rpc", "versions", "-f", "json")
    assert ended.status == 1
    assert ended.json[0]["error"] == SILENCE.message


def test_map_knows_both_ends_of_every_method(manage: Manage) -> None:
    ended = manage("rpc", "map", "-f", "json")
    assert ended.status == 0
    assert manage.configured == []
    methods = {(each["topic"], each["method"]): each for each in ended.json}
    assert all(all(each[name] for name in ("since", "kind", "client", "endpoint")) for each in methods.values())
    grown = methods["compute", "live_migration"]
    assert grown["kind"] == "cast"
    assert grown["arguments_since"] == {"options": "1.1", "data": "1.4"}
    assert methods["conductor", "get_lowest_version"]["namespace"] == "control"
    assert methods["every", "ping"]["kind"] == "call"


def test_map_points_at_the_definitions(manage: Manage) -> None:
    for each in manage("rpc", "map", "-f", "json").json:
        for where in (each["client"], each["endpoint"]):
            name, _colon, number = where.partition(":")
            lines = (Path(minova.__file__).parent.parent / name).read_text().splitlines()
            assert lines[int(number) - 1].lstrip().startswith(f"def {each['method']}(")


class Client(RPCAPI):
    TOPIC = "example"
    HISTORY = History((Release(version="1.0", summary="The first.", methods=("forgotten", "whole")),))

    def whole(self, ctxt: RequestContext) -> None:
        """Cast to :meth:`Endpoint.whole`."""

    def unserved(self, ctxt: RequestContext) -> None:
        """Call :meth:`Endpoint.unserved`."""

    def helper(self) -> None:
        """Not an RPC method."""


class Endpoint:
    target = oslo_messaging.Target(version="1.0")

    @expose
    def whole(self, ctxt: RequestContext) -> None: ...

    @expose
    def unsent(self, ctxt: RequestContext) -> None: ...

    def helper(self) -> None: ...


def test_what_is_missing_shows() -> None:
    methods = {method.name: method for method in gather(Interface(client=Client, endpoints={"example": Endpoint}))}
    assert set(methods) == {"forgotten", "unsent", "unserved", "whole"}
    assert (methods["whole"].kind, methods["whole"].since) == ("cast", "1.0")
    assert (methods["forgotten"].client, methods["forgotten"].endpoint) == (None, None)
    assert (methods["unsent"].client_place, methods["unsent"].since) == (None, None)
    assert (methods["unserved"].endpoint_place, methods["unserved"].kind) == (None, "call")


def test_place_of_nothing() -> None:
    assert place(None) is None


@pytest.fixture
def database(manage: Manage, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    functions: dict[str, Any] = {"sync": lambda conf: "0007", "version": lambda conf: (None, "0007")}
    for name in functions:
        monkeypatch.setattr(migration, name, lambda conf, name=name: functions[name](conf))
    manage.conf = make_conf("fake://")
    return functions


def test_db_sync_keeps_others_away(manage: Manage, database: dict[str, Any]) -> None:
    def sync(conf: Any) -> str:
        assert (Path(conf.state_path) / "minova.pid").exists()
        return "0007"

    database["sync"] = sync
    assert manage("db", "sync", "-f", "json").json == {"revision": "0007"}


def test_db_version(manage: Manage, database: dict[str, Any]) -> None:
    assert manage("db", "version", "-f", "json").json == {"revision": None, "newest": "0007"}


def test_db_of_a_cluster_needs_no_state_path(manage: Manage, database: dict[str, Any]) -> None:
    manage.conf = make_conf("rabbit://broker/")
    assert manage("db", "version").status == 0
    assert not Path(manage.conf.state_path).exists()


def test_db_that_is_broken(manage: Manage, database: dict[str, Any]) -> None:
    def version(conf: Any) -> Any:
        raise DatabaseError(reason="it is newer than this program")

    database["version"] = version
    ended = manage("db", "version")
    assert (ended.status, ended.err) == (1, "minova-manage: error: database: it is newer than this program\n")
