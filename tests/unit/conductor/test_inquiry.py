"""Who is asked about a guest, how, and what is made of it."""

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import cast

import msgspec
import oslo_messaging
import pytest

from minova.compute.rpcapi import ComputeAPI
from minova.conductor.inquiry import Inquiry
from minova.conductor.listening import Listening
from minova.context import RequestContext
from minova.db import models
from minova.db.queries import COMPUTE, CONDUCTOR
from minova.exception import PeerSilent
from minova.objects import Explanation, GuestReport, MigrationProgress, utcnow
from minova.states import HostState, Verb
from tests.unit.conductor.rig import INSTANCE, Rig, a_guest

PATIENCE = 10.0


class Computes:
    """Answer by what ``answers`` has for a host; all that are asked have no such guest by default."""

    def __init__(self) -> None:
        self.answers: dict[str, GuestReport | Exception] = {}
        self.asked: list[str] = []
        self.before_answering: Callable[[], object] = lambda: None

    def get_guest(self, ctxt: RequestContext, host: str, instance_uuid: str) -> GuestReport:
        assert (ctxt.user_id, instance_uuid) == ("op", INSTANCE)
        self.asked.append(host)
        self.before_answering()
        answer = self.answers.get(host, GuestReport(guest=None))
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def computes() -> Computes:
    return Computes()


@pytest.fixture
def explain(rig: Rig, computes: Computes) -> Callable[[], Explanation]:
    services = replace(rig.services, compute=cast("ComputeAPI", computes))
    inquiry = Inquiry(rig.conf, rig.database, services, rig.machine, Listening(rig.conf))
    return lambda: inquiry.explain(RequestContext(user="op"), INSTANCE)


@pytest.fixture
def moving(rig: Rig) -> models.Action:
    """A live migration from host1 to host2."""
    return rig.begin(Verb.LIVE_MIGRATE, options={}, destination="host2")


def silence(rig: Rig, host: str) -> None:
    rig.change(models.Service, (COMPUTE, host), last_seen_at=utcnow() - timedelta(hours=1))


def test_hosts_of_the_move_are_asked_and_no_others(
    explain: Callable[[], Explanation], computes: Computes, moving: models.Action
) -> None:
    computes.answers["host1"] = GuestReport(guest=a_guest())
    assert [(word.host, word.said) for word in explain().hosts] == [
        ("host1", "running"),
        ("host2", "answers, has no such guest"),
    ]
    assert sorted(computes.asked) == ["host1", "host2"]


def test_host_that_is_known_to_be_silent_or_off_is_not_asked(
    rig: Rig, explain: Callable[[], Explanation], computes: Computes, moving: models.Action
) -> None:
    silence(rig, "host1")
    rig.change(models.Service, (COMPUTE, "host2"), forced_down=True)
    assert [word.state for word in explain().hosts] == [HostState.UNKNOWN, HostState.DOWN]
    assert computes.asked == []


def test_hosts_are_asked_side_by_side(
    explain: Callable[[], Explanation], computes: Computes, moving: models.Action
) -> None:
    both = threading.Barrier(2, timeout=PATIENCE)
    computes.before_answering = both.wait
    assert all(word.report is not None for word in explain().hosts)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (PeerSilent(peer="compute on host1", seconds=2.0), "compute on host1 did not answer within 2 s"),
        (oslo_messaging.MessagingException("no broker"), "no broker"),
    ],
    ids=["silent", "no broker"],
)
def test_host_that_does_not_answer_keeps_no_other_from_being_heard(
    explain: Callable[[], Explanation], computes: Computes, moving: models.Action, error: Exception, why: str
) -> None:
    computes.answers["host1"] = error
    first, second = explain().hosts
    assert (first.state, first.report) == (HostState.UP, None)
    assert first.said.endswith(f"but did not tell: {why}")
    assert second.said == "answers, has no such guest"


def test_hosts_are_asked_once_more_if_the_action_has_gone_on_meanwhile(
    rig: Rig, explain: Callable[[], Explanation], computes: Computes
) -> None:
    action = rig.begin(Verb.STOP)
    computes.before_answering = lambda: rig.succeed(action) if len(computes.asked) == 1 else None
    found = explain().action
    assert found is not None
    assert (found.status, computes.asked) == ("succeeded", ["host1", "host1"])


def test_instance_that_never_stands_still_is_explained_all_the_same(
    rig: Rig, explain: Callable[[], Explanation], computes: Computes, moving: models.Action
) -> None:
    def go_on() -> None:
        with rig.database.read() as session:
            attempt = session.get_one(models.Action, moving.id).attempt
        rig.change(models.Action, moving.id, attempt=attempt + 1)

    computes.before_answering = go_on
    silence(rig, "host2")
    assert explain().next
    assert computes.asked == ["host1", "host1"]


def test_owner_is_looked_up_among_the_conductors(
    rig: Rig, explain: Callable[[], Explanation], moving: models.Action
) -> None:
    before = explain().action
    seen = utcnow()
    service = models.Service(binary=CONDUCTOR, host="here", rpc_version="1.0", started_at=seen, last_seen_at=seen)
    rig.database.write(lambda session: session.add(service))
    after = explain().action
    assert before is not None
    assert after is not None
    assert (before.owner, before.owner_seen_at) == ("here/1", None)
    assert (after.owner, after.owner_seen_at) == ("here/1", seen)


def test_report_is_taken_by_any_conductor_and_an_answer_by_the_owner(
    rig: Rig, explain: Callable[[], Explanation]
) -> None:
    action = rig.begin(Verb.LIVE_MIGRATE, options={}, destination="host2")
    asking = explain().action
    rig.succeed(action)
    rig.succeed(action)
    ordered = explain().action
    assert asking is not None
    assert ordered is not None
    assert (asking.step, asking.any_conductor) == ("check_source", False)
    assert (ordered.step, ordered.any_conductor) == ("prepare_destination", True)


@pytest.mark.parametrize(("steps", "told"), [(2, False), (3, True), (4, False)])
def test_verdict_on_a_migration_is_told_while_its_source_is_at_it(
    rig: Rig, explain: Callable[[], Explanation], moving: models.Action, steps: int, told: bool
) -> None:
    progress = MigrationProgress(total_bytes=9, remaining_bytes=9, iteration=3, dirty_rate=2, bandwidth=1)
    rig.change(models.Migration, moving.id, progress=msgspec.to_builtins(progress))
    for _ in range(steps):
        rig.succeed(moving)
    assert any("does not converge" in sentence for sentence in explain().next) == told


def test_host_of_which_nobody_knows(rig: Rig, explain: Callable[[], Explanation], computes: Computes) -> None:
    rig.change(models.Instance, INSTANCE, host="host9")
    [word] = explain().hosts
    assert (word.state, word.said) == (None, "no compute was ever registered there")
    assert computes.asked == []


def test_what_runs_counts_even_if_the_clock_of_another_conductor_ran_ahead(
    rig: Rig, explain: Callable[[], Explanation]
) -> None:
    ended = rig.begin(Verb.STOP)
    rig.succeed(ended, power_state="shutdown")
    rig.change(models.Action, ended.id, submitted_at=utcnow() + timedelta(hours=1))
    running = rig.begin(Verb.START)
    found = explain().action
    assert found is not None
    assert found.id == running.id
