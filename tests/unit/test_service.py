"""The life of a service, of which each part is done whatever went wrong with the others."""

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import pytest

from minova.service import Service

TIMER_SECONDS = 10.0


class Part:
    """What is started and stopped with a service: its server, or what it closes."""

    def __init__(self, name: str, done: list[str]) -> None:
        self._name, self._done = name, done

    def start(self) -> None:
        self._done.append(f"{self._name} started")

    def stop(self) -> None:
        self._done.append(f"{self._name} stopped")

    def wait(self) -> None: ...


class Sample(Service):
    """A service that says what it does, with one timer."""

    def __init__(self, timer: Callable[[], None]) -> None:
        self.done: list[str] = []
        self.trouble: Exception | None = None
        self._timer = timer
        super().__init__(cast("Any", Part("server", self.done)))

    def timers(self) -> Sequence[tuple[float, Callable[[], None]]]:
        return ((TIMER_SECONDS, self._timer),)

    def hand_over(self) -> None:
        self.done.append("handed over")

    def drain(self) -> None:
        self.done.append("drained")
        if self.trouble is not None:
            raise self.trouble

    def close(self) -> None:
        self.done.append("closed")


def hang(end: threading.Event) -> None:
    end.wait()


class Clock:
    """What time it is for the timers of services."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("minova.service.time", clock)
    return clock


Run = Callable[[Callable[[], None]], Sample]


@pytest.fixture
def run(clock: Clock) -> Iterator[Run]:
    """Start services with a timer that has begun."""
    services: list[Sample] = []

    def run(timer: Callable[[], None]) -> Sample:
        begun = threading.Event()

        def begin() -> None:
            begun.set()
            timer()

        services.append(Sample(begin))
        services[-1].start()
        assert begun.wait(TIMER_SECONDS)
        return services[-1]

    yield run
    for service in services:
        service.trouble = None
        service.stop()


def test_service_stops_in_order(run: Run) -> None:
    service = run(lambda: None)
    service.stop()
    service.wait()
    assert service.done == ["server started", "handed over", "server stopped", "drained", "closed"]


def test_service_that_cannot_drain_stops_all_the_same(run: Run) -> None:
    service = run(lambda: None)
    service.trouble = RuntimeError("the database is away")
    with pytest.raises(RuntimeError, match="the database is away"):
        service.stop()
    service.wait()
    assert service.done[-1] == "closed"
    assert service._worker is not None
    assert service._worker.wait(0)


def test_timer_that_never_ends_is_noticed(run: Run, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    end = threading.Event()
    service = run(lambda: hang(end))
    try:
        clock.now = TIMER_SECONDS + service.PATIENCE
        assert service.lives()
        clock.now += 1.0
        assert [service.lives() for _ in range(3)] == [False] * 3
        [said] = [record.getMessage() for record in caplog.records]
        assert said.endswith("begin hangs: it has not ended for 611 seconds")
    finally:
        end.set()


def test_timer_that_fails_does_not_hang(run: Run, clock: Clock) -> None:
    late = threading.Event()

    def fail() -> None:
        late.wait()
        raise OSError

    service = run(fail)
    clock.now = 2 * service.PATIENCE
    assert not service.lives()
    late.set()
    service.stop()
    assert service.lives()


def test_what_watches_the_timers_is_none_of_them(clock: Clock) -> None:
    end, watched = threading.Event(), threading.Event()
    service = Sample(lambda: hang(end))
    service.watch(TIMER_SECONDS, watched.set)
    service.start()
    try:
        assert watched.wait(TIMER_SECONDS)
    finally:
        end.set()
        service.stop()
