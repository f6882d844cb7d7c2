"""Several conductors, as they are with ``[conductor] workers``: one queue, one row for a host, actions of one each."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session

from minova.conductor.engine import Engine
from minova.conductor.service import ConductorService
from minova.db import models
from minova.db.queries import CONDUCTOR
from minova.objects import Hop, Outcome, utcnow
from minova.service import Master
from tests.fixtures.crashes import crash_conductor, row_of
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab, wait_until
from tests.fixtures.moves import converge, live_migrate


def test_requests_are_spread(lab: Lab) -> None:
    lab.cluster.add_conductor()
    owners = Counter(row_of(lab, lab.api.boot_instance(lab.ctxt, lab.request(f"vm{n}"))).owner for n in range(8))
    assert set(owners) <= {conductor.engine.owner for conductor in lab.cluster.conductors}
    assert len(owners) == 2


def test_report_is_taken_by_any_and_what_follows_is_its_own(
    lab: Lab, gate: Callable[[str], Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = lab.cluster.conductors[0], lab.cluster.add_conductor()
    converge(lab)
    lab.boot()
    migrate = gate("live_migration")
    action = live_migrate(lab)
    migrate.wait()
    before = row_of(lab, action).owner
    owner, other = (first, second) if before == first.engine.owner else (second, first)
    takers: list[Engine] = []
    take = Engine.report

    def report(engine: Engine, outcome: Outcome) -> None:
        takers.append(engine)
        take(other.engine, outcome)

    monkeypatch.setattr(Engine, "report", report)
    migrate.open()
    lab.succeed(action)
    assert takers
    assert row_of(lab, action).owner == other.engine.owner != owner.engine.owner
    hops = [event.hop for event in lab.api.list_action_events(lab.ctxt, action.id)]
    assert Hop.TAKEOVER not in hops


def test_none_runs_what_another_holds(lab: Lab, gate: Callable[[str], Gate]) -> None:
    """Both look for actions to take over five times a second, and one of them is at work."""
    lab.cluster.add_conductor()
    converge(lab)
    lab.boot()
    check = gate("check_can_live_migrate_source")
    action = live_migrate(lab)
    check.wait()
    for conductor in lab.cluster.conductors:
        conductor.leases.sweep()
    working = [each for each in lab.cluster.conductors if action.id in each.engine.active_actions()]
    assert [each.engine.owner for each in working] == [row_of(lab, action).owner]
    check.open()
    lab.succeed(action)


def row(lab: Lab) -> models.Service:
    with lab.database.read() as session:
        found = session.get(models.Service, (CONDUCTOR, lab.conf.host))
        assert found is not None
        return found


def test_row_of_a_host_lives_as_long_as_one_of_its_conductors_does(lab: Lab) -> None:
    first, second = lab.cluster.conductors[0], lab.cluster.add_conductor()
    crash_conductor(lab, first)
    before = row(lab).last_seen_at
    second.heartbeat()
    assert row(lab).last_seen_at > before
    assert [each.host for each in lab.api.list_services(lab.ctxt) if each.binary == CONDUCTOR] == [lab.conf.host]


def test_conductor_that_takes_anothers_place_makes_the_service_no_younger(lab: Lab) -> None:
    first = lab.cluster.conductors[0]
    again = ConductorService(lab.conf, lab.cluster.transport, lab.database, Master(started_at=first._started_at))
    again.heartbeat()
    assert row(lab).started_at == first._started_at


def test_conductors_of_a_new_host_may_register_at_the_same_moment(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another has written the row between this one's look and its own writing."""
    conductor = lab.cluster.conductors[0]
    monkeypatch.setattr(conductor, "_host", "newcomer")
    look = Session.get
    looks: list[Any] = []

    def get(session: Session, entity: Any, ident: Any, **more: Any) -> Any:
        found = look(session, entity, ident, **more)
        if ident == (CONDUCTOR, "newcomer") and not looks:
            looks.append(found)
            now = utcnow()
            values = {"binary": CONDUCTOR, "host": "newcomer", "rpc_version": "1.0"}
            session.execute(insert(models.Service).values(**values, started_at=now, last_seen_at=now))
        return found

    monkeypatch.setattr(Session, "get", get)
    conductor.heartbeat()
    assert looks == [None]
    wait_until(lambda: "newcomer" in [each.host for each in lab.api.list_services(lab.ctxt)], "the registration")
