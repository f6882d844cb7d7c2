"""Live migrations that leave a host: so many at a time, with progress, abort and a limit of time."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, cast

import msgspec
import oslo_messaging
import pytest
from oslo_config import cfg

from minova.compute import live_migrations
from minova.compute.lease import HostLease
from minova.compute.live_migrations import LiveMigrations
from minova.compute.work import Detached, Job, LetGo
from minova.conductor.rpcapi import ConductorAPI
from minova.context import RequestContext
from minova.db import convert
from minova.exception import HostUnusable, MigrationAborted, MigrationFailed, OperationRefused, PeerSilent
from minova.objects import Guest, Instance, MigrateData, MigrationOptions, MigrationProgress, Order
from minova.states import MigrationEvent, PowerState, TimeoutAction
from minova.virt.driver import ComputeDriver, ProgressCallback
from tests.unit.compute.rig import PATIENCE, Clock, a_lease, an_order
from tests.unit.rows import an_instance

OPTIONS, DATA = MigrationOptions(), MigrateData(address="there")


def progress(elapsed: float = 1.0, **more: Any) -> MigrationProgress:
    values = {"total_bytes": 100, "done_bytes": 40, "remaining_bytes": 60, "iteration": 2, "elapsed": elapsed}
    return MigrationProgress(**{**values, **more})


MIB = 2**20
ENDLESS = {"iteration": 3, "dirty_rate": 400 * MIB, "bandwidth": 128 * MIB}
LATE = "it did not end within 2 s: it does not converge: dirty rate 400 MiB/s, bandwidth 128 MiB/s"


class Hypervisor:
    """A driver whose migrations do what the test says."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.reports: dict[str, Iterable[MigrationProgress]] = {}
        self.begun: list[str] = []
        self.allowed: set[str] = set()
        self.aborted: set[str] = set()
        self.migrating: set[str] = set()
        self.options: MigrationOptions | None = None
        self.forced: list[str] = []
        self.refuses = False
        self.arriving = 0

    def get_guest(self, uuid: str) -> Guest | None:
        migrating_to = "there" if uuid in self.migrating else None
        return Guest(uuid=uuid, name="", power_state=PowerState.RUNNING, migrating_to=migrating_to)

    def live_migration(
        self,
        instance: Instance,
        destination: str,
        options: MigrationOptions,
        data: MigrateData,
        on_progress: ProgressCallback,
    ) -> None:
        assert data == DATA
        self.options = options
        uuid = instance.uuid
        with self.changed:
            self.begun.append(uuid)
            self.changed.notify_all()
        for report in self.reports.get(uuid, []):
            on_progress(report)
        with self.changed:
            assert self.changed.wait_for(lambda: uuid in self.allowed | self.aborted, PATIENCE)
            if uuid in self.aborted:
                self.aborted.discard(uuid)
                raise MigrationAborted(uuid=uuid)

    def live_migration_abort(self, uuid: str) -> None:
        self._refuse("live_migration_abort")
        with self.changed:
            self.aborted.add(uuid)
            self.changed.notify_all()

    def rollback_live_migration_at_destination(self, uuid: str) -> None:
        self._refuse("rollback_live_migration_at_destination")
        if self.arriving:
            self.arriving -= 1
            raise HostUnusable(host="here", reason="the guest is still arriving")

    def live_migration_force_complete(self, uuid: str) -> None:
        self._refuse("live_migration_force_complete")
        self.forced.append(uuid)

    def _refuse(self, operation: str) -> None:
        if self.refuses:
            raise OperationRefused(host="here", operation=operation, reason="no")

    def allow(self, *uuids: str) -> None:
        """Let migrations end."""
        with self.changed:
            self.allowed.update(uuids)
            self.changed.notify_all()

    def wait_for(self, *uuids: str) -> None:
        """Wait until exactly these migrations have begun, in this order."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.begun) >= len(uuids), PATIENCE)
            assert self.begun == list(uuids)


class Conductor:
    """Takes what is told of migrations."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.told: list[tuple[str, MigrationEvent, MigrationProgress | None]] = []
        self.error: Exception | None = None

    def report_migration(
        self, ctxt: RequestContext, order: Order, event: MigrationEvent, progress: MigrationProgress | None
    ) -> None:
        with self._changed:
            self.told.append((order.instance_uuid, event, progress))
            self._changed.notify_all()
        if self.error is not None:
            raise self.error

    def wait_for(self, uuid: str, event: MigrationEvent) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: (uuid, event) in [told[:2] for told in self.told], PATIENCE)


@pytest.fixture
def hypervisor() -> Hypervisor:
    return Hypervisor()


@pytest.fixture
def conductor() -> Conductor:
    return Conductor()


@pytest.fixture
def migrations(conf: cfg.ConfigOpts, hypervisor: Hypervisor, conductor: Conductor) -> LiveMigrations:
    return LiveMigrations(conf, cast("ComputeDriver", hypervisor), cast("ConductorAPI", conductor))


Start = Callable[..., tuple[Job, "Future[dict[str, Any]]"]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lease(conf: cfg.ConfigOpts, clock: Clock) -> HostLease:
    return a_lease(conf, clock)


@pytest.fixture
def start(migrations: LiveMigrations, hypervisor: Hypervisor, lease: HostLease) -> Iterator[Start]:
    """Start migrations, each in a thread; all end with the test."""
    pool = ThreadPoolExecutor()
    jobs: list[Job] = []

    def begin(
        uuid: str = "guest1", options: MigrationOptions = OPTIONS, **more: Any
    ) -> tuple[Job, "Future[dict[str, Any]]"]:
        order = an_order(f"action of {uuid}", guest=uuid)
        job = Job(order, lambda _job: {}, cast("Executor", pool), lease)
        jobs.append(job)
        instance = convert.instance(an_instance(uuid, **more))
        return job, pool.submit(migrations.run, job, instance, "there", options, DATA)

    yield begin
    migrations.stop()
    hypervisor.allow(*(job.order.instance_uuid for job in jobs))
    pool.shutdown()


def test_progress_is_told_and_the_last_is_the_result(
    start: Start, hypervisor: Hypervisor, conductor: Conductor
) -> None:
    hypervisor.reports["guest1"] = [progress(1.0), progress(2.0)]
    _job, end = start()
    hypervisor.wait_for("guest1")
    hypervisor.allow("guest1")
    assert end.result(PATIENCE) == {"progress": msgspec.to_builtins(progress(2.0))}
    assert conductor.told[0] == ("guest1", MigrationEvent.START, progress(1.0))


def test_progress_is_told_no_more_often_than_configured(
    conf: cfg.ConfigOpts, start: Start, hypervisor: Hypervisor, conductor: Conductor
) -> None:
    conf.set_override("live_migration_progress_interval", 60.0, "compute")
    hypervisor.reports["guest1"] = [progress(1.0)] * 5
    hypervisor.allow("guest1")
    start()[1].result(PATIENCE)
    assert len(conductor.told) == 1


@pytest.mark.parametrize("error", [PeerSilent(peer="any conductor", seconds=1), oslo_messaging.MessagingException()])
def test_migration_ends_though_nobody_hears_of_it(
    start: Start, hypervisor: Hypervisor, conductor: Conductor, error: Exception
) -> None:
    conductor.error = error
    hypervisor.reports["guest1"] = [progress()]
    hypervisor.allow("guest1")
    assert start()[1].result(PATIENCE)


def test_so_many_at_a_time_and_the_rest_are_queued(
    conf: cfg.ConfigOpts, start: Start, hypervisor: Hypervisor, conductor: Conductor
) -> None:
    conf.set_override("max_concurrent_live_migrations", 2, "compute")
    ends = {}
    for number in (1, 2, 3):
        ends[number] = start(f"guest{number}")[1]
        if number < 3:
            hypervisor.wait_for(*[f"guest{each}" for each in range(1, number + 1)])
    conductor.wait_for("guest3", MigrationEvent.QUEUE)
    assert hypervisor.begun == ["guest1", "guest2"]
    hypervisor.allow("guest2", "guest3")
    ends[2].result(PATIENCE)
    ends[3].result(PATIENCE)
    assert not ends[1].done()
    assert [told[:2] for told in conductor.told] == [("guest3", MigrationEvent.QUEUE)]


def test_all_but_one_of_those_that_come_at_once_are_told_to_be_queued(
    start: Start, hypervisor: Hypervisor, conductor: Conductor, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(3)
    real = hypervisor.get_guest

    def get_guest(uuid: str) -> Guest | None:
        together.wait(PATIENCE)
        return real(uuid)

    monkeypatch.setattr(hypervisor, "get_guest", get_guest)
    uuids = {f"guest{number}" for number in range(3)}
    ends = [start(uuid)[1] for uuid in uuids]
    with hypervisor.changed:
        assert hypervisor.changed.wait_for(lambda: bool(hypervisor.begun), PATIENCE)
    for uuid in uuids - set(hypervisor.begun):
        conductor.wait_for(uuid, MigrationEvent.QUEUE)
    hypervisor.allow(*uuids)
    for end in ends:
        end.result(PATIENCE)


def test_what_may_have_begun_before_the_hypervisor_went_away_is_left_to_the_driver(
    start: Start, hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def be_away(_uuid: str) -> Guest | None:
        raise OperationRefused(host="host1", operation="get_guest", reason="does libvirtd run?")

    monkeypatch.setattr(hypervisor, "get_guest", be_away)
    _job, end = start("guest1")
    hypervisor.wait_for("guest1")
    hypervisor.allow("guest1")
    end.result(PATIENCE)


def test_migration_that_failed_makes_way_for_the_next(start: Start, hypervisor: Hypervisor) -> None:
    first, end = start("guest1")
    hypervisor.wait_for("guest1")
    _second, second_end = start("guest2")
    hypervisor.live_migration_abort("guest1")
    first.cancelled.set()
    with pytest.raises(MigrationAborted):
        end.result(PATIENCE)
    hypervisor.wait_for("guest1", "guest2")
    hypervisor.allow("guest2")
    second_end.result(PATIENCE)


def test_migration_that_is_under_way_already_is_joined_at_once(start: Start, hypervisor: Hypervisor) -> None:
    start("guest1")
    hypervisor.wait_for("guest1")
    hypervisor.migrating.add("guest2")
    start("guest2")
    hypervisor.wait_for("guest1", "guest2")


def test_queued_migration_is_aborted_without_having_begun(
    migrations: LiveMigrations, start: Start, hypervisor: Hypervisor, conductor: Conductor
) -> None:
    start("guest1")
    hypervisor.wait_for("guest1")
    job, end = start("guest2")
    conductor.wait_for("guest2", MigrationEvent.QUEUE)
    migrations.abort(job)
    with pytest.raises(MigrationAborted):
        end.result(PATIENCE)
    assert hypervisor.begun == ["guest1"]
    assert hypervisor.aborted == set()


def test_migration_that_waits_for_long_is_told_of_again(
    start: Start, hypervisor: Hypervisor, conductor: Conductor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with progress, who was to hear that it is cancelled may not have heard it."""
    monkeypatch.setattr(live_migrations, "_QUEUED_SECONDS", 0.001)
    start("guest1")
    hypervisor.wait_for("guest1")
    start("guest2")
    for _ in range(3):
        conductor.wait_for("guest2", MigrationEvent.QUEUE)
        conductor.told.clear()


def test_running_migration_is_aborted(migrations: LiveMigrations, start: Start, hypervisor: Hypervisor) -> None:
    job, end = start()
    hypervisor.wait_for("guest1")
    migrations.abort(job)
    with pytest.raises(MigrationAborted):
        end.result(PATIENCE)


def test_abort_that_the_hypervisor_refuses_does_not_let_go_of_the_migration(
    migrations: LiveMigrations, start: Start, hypervisor: Hypervisor
) -> None:
    hypervisor.refuses = True
    hypervisor.reports["guest1"] = [progress(10**9)]
    _job, end = start()
    hypervisor.wait_for("guest1")
    hypervisor.allow("guest1")
    assert end.result(PATIENCE)


def test_abort_of_an_earlier_migration_does_not_end_this_one(start: Start, hypervisor: Hypervisor) -> None:
    hypervisor.aborted.add("guest1")
    _job, end = start()
    hypervisor.wait_for("guest1", "guest1")
    hypervisor.allow("guest1")
    end.result(PATIENCE)


def test_migration_ends_while_its_progress_is_on_its_way(
    conf: cfg.ConfigOpts, start: Start, hypervisor: Hypervisor, conductor: Conductor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker is away, and nobody knows for how long."""
    conf.set_override("live_migration_progress_interval", 0.05, "compute")
    back = threading.Event()
    monkeypatch.setattr(conductor, "report_migration", lambda *_: back.wait(PATIENCE))
    hypervisor.reports["guest1"] = [progress(1.0), progress(2.0)]
    hypervisor.allow("guest1")
    try:
        assert start()[1].result(PATIENCE) == {"progress": msgspec.to_builtins(progress(2.0))}
        assert not back.is_set()
    finally:
        back.set()


@pytest.mark.parametrize("under_way", [False, True])
def test_migration_does_not_begin_until_the_lease_of_the_host_is_renewed(
    conf: cfg.ConfigOpts,
    migrations: LiveMigrations,
    start: Start,
    hypervisor: Hypervisor,
    conductor: Conductor,
    lease: HostLease,
    clock: Clock,
    under_way: bool,
) -> None:
    clock.go_on(conf.service_down_time)
    if under_way:
        hypervisor.migrating.add("guest1")
    _job, end = start()
    conductor.wait_for("guest1", MigrationEvent.QUEUE)
    migrations.resume()
    assert hypervisor.begun == []
    lease.renew(lease.now())
    migrations.resume()
    hypervisor.allow("guest1")
    end.result(PATIENCE)


def test_queued_migration_that_was_let_go_of_never_begins(
    migrations: LiveMigrations, start: Start, hypervisor: Hypervisor, conductor: Conductor
) -> None:
    first, first_end = start("guest1")
    hypervisor.wait_for("guest1")
    assert not first.let_go()
    job, end = start("guest2")
    conductor.wait_for("guest2", MigrationEvent.QUEUE)
    assert job.let_go()
    migrations.resume()
    with pytest.raises(LetGo):
        end.result(PATIENCE)
    hypervisor.allow("guest1")
    first_end.result(PATIENCE)
    assert hypervisor.begun == ["guest1"]


@pytest.mark.parametrize(
    ("size", "options", "limit"),
    [
        ({"memory_mb": 512}, OPTIONS, 20),
        ({"memory_mb": 2048}, OPTIONS, 20),
        ({"memory_mb": 4096}, OPTIONS, 40),
        ({"memory_mb": 2560}, OPTIONS, 25),
        ({"memory_mb": 512, "disk_gb": 3}, OPTIONS, 20),
        ({"memory_mb": 512, "disk_gb": 3}, MigrationOptions(block_migration=True), 50),
    ],
)
def test_migration_that_takes_too_long_for_its_size_fails(
    conf: cfg.ConfigOpts,
    start: Start,
    hypervisor: Hypervisor,
    size: dict[str, int],
    options: MigrationOptions,
    limit: int,
) -> None:
    conf.set_override("live_migration_completion_timeout", 10, "compute")
    hypervisor.reports = {"in time": [progress(limit)], "late": [progress(limit + 0.1)]}
    hypervisor.allow("in time")
    start("in time", options, **size)[1].result(PATIENCE)
    with pytest.raises(MigrationFailed) as failure:
        start("late", options, **size)[1].result(PATIENCE)
    assert failure.value.reason == f"it did not end within {limit} s"


def test_without_a_limit_a_migration_may_take_for_ever(
    conf: cfg.ConfigOpts, start: Start, hypervisor: Hypervisor
) -> None:
    conf.set_override("live_migration_completion_timeout", 0, "compute")
    hypervisor.reports["guest1"] = [progress(10**9)]
    hypervisor.allow("guest1")
    assert start()[1].result(PATIENCE)


ABORT, FORCE = TimeoutAction.ABORT, TimeoutAction.FORCE_COMPLETE


def test_verdict_on_a_migration_that_takes_too_long_is_why_it_failed(start: Start, hypervisor: Hypervisor) -> None:
    hypervisor.reports["guest1"] = [progress(2.1, **ENDLESS), progress(2.2)]
    with pytest.raises(MigrationFailed) as failure:
        start(options=MigrationOptions(timeout=2))[1].result(PATIENCE)
    assert failure.value.reason == LATE


def test_migration_that_takes_too_long_is_forced_once_and_that_is_noted(
    start: Start, hypervisor: Hypervisor, caplog: pytest.LogCaptureFixture
) -> None:
    times = (2.0, 2.1, 2.2, 4.0, 4.2, 4.3)
    hypervisor.reports["guest1"] = [progress(seconds, **ENDLESS) for seconds in times]
    hypervisor.allow("guest1")
    result = start(options=MigrationOptions(timeout=2, timeout_action=FORCE))[1].result(PATIENCE)
    assert hypervisor.forced == ["guest1"]
    assert hypervisor.aborted == set()
    assert result["note"] == f"{LATE}, and was forced to its end"
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"The migration of guest1: {LATE}, and was forced to its end",
        f"The migration of guest1 was forced to its end, and {LATE}; it goes on",
    ]


def test_migration_that_was_cancelled_is_not_forced_any_more(start: Start, hypervisor: Hypervisor) -> None:
    begun = threading.Event()

    def reports() -> Iterator[MigrationProgress]:
        assert begun.wait(PATIENCE)
        yield progress(3.0)

    hypervisor.reports["guest1"] = reports()
    job, end = start(options=MigrationOptions(timeout=2, timeout_action=FORCE))
    hypervisor.wait_for("guest1")
    job.cancelled.set()
    begun.set()
    with pytest.raises(MigrationAborted):
        end.result(PATIENCE)
    assert hypervisor.forced == []


def test_force_that_the_hypervisor_refuses_is_tried_again(start: Start, hypervisor: Hypervisor) -> None:
    def reports() -> Iterator[MigrationProgress]:
        hypervisor.refuses = True
        yield progress(3.0)
        hypervisor.refuses = False
        yield progress(3.5)

    hypervisor.reports["guest1"] = reports()
    hypervisor.allow("guest1")
    result = start(options=MigrationOptions(timeout=2, timeout_action=FORCE))[1].result(PATIENCE)
    assert hypervisor.forced == ["guest1"]
    assert result["note"] == "it did not end within 2 s, and was forced to its end"


@pytest.mark.parametrize("action", TimeoutAction)
def test_post_copy_is_left_to_itself_whatever_is_wanted(
    start: Start, hypervisor: Hypervisor, action: TimeoutAction
) -> None:
    late = progress(3.0, post_copy=True)
    cancelled = threading.Event()

    def reports() -> Iterator[MigrationProgress]:
        assert cancelled.wait(PATIENCE)
        yield late

    hypervisor.reports["guest1"] = reports()
    job, end = start(options=MigrationOptions(timeout=2, timeout_action=action))
    hypervisor.wait_for("guest1")
    job.cancelled.set()
    cancelled.set()
    hypervisor.allow("guest1")
    assert end.result(PATIENCE) == {"progress": msgspec.to_builtins(late)}
    assert (hypervisor.forced, hypervisor.aborted) == ([], set())


def test_driver_is_told_what_was_left_open(conf: cfg.ConfigOpts, start: Start, hypervisor: Hypervisor) -> None:
    conf.set_override("live_migration_downtime", 70, "compute")
    hypervisor.allow("guest1")
    start(options=MigrationOptions(post_copy=True, timeout=7))[1].result(PATIENCE)
    assert hypervisor.options == MigrationOptions(
        max_downtime_ms=70, auto_converge=False, post_copy=True, timeout=7, timeout_action=ABORT
    )


def test_service_that_stops_lets_go_of_what_is_queued(
    migrations: LiveMigrations, start: Start, hypervisor: Hypervisor, conductor: Conductor
) -> None:
    start("guest1")
    hypervisor.wait_for("guest1")
    _job, end = start("guest2")
    conductor.wait_for("guest2", MigrationEvent.QUEUE)
    migrations.stop()
    with pytest.raises(Detached):
        end.result(PATIENCE)
    assert hypervisor.begun == ["guest1"]


def test_service_that_stops_lets_go_of_what_runs_and_aborts_nothing(
    migrations: LiveMigrations, start: Start, hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def live_migration(*_args: Any) -> None:
        on_progress: ProgressCallback = _args[-1]
        on_progress(progress())
        migrations.stop()
        on_progress(progress())

    monkeypatch.setattr(hypervisor, "live_migration", live_migration)
    with pytest.raises(Detached):
        start()[1].result(PATIENCE)
    assert hypervisor.aborted == set()


def test_service_that_stops_begins_no_migration(
    migrations: LiveMigrations, start: Start, hypervisor: Hypervisor
) -> None:
    migrations.stop()
    with pytest.raises(Detached):
        start()[1].result(PATIENCE)
    assert hypervisor.begun == []


def test_the_way_back_waits_until_the_guest_comes_no_more(
    migrations: LiveMigrations, hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_migrations, "_LOOK_SECONDS", 0.001)
    hypervisor.arriving = 3
    migrations.roll_back("guest1")
    assert hypervisor.arriving == 0


def test_the_way_back_is_given_up_at_last(
    migrations: LiveMigrations, hypervisor: Hypervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_migrations, "_LOOK_SECONDS", 0.001)
    monkeypatch.setattr(live_migrations, "_UNDO_SECONDS", 0.01)
    hypervisor.arriving = 10**9
    with pytest.raises(HostUnusable):
        migrations.roll_back("guest1")
    hypervisor.refuses = True
    with pytest.raises(OperationRefused):
        migrations.roll_back("guest1")


def test_the_way_back_keeps_no_service_from_stopping(migrations: LiveMigrations, hypervisor: Hypervisor) -> None:
    migrations.stop()
    hypervisor.arriving = 2
    with pytest.raises(Detached):
        migrations.roll_back("guest1")
    assert hypervisor.arriving == 1
