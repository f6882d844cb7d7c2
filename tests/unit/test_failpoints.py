import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from minova import failpoints
from minova.context import RequestContext, working_for
from minova.exception import ConfigurationError
from minova.failpoints import ENVIRONMENT, PLAN, Fate, Plan


@pytest.fixture
def points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path))
    monkeypatch.setattr(failpoints, "_points", None)
    failpoints.activate("minova-compute", "host1")
    return tmp_path


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", lambda group, how: calls.append((group, how)))
    return calls


def _plan(folder: Path, **changes: object) -> None:
    plan = {"binary": "minova-compute", "point": "work spawn before", "fate": Fate.KILL, **changes}
    (folder / PLAN).write_bytes(msgspec.json.encode(msgspec.convert(plan, Plan)))


def _passed(folder: Path) -> list[tuple[str, str]]:
    return [(each.point, each.fate) for each in failpoints.passes(folder)]


def _send(sent: list[str], text: str = "it") -> str:
    return failpoints.message(
        "cast", "compute.spawn", lambda: sent.append(text) or "sent", lambda: sent.append("copy"), lambda: "lost"
    )


def test_nothing_is_passed_without_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr(failpoints, "_points", None)
    monkeypatch.chdir(tmp_path)
    failpoints.activate("minova-compute", "host1")
    subject = object()
    failpoints.before("work", "spawn")
    failpoints.after("work", "spawn")
    assert failpoints.tapped(subject, "driver") is subject
    assert not failpoints.active()
    assert not list(tmp_path.iterdir())


def test_what_is_not_a_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "none"))
    with pytest.raises(ConfigurationError, match="there is no folder"):
        failpoints.activate("minova-compute", "host1")


def test_passes_are_written_down_in_their_order_with_their_request(points: Path) -> None:
    with working_for(RequestContext(request_id="req-1", overwrite=False)):
        failpoints.before("work", "spawn")
        failpoints.after("work", "spawn")
    first, second = failpoints.passes(points)
    assert (first.point, first.request, first.binary, first.host) == (
        "work spawn before",
        "req-1",
        "minova-compute",
        "host1",
    )
    assert second.point == "work spawn after"


@pytest.mark.parametrize(
    "changes",
    [
        {"point": "work spawn after"},
        {"binary": "minova-conductor"},
        {"host": "host2"},
        {"request": "req-2"},
        {"nth": 2},
    ],
)
def test_another_pass_than_the_planned_one_kills_nobody(
    points: Path, killed: list[tuple[int, int]], changes: dict[str, object]
) -> None:
    _plan(points, **changes)
    failpoints.before("work", "spawn")
    assert not killed


def test_the_planned_pass_kills_the_process_group_once(points: Path, killed: list[tuple[int, int]]) -> None:
    _plan(points, nth=2)
    for _pass in range(4):
        failpoints.before("work", "spawn")
    assert killed == [(0, signal.SIGKILL)]
    assert [fate for _point, fate in _passed(points)] == ["", "kill", "", ""]


def test_a_message_that_nothing_happens_to_is_sent_between_its_points(points: Path) -> None:
    sent: list[str] = []
    assert _send(sent) == "sent"
    assert sent == ["it"]
    assert [point for point, _fate in _passed(points)] == ["cast compute.spawn before", "cast compute.spawn after"]


@pytest.mark.parametrize(
    ("fate", "answer", "expected"),
    [(Fate.LOSE, "lost", []), (Fate.DOUBLE, "sent", ["copy", "it"])],
)
def test_a_message_is_lost_or_doubled(points: Path, fate: Fate, answer: str, expected: list[str]) -> None:
    _plan(points, point="cast compute.spawn before", fate=fate)
    sent: list[str] = []
    assert _send(sent) == answer
    assert sent == expected


def test_a_message_is_delayed(points: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later: list[tuple[float, Callable[[], object]]] = []
    monkeypatch.setattr(failpoints, "_later", lambda seconds, work: later.append((seconds, work)))
    _plan(points, point="cast compute.spawn before", fate=Fate.DELAY, seconds=5.0)
    sent: list[str] = []
    assert _send(sent) == "lost"
    ((seconds, work),) = later
    assert (seconds, sent) == (5.0, [])
    work()
    assert sent == ["copy"]


def test_a_message_is_overtaken_by_the_next(points: Path) -> None:
    _plan(points, point="cast compute.spawn before", fate=Fate.REORDER, seconds=60.0)
    sent: list[str] = []
    ctxt = RequestContext(request_id="req-1", overwrite=False)

    def send_first() -> None:
        with working_for(ctxt):
            _send(sent, "first")

    first = threading.Thread(target=send_first)
    first.start()
    while not _passed(points):
        pass
    with working_for(ctxt):
        _send(sent, "second")
    first.join()
    assert sent == ["second", "first"]
    assert any(each.point == "cast compute.spawn overtaken" for each in failpoints.passes(points))


def test_methods_of_a_tapped_object_are_points(points: Path) -> None:
    class Driver:
        host = "host1"

        def spawn(self, name: str) -> str:
            return f"spawned {name}"

        def list_guests(self) -> tuple[str, ...]:
            return ()

    driver = failpoints.tapped(Driver(), "driver", "spawn")
    assert (driver.host, driver.list_guests(), driver.spawn("vm")) == ("host1", (), "spawned vm")
    assert [point for point, _fate in _passed(points)] == ["driver spawn before", "driver spawn after"]
