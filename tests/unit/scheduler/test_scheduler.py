"""Hosts are narrowed, ranked and claimed, and nobody gets room that is not there."""

from collections.abc import Sequence
from typing import Any

import pytest
from oslo_config import cfg
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from minova.db import convert
from minova.db.models import Allocation, ComputeNode
from minova.db.session import Database, LostRace
from minova.exception import HostNotFound, HostUnusable, NoValidHost
from minova.objects import Instance
from minova.scheduler import scheduler as scheduler_module
from minova.scheduler import weights
from minova.scheduler.scheduler import Scheduler
from tests.unit.rows import a_node, a_service, an_instance

SIZE = (2, 1024, 10)


@pytest.fixture
def scheduler(conf: cfg.ConfigOpts) -> Scheduler:
    return Scheduler(conf)


@pytest.fixture
def instance(database: Database) -> Instance:
    """An instance of 2 vCPUs, 1024 MiB and 10 GiB."""
    row = an_instance()
    add(database, row)
    return convert.instance(row)


def add(database: Database, *rows: Any) -> None:
    database.write(lambda session: session.add_all(rows))


def add_host(database: Database, host: str, *, service: dict[str, Any] | None = None, **node: Any) -> None:
    add(database, a_node(host, **node), a_service(host, **(service or {})))


def used(database: Database, host: str) -> tuple[int, int, int]:
    """Return the room that is used on a host, and check that it is the sum of the allocations."""
    with database.read() as session:
        node = session.get_one(ComputeNode, host)
        room = session.scalars(select(Allocation).where(Allocation.host == host)).all()
        found = (node.vcpus_used, node.memory_mb_used, node.disk_gb_used)
        assert found == tuple(sum(getattr(each, name) for each in room) for name in ("vcpus", "memory_mb", "disk_gb"))
        return found


def claim(
    database: Database, scheduler: Scheduler, instance: Instance, wanted: str | None = None, refused: Sequence[str] = ()
) -> str:
    return database.write(scheduler.claim, instance, wanted, refused)


UNFIT: dict[str, tuple[dict[str, Any], str]] = {
    "up": ({"service": {"silent_for": 61}}, "it is down, or was not heard from"),
    "up, if forced down": ({"service": {"forced_down": True}}, "it is down, or was not heard from"),
    "enabled": ({"service": {"enabled": False}}, "its service is disabled"),
    "not draining": ({"service": {"draining": True}}, "it is being drained"),
    "enough vCPUs": ({"vcpus_used": 7}, "it has fewer than 2 vCPUs free"),
    "enough memory": ({"memory_mb_used": 8192 - 1023}, "it has less than 1024 MiB of memory free"),
    "enough disk": ({"disk_gb_used": 91}, "it has less than 10 GiB of disk free"),
}
every_reason = pytest.mark.parametrize("reason", UNFIT)


def test_room_is_taken(database: Database, scheduler: Scheduler, instance: Instance) -> None:
    add_host(database, "host1")
    assert claim(database, scheduler, instance) == "host1"
    assert used(database, "host1") == SIZE


def test_host_that_just_fits_is_filled_to_the_brim(
    database: Database, scheduler: Scheduler, instance: Instance
) -> None:
    add_host(database, "host1", vcpus=2, memory_mb=1024, disk_gb=10)
    assert claim(database, scheduler, instance) == "host1"
    with pytest.raises(NoValidHost):
        claim(database, scheduler, convert.instance(an_instance("another")))
    assert used(database, "host1") == SIZE


@every_reason
def test_unfit_host_is_passed_over(database: Database, scheduler: Scheduler, instance: Instance, reason: str) -> None:
    add_host(database, "unfit", **UNFIT[reason][0])
    add_host(database, "worse", memory_mb=2048)
    assert claim(database, scheduler, instance) == "worse"


@every_reason
def test_filter_tells_that_it_refused(
    database: Database, scheduler: Scheduler, instance: Instance, reason: str
) -> None:
    for host in ("host1", "host2"):
        add_host(database, host, **UNFIT[reason][0])
    with pytest.raises(NoValidHost) as refusal:
        claim(database, scheduler, instance)
    assert refusal.value.refusals == {reason.partition(",")[0]: 2}
    assert refusal.value.request == "instance name of some-uuid (2 vCPUs, 1024 MiB, 10 GiB)"


@every_reason
def test_host_that_was_asked_for_is_refused_with_its_reason(
    database: Database, scheduler: Scheduler, instance: Instance, reason: str
) -> None:
    more, words = UNFIT[reason]
    add_host(database, "host1", **more)
    add_host(database, "host2")
    with pytest.raises(HostUnusable) as refusal:
        claim(database, scheduler, instance, "host1")
    assert (refusal.value.host, refusal.value.reason) == ("host1", words)
    assert used(database, "host2") == (0, 0, 0)


def test_host_counts_for_the_first_filter_that_refuses_it(
    database: Database, scheduler: Scheduler, instance: Instance
) -> None:
    add_host(database, "host1", service={"enabled": False}, vcpus_used=8)
    add_host(database, "host2", vcpus_used=8, disk_gb_used=100)
    add_host(database, "host3", disk_gb_used=100)
    add_host(database, "host4")
    with pytest.raises(NoValidHost) as refusal:
        claim(database, scheduler, instance, refused=["host4"])
    assert list(refusal.value.refusals.items()) == [
        ("another host", 1),
        ("enabled", 1),
        ("enough vCPUs", 1),
        ("enough disk", 1),
    ]


def test_without_hosts_nothing_was_refused(database: Database, scheduler: Scheduler, instance: Instance) -> None:
    with pytest.raises(NoValidHost) as refusal:
        claim(database, scheduler, instance)
    assert refusal.value.refusals == {}


def test_host_that_was_asked_for_is_taken_though_others_are_better(
    database: Database, scheduler: Scheduler, instance: Instance
) -> None:
    add_host(database, "best", memory_mb=2**20)
    add_host(database, "wanted")
    assert claim(database, scheduler, instance, "wanted") == "wanted"


def test_host_that_does_not_exist_is_not_found(database: Database, scheduler: Scheduler, instance: Instance) -> None:
    with pytest.raises(HostNotFound):
        claim(database, scheduler, instance, "nowhere")


def test_host_of_the_instance_is_not_chosen(database: Database, scheduler: Scheduler) -> None:
    add_host(database, "here", memory_mb=2**20)
    add_host(database, "there")
    row = an_instance(host="here")
    add(database, row)
    assert claim(database, scheduler, convert.instance(row)) == "there"


def test_host_that_refused_is_not_chosen_again(database: Database, scheduler: Scheduler, instance: Instance) -> None:
    add_host(database, "best", memory_mb=2**20)
    add_host(database, "other")
    assert claim(database, scheduler, instance, refused=["best"]) == "other"


def test_claim_that_is_repeated_takes_its_room_once(
    database: Database, scheduler: Scheduler, instance: Instance
) -> None:
    add_host(database, "host1")
    for _ in range(2):
        assert claim(database, scheduler, instance) == "host1"
    assert used(database, "host1") == SIZE


def test_only_the_best_candidates_are_weighed(
    conf: cfg.ConfigOpts, database: Database, scheduler: Scheduler, instance: Instance
) -> None:
    conf.set_override("max_candidates", 1, "scheduler")
    conf.set_override("cpu_weight_multiplier", 100.0, "scheduler")
    add_host(database, "most-memory", memory_mb=2**20)
    add_host(database, "most-cpus", vcpus=100)
    assert claim(database, scheduler, instance) == "most-memory"


def overtake(monkeypatch: pytest.MonkeyPatch, session: Session, *hosts: str) -> None:
    """Let others change hosts after they were read as candidates, as often as that happens."""

    def rank_later(conf: cfg.ConfigOpts, nodes: Sequence[ComputeNode]) -> list[ComputeNode]:
        faster = update(ComputeNode).where(ComputeNode.host.in_(hosts)).values(generation=ComputeNode.generation + 1)
        session.execute(faster.execution_options(synchronize_session=False))
        return weights.rank(conf, nodes)

    monkeypatch.setattr(scheduler_module, "rank", rank_later)


def test_host_that_changed_meanwhile_is_left_to_others(
    monkeypatch: pytest.MonkeyPatch, database: Database, scheduler: Scheduler, instance: Instance
) -> None:
    add_host(database, "best", memory_mb=2**20)
    add_host(database, "other")

    def work(session: Session) -> str:
        overtake(monkeypatch, session, "best")
        return scheduler.claim(session, instance, None, [])

    assert database.write(work) == "other"
    assert used(database, "best") == (0, 0, 0)


def test_race_that_was_lost_on_all_hosts_is_run_again(
    monkeypatch: pytest.MonkeyPatch, database: Database, scheduler: Scheduler, instance: Instance
) -> None:
    add_host(database, "host1")
    with monkeypatch.context() as patch, database.read() as session:
        overtake(patch, session, "host1")
        with pytest.raises(LostRace):
            scheduler.claim(session, instance, None, [])
    assert claim(database, scheduler, instance) == "host1"


def test_room_is_given_back_once(database: Database, scheduler: Scheduler, instance: Instance) -> None:
    add_host(database, "host1")
    claim(database, scheduler, instance)
    for _ in range(2):
        database.write(scheduler.release, instance.uuid, "host1")
        assert used(database, "host1") == (0, 0, 0)


def test_room_can_be_given_back_and_taken_in_one_transaction(
    database: Database, scheduler: Scheduler, instance: Instance
) -> None:
    add_host(database, "host1")
    claim(database, scheduler, instance)

    def work(session: Session) -> None:
        for _ in range(2):
            scheduler.release(session, instance.uuid, "host1")
            scheduler.claim(session, instance, None, [])

    database.write(work)
    assert used(database, "host1") == SIZE


@pytest.mark.parametrize(("keep", "left"), [(None, []), ("host2", ["host2"]), ("elsewhere", [])])
def test_all_room_is_given_back_but_what_is_to_be_kept(
    database: Database, scheduler: Scheduler, instance: Instance, keep: str | None, left: list[str]
) -> None:
    for host in ("host1", "host2"):
        add_host(database, host)
        claim(database, scheduler, instance, host)
    database.write(scheduler.release_all, instance.uuid, keep=keep)
    assert [host for host in ("host1", "host2") if used(database, host) == SIZE] == left


def test_instance_gets_its_room_where_its_guest_turned_up_be_there_enough_or_not(
    database: Database, scheduler: Scheduler, instance: Instance
) -> None:
    add_host(database, "host1")
    add_host(database, "host2", vcpus=1)
    claim(database, scheduler, instance)
    database.write(scheduler.transfer, instance, "host2")
    assert (used(database, "host1"), used(database, "host2")) == ((0, 0, 0), SIZE)
