"""What systemd is told; that it arrives, tests/functional/test_launcher.py shows."""

import os
import time
from typing import Any, cast

import pytest

from minova.systemd import Notifier, Pulse, Vigil


class Told:
    """Keeps what is told."""

    def __init__(self, watchdog: float | None = None) -> None:
        self.watchdog = watchdog
        self.fields: list[str] = []

    def tell(self, **fields: Any) -> None:
        self.fields += [name for name in fields if name != "STATUS"]


@pytest.fixture
def pulse() -> Pulse:
    return Pulse(2)


def test_nobody_is_told_without_a_service_manager() -> None:
    assert Notifier.take({"WATCHDOG_USEC": "1000000"}) is None


def test_address_is_taken_away_from_children() -> None:
    environ = {"NOTIFY_SOCKET": "@there", "WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid()), "PATH": "x"}
    notifier = Notifier.take(environ)
    assert notifier is not None
    assert notifier.watchdog == 1.5
    assert environ == {"PATH": "x"}


@pytest.mark.parametrize("more", [{}, {"WATCHDOG_USEC": "1500000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}])
def test_watchdog_of_nobody_or_of_another_process_is_not_fed(more: dict[str, str]) -> None:
    notifier = Notifier.take({"NOTIFY_SOCKET": "/there", **more})
    assert notifier is not None
    assert notifier.watchdog is None


def test_service_is_ready_once_all_workers_serve(pulse: Pulse) -> None:
    told = Told()
    vigil = Vigil(cast("Notifier", told), pulse)
    pulse.beat(0, True)
    pulse.beat(1, False)
    vigil.look()
    assert told.fields == []
    pulse.beat(1, True)
    vigil.look()
    vigil.look()
    assert told.fields == ["READY"]


def test_service_is_ready_again_once_all_workers_have_reloaded(pulse: Pulse) -> None:
    told = Told()
    vigil = Vigil(cast("Notifier", told), pulse)
    for worker in (0, 1):
        pulse.beat(worker, True)
    vigil.look()
    pulse.ask_for_reload()
    vigil.reload()
    pulse.follow(0, lambda: None)
    vigil.look()
    assert told.fields == ["READY", "RELOADING", "MONOTONIC_USEC"]
    pulse.follow(1, lambda: None)
    vigil.look()
    assert told.fields[-1] == "READY"


def test_worker_reloads_once_however_often_it_was_asked(pulse: Pulse) -> None:
    done: list[str] = []
    pulse.follow(0, lambda: done.append("too early"))
    for _ in range(3):
        pulse.ask_for_reload()
    for _ in range(2):
        pulse.follow(0, lambda: done.append("reloaded"))
    assert done == ["reloaded"]


def test_worker_that_is_asked_while_it_reloads_reloads_again(pulse: Pulse) -> None:
    for worker in (0, 1):
        pulse.beat(worker, True)
    pulse.ask_for_reload()
    pulse.follow(1, pulse.ask_for_reload)
    pulse.follow(0, lambda: None)
    assert not pulse.all_serve()
    pulse.follow(1, lambda: None)
    assert pulse.all_serve()


def test_worker_that_takes_anothers_place_has_the_newest_configuration(pulse: Pulse) -> None:
    pulse.beat(0, True)
    pulse.ask_for_reload()
    pulse.follow(0, lambda: None)
    pulse.start_again(1)
    assert not pulse.all_serve()
    pulse.beat(1, True)
    assert pulse.all_serve()


def test_watchdog_is_fed_only_while_all_workers_live(pulse: Pulse, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told(watchdog=30.0)
    vigil = Vigil(cast("Notifier", told), pulse)
    now = time.monotonic()
    for worker, ago in ((0, 0.0), (1, 31.0)):
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", lambda ago=ago: now - ago)
            pulse.beat(worker, False)
    vigil.look()
    assert told.fields == []
    pulse.beat(1, False)
    vigil.look()
    assert told.fields == ["WATCHDOG"]


def test_watchdog_is_fed_while_a_worker_that_takes_anothers_place_waits_for_something(
    pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told(watchdog=30.0)
    vigil = Vigil(cast("Notifier", told), pulse)
    pulse.start_again(1)
    later = time.monotonic() + 3600.0
    monkeypatch.setattr("minova.systemd.time.monotonic", lambda: later)
    pulse.beat(0, True)
    vigil.look()
    assert told.fields == ["WATCHDOG"]
