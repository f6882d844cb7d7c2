"""Of two transactions that decide at once each sees what the other did: there never are two guests of an instance.

Each test has one transaction stop half-way, lets another be made there, and lets the first go on. Where the second has
to wait for the first, as all do on SQLite, it is made after it: what comes out has to be right either way.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest

from minova.conductor import administration, doubts
from minova.conductor.engine import Engine
from minova.conductor.tasks.evacuate import EvacuateInstance
from minova.conductor.tasks.rebuild import RebuildInstance
from minova.exception import HostEvacuating, HostNotFenced, InstanceBusy
from minova.exception_moves import PlaceUnclear
from minova.objects import Action
from minova.rpc.client import Timeout
from minova.scheduler.scheduler import Scheduler
from minova.states import VmState
from tests.fixtures.doubts import arrive, fence, hear, lose_live_migration
from tests.fixtures.gate import Gate
from tests.fixtures.lab import PATIENCE, Lab, wait_until
from tests.fixtures.moves import converge, hosts_of, live_migrate
from tests.fixtures.services.services import SQLITE

pytestmark = pytest.mark.every_database

BLOCKED = 1.0
"""Seconds after which the second transaction is taken to wait for the first one; no test hangs on its being right."""


@contextmanager
def meanwhile(owner: object, name: str, work: Callable[[], Any], patience: float = BLOCKED) -> Iterator[Future[Any]]:
    """Have another thread do ``work`` when ``owner.name`` has returned for the first time, in the transaction there."""
    real, first = getattr(owner, name), threading.Lock()
    with ThreadPoolExecutor(1) as pool, pytest.MonkeyPatch.context() as patch:
        done: Future[Any] = Future()

        def other() -> None:
            try:
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)

        def held(*args: Any, **more: Any) -> Any:
            result = real(*args, **more)
            if first.acquire(blocking=False):
                pool.submit(other)
                wait([done], patience)
            return result

        patch.setattr(owner, name, held)
        yield done


def test_what_was_committed_meanwhile_is_seen_whatever_the_servers_default_is(lab: Lab, database: str) -> None:
    with lab.database.engine.connect() as connection:
        assert connection.get_isolation_level() == ("SERIALIZABLE" if database == SQLITE else "READ COMMITTED")


@pytest.fixture
def lost(lab: Lab) -> Lab:
    """A cluster of which a host with an instance is off, and fenced."""
    lab.boot(host="host1")
    lab.kill_host("host1")
    lab.api.set_service_forced_down(lab.ctxt, "host1", True)
    return lab


def take_back(lab: Lab) -> Any:
    return lab.api.set_service_forced_down(lab.ctxt, "host1", False)


def test_fence_cannot_be_taken_back_while_an_evacuation_begins(lost: Lab, gate: Callable[[str], Gate]) -> None:
    spawn = gate("spawn")
    with meanwhile(EvacuateInstance, "check", lambda: take_back(lost)) as taken_back:
        action = lost.api.evacuate_instance(lost.ctxt, "vm", None)
        assert isinstance(taken_back.exception(PATIENCE), HostEvacuating)
    spawn.open()
    lost.succeed(action)
    assert not take_back(lost).forced_down


def test_fence_of_a_host_in_doubt_cannot_be_taken_back_while_an_evacuation_begins(
    make_lab: Callable[..., Lab], gate: Callable[[str], Gate]
) -> None:
    lab = make_lab("host1", "host2", "host3")
    lab.boot(host="host1")
    doubtful = lose_live_migration(lab)
    arrive(lab, doubtful)
    for host in ("host1", "host2"):
        fence(lab, host)
    spawn = gate("spawn")
    with meanwhile(EvacuateInstance, "check", lambda: fence(lab, "host2", False)) as taken_back:
        action = lab.api.evacuate_instance(lab.ctxt, "vm", "host3")
        assert isinstance(taken_back.exception(PATIENCE), HostEvacuating)
    spawn.open()
    lab.succeed(action)
    back_with_its_guest(lab, "host2")
    assert hosts_of(lab, doubtful.instance_uuid) == ["host3"]


def test_evacuation_cannot_begin_while_the_fence_is_taken_back(lost: Lab) -> None:
    def evacuate() -> Any:
        return lost.api.evacuate_instance(lost.ctxt, "vm", None)

    with meanwhile(administration, "_require_none_made_anew", evacuate) as evacuation:
        assert not take_back(lost).forced_down
        assert isinstance(evacuation.exception(PATIENCE), HostNotFenced)
    assert lost.instance().host == "host1"


def test_request_that_comes_twice_at_once_is_one_action(lab: Lab) -> None:
    lab.boot(host="host1")
    named = lab.ctxt.naming(str(uuid4()))

    def stop() -> Any:
        return lab.api._call(named, Timeout.QUICK, None, "stop_instance", instance="vm")

    with meanwhile(Engine, "_begun", stop) as double:
        first = stop()
        assert double.result(PATIENCE).id == first.id == named.action_id
    lab.succeed(first)


def test_guest_that_is_found_elsewhere_is_rebuilt_there(lab: Lab) -> None:
    uuid = lab.boot(host="host1").uuid

    def rebuild() -> Any:
        return lab.api.rebuild_instance(lab.ctxt, "vm")

    with meanwhile(Scheduler, "transfer", rebuild) as rebuilding:
        lab.guest_file("host1", uuid).rename(lab.guest_file("host2", uuid))
        lab.report("host1")
        lab.report("host2")
        lab.succeed(rebuilding.result(PATIENCE))
    assert (lab.instance().host, hosts_of(lab, uuid)) == ("host2", ["host2"])


def test_guest_that_moved_since_it_was_looked_for_is_rebuilt_where_it_is(lab: Lab, database: str) -> None:
    converge(lab)
    uuid = lab.boot(host="host1").uuid

    def migrate() -> Any:
        return lab.succeed(live_migrate(lab, "host2"))

    with meanwhile(RebuildInstance, "check", migrate, BLOCKED if database == SQLITE else PATIENCE) as migration:
        lab.succeed(lab.api.rebuild_instance(lab.ctxt, "vm"))
        refusal = migration.exception(PATIENCE)
        assert refusal is None or (database == SQLITE and isinstance(refusal, InstanceBusy))
    assert hosts_of(lab, uuid) == [lab.instance().host]


def test_reset_ends_what_began_meanwhile(lab: Lab, gate: Callable[[str], Gate]) -> None:
    lab.boot()
    power_off = gate("power_off")

    def stop() -> Any:
        return lab.api.stop_instance(lab.ctxt, "vm")

    with meanwhile(administration, "find_instance", stop) as stopping:
        lab.api.reset_instance_state(lab.ctxt, "vm", VmState.ACTIVE)
        action = stopping.result(PATIENCE)
    power_off.open()
    lab.end_of(action)
    assert lab.instance().task_state is None


def back_with_its_guest(lab: Lab, host: str) -> None:
    """Let a fenced host come back, and be heard as often as it takes to be believed."""
    fence(lab, host, False)
    lab.return_host(host)
    for _ in range(2):
        lab.report(host)


def test_fence_of_a_host_in_doubt_cannot_be_taken_back_while_a_rebuild_begins(
    lab: Lab, gate: Callable[[str], Gate]
) -> None:
    lab.boot(host="host1")
    doubtful = lose_live_migration(lab)
    arrive(lab, doubtful)
    lab.return_host("host1")
    hear(lab, doubtful, "host2")
    fence(lab, "host2")
    spawn = gate("spawn")
    with meanwhile(doubts, "require_none", lambda: fence(lab, "host2", False)) as taken_back:
        rebuilding = lab.api.rebuild_instance(lab.ctxt, "vm")
        assert isinstance(taken_back.exception(PATIENCE), HostEvacuating)
    spawn.open()
    lab.succeed(rebuilding)
    back_with_its_guest(lab, "host2")
    assert hosts_of(lab, doubtful.instance_uuid) == ["host1"]


@pytest.fixture
def doubtful(lab: Lab) -> Action:
    """A live migration whose guest may be on host2, which is off; its source is about to be heard again."""
    lab.boot(host="host1")
    doubtful = lose_live_migration(lab)
    arrive(lab, doubtful)
    lab.return_host("host1")
    hear(lab, doubtful, "host2")
    fence(lab, "host2")
    return doubtful


@pytest.fixture
def settled(lab: Lab, doubtful: Action) -> Action:
    """One whose guest nobody has found, though all have been heard that needed to."""
    hear(lab, doubtful)
    return doubtful


def rebuild(lab: Lab) -> Any:
    return lab.api.rebuild_instance(lab.ctxt, "vm")


def test_rebuild_because_a_host_is_off_does_not_begin_while_it_comes_back(
    lab: Lab, settled: Action, database: str, gate: Callable[[str], Gate]
) -> None:
    spawn = gate("spawn")
    with meanwhile(doubts, "require_none", lambda: fence(lab, "host2", False)) as taken_back:
        if database == SQLITE:
            rebuilding = rebuild(lab)
            assert isinstance(taken_back.exception(PATIENCE), HostEvacuating)
        else:
            with pytest.raises(PlaceUnclear, match="host2"):
                rebuild(lab)
            taken_back.result(PATIENCE)
    spawn.open()
    if database == SQLITE:
        lab.succeed(rebuilding)
        fence(lab, "host2", False)
    lab.return_host("host2")
    hear(lab, settled)
    for _ in range(2):
        lab.report("host2")
    assert hosts_of(lab, settled.instance_uuid) == [lab.instance().host]


@pytest.mark.parametrize(("owner", "name"), [(administration, "_require_none_made_anew"), (doubts, "reopen")])
def test_host_that_comes_back_is_heard_before_a_rebuild_that_begins_meanwhile(
    lab: Lab, settled: Action, owner: object, name: str
) -> None:
    with meanwhile(owner, name, lambda: rebuild(lab)) as rebuilding:
        fence(lab, "host2", False)
        assert isinstance(rebuilding.exception(PATIENCE), PlaceUnclear)
    lab.return_host("host2")
    hear(lab, settled)
    assert hosts_of(lab, settled.instance_uuid) == [lab.instance().host] == ["host2"]


def test_host_that_comes_back_while_it_is_passed_over_is_heard(lab: Lab, doubtful: Action) -> None:
    with meanwhile(doubts, "turns_after", lambda: fence(lab, "host2", False)) as taken_back:
        wait_until(lambda: lab.report("host1") or taken_back.done(), "host1 is heard")
        taken_back.result(PATIENCE)
    assert lab.migration(doubtful).unclear_hosts == ("host2",)


def test_what_one_host_has_settled_is_not_opened_again_by_what_another_says(lab: Lab) -> None:
    lab.boot(host="host1")
    action = lose_live_migration(lab)
    fence(lab, "host1")

    def source_is_back() -> None:
        back_with_its_guest(lab, "host1")
        wait_until(lambda: lab.report("host1") or not lab.migration(action).unclear_hosts, "all is clear")

    with meanwhile(doubts, "turns_after", source_is_back) as source:
        lab.return_host("host2")
        lab.report("host2")
        source.result(PATIENCE)
    assert lab.migration(action).unclear_hosts == ()
    wait_until(lambda: lab.report("host1") or lab.instance().vm_state is VmState.ACTIVE, "it is found at home")
    assert lab.instance().host == "host1"
