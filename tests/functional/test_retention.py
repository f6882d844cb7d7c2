"""What is over is purged after a while: in nobody's way, and never what a host that returns has still to be told."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from oslo_config import cfg
from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session

from minova.conductor import retention
from minova.conductor.service import ConductorService
from minova.db import models
from minova.db.queries import COMPUTE
from minova.objects import Fault, utcnow
from minova.states import ActionStatus, Verb, VmState
from tests.fixtures.lab import PATIENCE, Lab, wait_until
from tests.fixtures.moves import converge, hosts_of, live_migrate, start_endless

pytestmark = pytest.mark.every_database

KINDS = (models.Action, models.ActionEvent, models.Migration, models.InstanceFault, models.Instance)
TIMES = {"submitted_at", "started_at", "finished_at", "created_at", "updated_at", "deleted_at"}


@pytest.fixture
def lab(make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A conductor and two computes; a purge is made only if a test wants one."""
    timers = ConductorService.timers

    def without_purge(conductor: ConductorService) -> list[tuple[float, Callable[[], None]]]:
        return [each for each in timers(conductor) if each[1] != conductor.retention.run]

    monkeypatch.setattr(ConductorService, "timers", without_purge)
    return make_lab("host1", "host2")


def pass_days(lab: Lab, days: int) -> None:
    """Let all that has happened have happened so many days earlier; hosts that are up are heard again at once."""

    def shift(session: Session) -> None:
        for row in [row for kind in KINDS for row in session.scalars(select(kind))]:
            for name in TIMES & set(row.__table__.columns.keys()):
                value = getattr(row, name)
                setattr(row, name, value and value - timedelta(days=days))
        for service in session.scalars(select(models.Service).where(models.Service.binary == COMPUTE)):
            service.last_seen_at -= timedelta(days=days)

    lab.database.write(shift)
    for host in lab.cluster.computes:
        lab.report(host)


def purge(lab: Lab) -> None:
    """Have a conductor do what it does each hour."""
    lab.cluster.conductors[0].retention.run()


def purge_after(lab: Lab, days: int) -> None:
    """Let days pass, and have a conductor purge."""
    pass_days(lab, days)
    purge(lab)


def counts(lab: Lab) -> dict[str, int]:
    """Return how many rows there are of what can be purged."""
    with lab.database.read() as session:
        found = {kind.__tablename__: session.scalar(select(func.count()).select_from(kind)) or 0 for kind in KINDS}
    return {name: number for name, number in found.items() if number}


def verbs(lab: Lab) -> list[Verb]:
    """Return what the actions that are left did, oldest first."""
    return [action.verb for action in reversed(lab.api.list_actions(lab.ctxt))]


def deleted(lab: Lab) -> list[str]:
    """Return the names of the deleted instances of which something is known."""
    found = lab.api.list_instances(lab.ctxt, deleted=True)
    return [each.name for each in found if each.vm_state is VmState.DELETED]


def fall_ill(lab: Lab, state: VmState) -> None:
    """Let an instance have a fault, and a state."""
    row = lab.instance()

    def work(session: Session) -> None:
        session.get_one(models.Instance, row.uuid).vm_state = state
        fault = Fault(code="Ill", message="it coughs")
        session.add(models.InstanceFault(instance_uuid=row.uuid, created_at=utcnow(), **_texts(fault)))

    lab.database.write(work)


def _texts(fault: Fault) -> dict[str, str]:
    return {"code": fault.code, "message": fault.message, "details": fault.details, "host": fault.host}


# What goes.


def test_what_an_instance_went_through_goes_and_it_lives_on(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger=retention.__name__)
    lab.boot()
    lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    fall_ill(lab, VmState.STOPPED)
    purge_after(lab, 91)
    assert counts(lab) == {"instances": 1}
    assert "Purged what was over more than 90 days ago: 2 actions, 1 instance_faults, 0 instances" in caplog.text
    lab.succeed(lab.api.start_instance(lab.ctxt, "vm"))
    assert verbs(lab) == [Verb.START]


def test_deleted_instance_goes_with_all_that_it_went_through(lab: Lab) -> None:
    converge(lab)
    lab.boot(host="host1")
    lab.succeed(live_migrate(lab))
    fall_ill(lab, VmState.ERROR)
    lab.succeed(lab.api.delete_instance(lab.ctxt, "vm"))
    purge_after(lab, 91)
    assert counts(lab) == {}


def test_conductors_purge_by_themselves(make_lab: Callable[..., Lab], conf: cfg.ConfigOpts) -> None:
    conf.set_override("purge_interval", 1, "conductor")
    lab = make_lab("host1")
    lab.boot()
    pass_days(lab, 91)
    wait_until(lambda: verbs(lab) == [], "a purge")


def test_rest_of_a_run_is_left_to_the_next(lab: Lab) -> None:
    lab.boot()
    pass_days(lab, 91)
    assert not lab.cluster.conductors[0].retention.purge(90, patience=-1.0).total()
    assert verbs(lab) == [Verb.BOOT]
    purge(lab)
    assert verbs(lab) == []


# What stays.


def test_what_is_younger_stays(lab: Lab) -> None:
    lab.boot()
    lab.succeed(lab.api.delete_instance(lab.ctxt, "vm"))
    before = counts(lab)
    purge_after(lab, 89)
    assert counts(lab) == before
    purge_after(lab, 2)
    assert counts(lab) == {}


def test_all_stays_if_nothing_is_to_be_purged(lab: Lab) -> None:
    lab.set("conductor", retention_days=0)
    lab.boot()
    lab.succeed(lab.api.delete_instance(lab.ctxt, "vm"))
    before = counts(lab)
    purge_after(lab, 10_000)
    assert counts(lab) == before


def test_what_has_not_ended_stays(lab: Lab) -> None:
    lab.boot(host="host1")
    action = start_endless(lab)
    before = counts(lab)
    events = before["action_events"]
    purge_after(lab, 91)
    assert verbs(lab) == [Verb.LIVE_MIGRATE]
    assert 0 < counts(lab)["action_events"] < events
    lab.api.cancel_action(lab.ctxt, action.id)
    assert lab.end_of(action).status is ActionStatus.CANCELLED


def test_fault_that_says_why_an_instance_is_in_error_stays(lab: Lab) -> None:
    lab.boot()
    fall_ill(lab, VmState.ERROR)
    purge_after(lab, 91)
    assert lab.fault().message == "it coughs"
    lab.api.reset_instance_state(lab.ctxt, "vm", VmState.ACTIVE)
    purge(lab)
    assert lab.api.list_faults(lab.ctxt, "vm") == []


# A host that returns is told the same as ever.


def fence(lab: Lab, fenced: bool) -> None:
    lab.api.set_service_forced_down(lab.ctxt, "host1", fenced)


@pytest.fixture
def lost(lab: Lab) -> str:
    """Boot an instance on host1, turn host1 off, and return the instance's UUID."""
    uuid = lab.boot(host="host1").uuid
    lab.kill_host("host1")
    fence(lab, True)
    return uuid


def come_back(lab: Lab) -> None:
    lab.return_host("host1")
    lab.report("host1")
    lab.wait_until_idle("host1")


def test_host_that_returns_after_years_destroys_what_was_evacuated(lab: Lab, lost: str) -> None:
    lab.succeed(lab.api.evacuate_instance(lab.ctxt, "vm", None))
    purge_after(lab, 1000)
    assert verbs(lab) == [Verb.EVACUATE]
    come_back(lab)
    assert hosts_of(lab, lost) == ["host2"]


def test_host_that_returns_after_years_destroys_what_was_deleted(lab: Lab, lost: str) -> None:
    lab.succeed(lab.api.delete_instance(lab.ctxt, "vm"))
    purge_after(lab, 1000)
    assert deleted(lab) == ["vm"]
    come_back(lab)
    assert hosts_of(lab, lost) == []
    purge(lab)
    assert deleted(lab) == []


def test_host_that_is_gone_keeps_only_what_it_may_have_a_copy_of(lab: Lab, lost: str) -> None:
    lab.succeed(lab.api.delete_instance(lab.ctxt, "vm"))
    pass_days(lab, 2)
    lab.boot("later")
    lab.succeed(lab.api.delete_instance(lab.ctxt, "later"))
    purge_after(lab, 1000)
    assert deleted(lab) == ["vm"]


def test_migration_goes_when_later_ones_tell_of_both_its_hosts(lab: Lab) -> None:
    lab.cluster.add_compute("host3")
    converge(lab)
    lab.boot(host="host1")
    for host in ("host2", "host1", "host3"):
        lab.succeed(live_migrate(lab, host))
    purge_after(lab, 91)
    # The second tells of host2, and the third of host1 and host3.
    assert [each.dest_host for each in lab.api.list_migrations(lab.ctxt, "vm")] == ["host3", "host1"]


# What another release has written.


def test_what_cannot_be_judged_stays_and_keeps_nothing_else(lab: Lab) -> None:
    converge(lab)
    for name in ("strange", "known"):
        lab.boot(name, host="host1")
        for host in ("host2", "host1", "host2"):
            lab.succeed(live_migrate(lab, host, name=name))
    lab.boot("odd")
    strange, odd = lab.instance("strange").uuid, lab.instance("odd").uuid
    pass_days(lab, 91)
    with written_by_a_newer_release(lab, "migrations", "migration_type", "instance_uuid", strange):
        with written_by_a_newer_release(lab, "actions", "status", "instance_uuid", odd):
            purge(lab)
            assert len(lab.api.list_actions(lab.ctxt, "known")) == 1
            assert len(lab.api.list_actions(lab.ctxt, "strange")) == 3
        assert len(lab.api.list_actions(lab.ctxt, "odd")) == 1


class written_by_a_newer_release:
    """Let a column hold what this release does not know, for as long as this lasts."""

    def __init__(self, lab: Lab, table: str, column: str, key: str, value: str) -> None:
        self._lab, self._value = lab, value
        self._read = text(f"select {column} from {table} where {key} = :value")
        self._write = text(f"update {table} set {column} = :new where {key} = :value")

    def __enter__(self) -> None:
        with self._lab.database.read() as session:
            self._before = session.execute(self._read, {"value": self._value}).scalars().first()
        self._set("of_tomorrow")

    def __exit__(self, *_error: object) -> None:
        self._set(self._before)

    def _set(self, new: Any) -> None:
        values = {"new": new, "value": self._value}
        self._lab.database.write(lambda session: session.execute(self._write, values))


# In nobody's way.


@pytest.fixture
def history(lab: Lab) -> int:
    """Let an instance have a long history, and return how many actions it consists of."""
    number, uuid = 500, lab.boot().uuid
    pass_days(lab, 91)
    lab.database.write(add_actions, uuid, number)
    return number + 1


def add_actions(session: Session, uuid: str, number: int) -> None:
    """Add copies of the action of an instance, with their traces."""
    [action] = session.scalars(select(models.Action).where(models.Action.instance_uuid == uuid))
    events = session.scalars(select(models.ActionEvent).where(models.ActionEvent.action_id == action.id)).all()
    ids = [f"old-{n}" for n in range(number)]
    session.execute(insert(models.Action), [{**_values(action), "id": each} for each in ids])
    copies = [{**_values(event), "action_id": each} for each in ids for event in events]
    session.execute(insert(models.ActionEvent), [{k: v for k, v in each.items() if k != "id"} for each in copies])


def _values(row: models.Base) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__table__.columns.keys()}  # noqa: SIM118  a column collection


@pytest.fixture
def batches(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take down how many rows each transaction is about."""
    sizes: list[int] = []
    real = retention._delete

    def delete(session: Session, kind: type[models.Base], keys: Sequence[Any]) -> int:
        sizes.append(len(keys))
        return real(session, kind, keys)

    monkeypatch.setattr(retention, "_delete", delete)
    return sizes


def test_much_goes_in_many_small_transactions(
    lab: Lab, history: int, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_PAUSE", 0.0)
    lab.set("conductor", purge_batch_size=7)
    purge(lab)
    assert counts(lab) == {"instances": 1}
    assert sum(batches) == history
    assert max(batches) == 7


@pytest.fixture
def purging(lab: Lab, history: int) -> Iterator[threading.Thread]:
    """Have a purge go on that takes longer than any operation."""
    lab.set("conductor", purge_batch_size=1)
    thread = threading.Thread(target=lambda: purge(lab))
    thread.start()
    wait_until(lambda: counts(lab)["actions"] < history, "the purge to begin")
    yield thread
    lab.cluster.conductors[0].retention.stop()
    thread.join(PATIENCE)


def test_operations_go_on_meanwhile(lab: Lab, purging: threading.Thread) -> None:
    lab.boot("other")
    lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    assert purging.is_alive()


def test_conductor_that_stops_does_not_finish_its_purge(lab: Lab, purging: threading.Thread) -> None:
    lab.cluster.conductors[0].drain()
    purging.join(PATIENCE)
    assert not purging.is_alive()
    with lab.database.read() as session:
        assert session.scalar(select(func.count()).select_from(models.Action))


@pytest.fixture
def conductors(lab: Lab) -> list[ConductorService]:
    """Start another conductor."""
    return [*lab.cluster.conductors, lab.cluster.add_conductor()]


def test_conductors_purge_at_once(
    lab: Lab, conductors: list[ConductorService], history: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_PAUSE", 0.0)
    lab.set("conductor", purge_batch_size=10)
    barrier = threading.Barrier(len(conductors))

    def run(conductor: ConductorService) -> int:
        barrier.wait(PATIENCE)
        return conductor.retention.purge(90)["actions"]

    with ThreadPoolExecutor(len(conductors)) as pool:
        assert sum(pool.map(run, conductors)) == history
    assert counts(lab) == {"instances": 1}
