"""Whole services over a real dispatcher. After every test the invariants I1 to I5 of the design are checked."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from oslo_config import cfg
from oslo_messaging._drivers import impl_fake

from minova.conf import load
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab, wait_until
from tests.fixtures.nursery import Nursery
from tests.fixtures.services.services import DATABASES, SQLITE, Services


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """A private broker and private databases, of which each is started when it is first asked for."""
    services = Services()
    try:
        yield services
    finally:
        services.stop()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """What forks daemons and commands."""
    with Nursery() as nursery:
        yield nursery


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that are marked ``every_database`` on the servers too."""
    if metafunc.definition.get_closest_marker("every_database") is not None:
        servers = [pytest.param(kind, marks=pytest.mark.real) for kind in DATABASES if kind != SQLITE]
        metafunc.parametrize("database", [SQLITE, *servers])


@pytest.fixture
def database() -> str:
    """The kind of database; a test that wants several parametrizes this."""
    return SQLITE


@pytest.fixture
def conf(tmp_path: Path, database: str, request: pytest.FixtureRequest) -> Iterator[cfg.ConfigOpts]:
    """The one global configuration, with a state path of its own and little patience."""
    file = tmp_path / "minova.conf"
    default = f"sqlite:///{tmp_path}/state/minova.sqlite"
    connection = default if database == SQLITE else request.getfixturevalue("services").database(database).connection()
    file.write_text(
        f"""
[DEFAULT]
state_path = {tmp_path}/state
report_interval = 1
[database]
connection = {connection}
[conductor]
lease = 2
sweep_interval = 0.2
[compute]
live_migration_progress_interval = 0.05
report_retry_interval = 0.1
"""
    )
    load.load(cfg.CONF, ["--config-file", str(file)], "minova-manage")
    yield cfg.CONF
    cfg.CONF.reset()


@pytest.fixture
def quick_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``fake://`` look for messages ten times as often as every 50 ms: most of a test's time would go there."""

    def sleep(seconds: float) -> None:
        time.sleep(min(seconds, 0.005))

    monkeypatch.setattr(impl_fake, "time", SimpleNamespace(time=time.time, sleep=sleep))


@pytest.fixture
def make_lab(conf: cfg.ConfigOpts, quick_broker: None) -> Iterator[Callable[..., Lab]]:
    """Make clusters, and check and stop them at the end."""
    labs: list[Lab] = []
    before = set(threading.enumerate())

    def make(*hosts: str) -> Lab:
        labs.append(Lab(conf, hosts))
        return labs[-1]

    yield make
    try:
        for lab in labs:
            lab.check_invariants()
    finally:
        for lab in labs:
            lab.stop()
    wait_until(lambda: set(threading.enumerate()) <= before, "the end of all threads")


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """A conductor and two computes."""
    return make_lab("host1", "host2")


@pytest.fixture
def gate(make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Gate]]:
    """Put gates in front of methods of the fake driver; all are open when the clusters are stopped."""
    gates: list[Gate] = []

    def make(method: str) -> Gate:
        gates.append(Gate(monkeypatch, method))
        return gates[-1]

    yield make
    for each in gates:
        each.open()


@pytest.fixture(autouse=True)
def no_unexpected_error(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test during which a service met an error that nobody expected, unless it is marked ``meets_errors``."""
    yield
    if request.node.get_closest_marker("meets_errors") is None:
        records = [record for phase in ("setup", "call") for record in caplog.get_records(phase)]
        errors = [record.getMessage() for record in records if record.levelno >= logging.ERROR]
        assert not errors, f"services met errors: {errors}"
