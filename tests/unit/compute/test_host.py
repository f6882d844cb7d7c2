"""Reports of a host: what they say, what is done about the answer, and what waits for it."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, cast

import pytest
from oslo_config import cfg

from minova.compute import host
from minova.compute.host import HostReporter
from minova.compute.lease import HostLease
from minova.compute.work import Job, WorkQueue
from minova.conductor.rpcapi import ConductorAPI
from minova.exception import OperationRefused, PeerSilent
from minova.objects import Guest, HostCapacity, HostDirective, HostReport, Result, utcnow
from minova.rpc.control import ControlAPI
from minova.states import PowerState
from minova.virt.driver import ComputeDriver
from tests.unit.compute.rig import Clock, Delivered, Gate, an_order

GUEST = Guest(uuid="guest1", name="web", power_state=PowerState.RUNNING)


class Rig:
    """A host, and the conductors that it talks to; what happens is noted in its order."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self.conf = conf
        self.done: list[str] = []
        self.reports: list[HostReport] = []
        self.renewed: list[list[tuple[str, int]]] = []
        self.answer: Callable[[HostReport], HostDirective] = lambda _report: HostDirective(decided_at=utcnow())
        self.while_it_destroys: Callable[[str], None] = lambda _uuid: None
        self.hypervisor_answers = self.conductor_answers = True
        self.clock = Clock()
        self.delivered = Delivered()
        lease = HostLease(conf, self.clock)
        self.queue = WorkQueue("host1", 2, lease, self.delivered)
        self.reporter = HostReporter(
            "host1",
            cast("ComputeDriver", self),
            cast("ConductorAPI", self),
            cast("ControlAPI", self),
            lease,
            self.queue,
            lambda: [],
            self.queue.resume,
            conf.conductor.unresponsive_timeout,
        )

    def do(self, job: Job) -> dict[str, Any]:
        """Do the work of an order."""
        self.done.append(f"did {job.order.action_id}")
        return {}

    # The conductors.

    def ping(self, _ctxt: object, _host: None) -> None:
        if not self.conductor_answers:
            raise PeerSilent(peer="any conductor", seconds=2.0)

    def report_host(self, _ctxt: object, report: HostReport) -> HostDirective:
        self.reports.append(report)
        if not self.conductor_answers:
            raise PeerSilent(peer="any conductor", seconds=10.0)
        return self.answer(report)

    def renew_orders(self, _ctxt: object, _host: str, orders: list[tuple[str, int]]) -> None:
        self.renewed.append(orders)

    # The driver.

    def capacity(self) -> HostCapacity:
        return HostCapacity(vcpus=1, memory_mb=1, disk_gb=1, hypervisor_type="fake")

    def list_guests(self) -> tuple[Guest, ...]:
        if not self.hypervisor_answers:
            raise OperationRefused(host="host1", operation="list_guests", reason="it hangs")
        return (GUEST,)

    def destroy(self, uuid: str) -> None:
        self.done.append(f"destroyed {uuid}")
        self.while_it_destroys(uuid)


@pytest.fixture
def rig(conf: cfg.ConfigOpts) -> Iterator[Rig]:
    """A host that nobody has heard of yet."""
    made = Rig(conf)
    yield made
    made.queue.stop()


@pytest.fixture
def known(rig: Rig) -> Rig:
    """A host of which a conductor has heard just now."""
    rig.reporter.introduce()
    assert rig.reporter.accepted.is_set()
    rig.reports.clear()
    return rig


def cut_off(rig: Rig) -> None:
    """Let it be ``service_down_time`` ago that a conductor heard the host."""
    rig.clock.go_on(rig.conf.service_down_time)


def results(rig: Rig, count: int) -> list[tuple[str, Result]]:
    return sorted((each.order.action_id, each.result) for each in rig.delivered.wait(count))


def test_nothing_is_reported_or_begun_before_a_conductor_answers(rig: Rig) -> None:
    rig.conductor_answers = False
    rig.queue.submit(an_order(), rig.do)
    rig.reporter.introduce()
    assert not rig.reporter.report()
    assert (rig.reports, rig.done) == ([], [])
    assert not rig.reporter.accepted.is_set()
    # That one came from somebody who may be gone since: nobody has let go of it, because nobody was told so.
    assert rig.queue.orders() == [("action1", 1)]


def test_host_that_is_known_only_reports_periodically(known: Rig) -> None:
    known.reporter.introduce()
    assert known.reports == []
    assert known.reporter.report()
    assert [report.started for report in known.reports] == [False]


def test_each_report_is_later_than_the_one_before_though_the_clock_was_set_back(
    known: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([utcnow(), utcnow() - timedelta(hours=1), utcnow() - timedelta(minutes=59), utcnow()])
    monkeypatch.setattr(host, "utcnow", lambda: next(clock))
    for _ in range(4):
        assert known.reporter.report()
    made = [report.made_at for report in known.reports]
    assert made == sorted(set(made))
    assert made[2] - made[0] < timedelta(seconds=1), "the clock is believed again as soon as it is beyond that"


def test_host_that_was_cut_off_reports_as_if_it_had_just_started(known: Rig) -> None:
    work = Gate()
    known.queue.submit(an_order("runs"), work)
    known.queue.submit(an_order("behind"), known.do)
    work.wait()
    cut_off(known)
    known.queue.submit(an_order("waits", guest="guest2"), known.do)
    assert not known.reporter.report()
    known.reporter.introduce()
    [report] = known.reports
    assert (report.started, report.orders) == (True, (("runs", 1),))
    work.open()
    assert results(known, 1) == [("runs", Result.SUCCEEDED)]
    assert known.done == []


def test_what_is_sent_again_meanwhile_is_begun_once_the_report_was_taken(known: Rig) -> None:
    cut_off(known)

    def send_again(_report: HostReport) -> HostDirective:
        decided_at = utcnow()
        known.queue.submit(an_order("again", guest="guest2", sequence=2), known.do)
        assert known.done == []
        return HostDirective(decided_at=decided_at)

    known.answer = send_again
    known.reporter.introduce()
    assert results(known, 1) == [("again", Result.SUCCEEDED)]


def test_host_that_was_cut_off_destroys_its_copies_first_though_it_has_orders_for_them(known: Rig) -> None:
    cut_off(known)
    known.queue.submit(an_order("start before", sent=5), known.do)

    def destroy(_report: HostReport) -> HostDirective:
        # It has waited at the broker, and comes only now.
        known.queue.submit(an_order("start meanwhile", sent=5), known.do)
        known.queue.submit(an_order("boot", guest="guest2", sent=-1), known.do)
        return HostDirective(destroy=("guest1",), decided_at=utcnow())

    known.answer = destroy
    known.reporter.introduce()
    known.queue.submit(an_order("start after", sent=5), known.do)
    assert results(known, 1) == [("boot", Result.SUCCEEDED)]
    assert known.done == ["destroyed guest1", "did boot"]


def test_orders_of_actions_that_are_over_are_let_go_of(known: Rig) -> None:
    work = Gate()
    known.queue.submit(an_order("runs"), work)
    work.wait()
    known.queue.submit(an_order("behind"), known.do)
    known.queue.submit(an_order("wanted"), known.do)
    known.answer = lambda report: HostDirective(over=("runs", "behind"), decided_at=utcnow())
    assert known.reporter.report()
    assert known.queue.orders() == [("runs", 1), ("wanted", 1)]
    work.open()
    assert results(known, 2) == [("runs", Result.SUCCEEDED), ("wanted", Result.SUCCEEDED)]
    assert known.done == ["did wanted"]


def test_guest_for_which_an_order_came_after_the_decision_is_kept(known: Rig) -> None:
    cut_off(known)

    def decide(_report: HostReport) -> HostDirective:
        decided_at = utcnow()
        known.queue.submit(an_order("evacuated back"), known.do)
        return HostDirective(destroy=("guest1",), decided_at=decided_at)

    known.answer = decide
    known.reporter.introduce()
    assert results(known, 1) == [("evacuated back", Result.SUCCEEDED)]
    assert known.done == ["did evacuated back"]


def test_guest_for_which_an_order_came_while_another_was_destroyed_is_kept(known: Rig) -> None:
    """And though the order has ended since: what was decided is older than what it has done."""
    known.answer = lambda _report: HostDirective(destroy=("guest1", "guest2"), decided_at=utcnow())

    def destroy(_uuid: str) -> None:
        known.queue.submit(an_order("evacuated back", guest="guest2"), known.do)
        known.delivered.wait(1)

    known.while_it_destroys = destroy
    assert known.reporter.report()
    assert known.done == ["destroyed guest1", "did evacuated back"]


def test_order_that_comes_just_as_others_are_let_go_of_is_not_told_to_be_held(
    known: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would be let go of by the answer, and be sent again only once the lease of its action has run out."""
    cut_off(known)
    real = known.queue.let_go

    def let_go(*sent_before: Any) -> list[tuple[str, int]]:
        left = real(*sent_before)
        if not sent_before:
            known.queue.submit(an_order("late"), known.do)
        return left

    monkeypatch.setattr(known.queue, "let_go", let_go)
    known.reporter.introduce()
    assert [report.orders for report in known.reports] == [()]
    assert known.queue.orders() == []


def test_host_that_was_fenced_meanwhile_begins_nothing(known: Rig) -> None:
    cut_off(known)
    known.queue.submit(an_order("before"), known.do)
    known.answer = lambda _report: HostDirective(fenced=True, decided_at=utcnow())
    known.reporter.introduce()
    known.queue.submit(an_order("after"), known.do)
    assert known.done == []


def test_host_that_is_fenced_lets_go_of_what_it_has_not_begun(known: Rig) -> None:
    known.answer = lambda _report: HostDirective(fenced=True, decided_at=utcnow())
    known.reporter.report()
    known.queue.submit(an_order("after"), known.do)
    known.reporter.introduce()
    assert known.queue.orders() == []
    assert known.done == []


def test_fenced_host_that_is_sent_an_order_asks_whether_it_is_fenced_still(known: Rig) -> None:
    known.answer = lambda _report: HostDirective(fenced=True, decided_at=utcnow())
    known.reporter.report()
    known.answer = lambda _report: HostDirective(decided_at=utcnow())
    before = len(known.reports)
    known.reporter.introduce()
    assert len(known.reports) == before
    known.queue.submit(an_order("first"), known.do)
    known.reporter.introduce()
    assert known.reports[-1].started, "what it was sent before is sent again"
    known.queue.submit(an_order("again", sequence=2, sent=-1), known.do)
    assert results(known, 1) == [("again", Result.SUCCEEDED)]
    assert known.done == ["did again"]


def test_fenced_host_goes_on_to_report(known: Rig) -> None:
    known.answer = lambda _report: HostDirective(fenced=True, decided_at=utcnow())
    assert known.reporter.report()
    assert known.reporter.report()


def test_lease_counts_from_when_the_report_was_begun(known: Rig) -> None:
    """One that was held up on its way proves nothing of the time since: another has to follow."""

    def late(_report: HostReport) -> HostDirective:
        cut_off(known)
        return HostDirective(decided_at=utcnow())

    known.answer = late
    assert known.reporter.report()
    known.queue.submit(an_order(sent=-1), known.do)
    assert known.done == []
    known.answer = lambda _report: HostDirective(decided_at=utcnow())
    known.reporter.introduce()
    assert [report.started for report in known.reports] == [False, True]


def test_orders_that_came_before_a_report_that_was_held_up_are_void(known: Rig) -> None:
    def late(_report: HostReport) -> HostDirective:
        cut_off(known)
        known.queue.submit(an_order("old"), known.do)
        known.clock.go_on(-1)
        return HostDirective(decided_at=utcnow())

    known.clock.go_on(known.conf.service_down_time - 1)
    known.answer = late
    assert known.reporter.report()
    known.answer = lambda _report: HostDirective(decided_at=utcnow())
    known.reporter.introduce()
    assert [report.started for report in known.reports] == [False, True], "what was let go of is sent again"
    known.queue.submit(an_order("new", sent=-1), known.do)
    assert results(known, 1) == [("new", Result.SUCCEEDED)]


def test_without_a_hypervisor_there_is_no_lease(known: Rig) -> None:
    cut_off(known)
    known.hypervisor_answers = False
    known.reporter.introduce()
    known.queue.submit(an_order(), known.do)
    assert known.done == []


def test_conductors_of_before_do_not_tell_when_they_decided(known: Rig) -> None:
    cut_off(known)

    def decide(_report: HostReport) -> HostDirective:
        known.queue.submit(an_order("again", sequence=2), known.do)
        return HostDirective(destroy=("guest1",))

    known.answer = decide
    known.reporter.introduce()
    assert results(known, 1) == [("again", Result.SUCCEEDED)]
    assert known.done == ["did again"]


def test_report_confirms_the_orders_that_it_lists(known: Rig) -> None:
    order = an_order("waits", lasts=0.05)
    work = Gate()
    known.queue.submit(an_order("runs"), work)
    work.wait()
    known.queue.submit(order, known.do)
    assert known.reporter.report()
    known.delivered.until(lambda: utcnow() > order.deadline)
    work.open()
    assert results(known, 2) == [("runs", Result.SUCCEEDED), ("waits", Result.SUCCEEDED)]


def test_nothing_is_renewed_while_the_hypervisor_hangs(known: Rig) -> None:
    """Or it could never be given up: what it is at hangs as well, and its compute would say so for ever."""
    work = Gate()
    known.queue.submit(an_order("runs"), work)
    work.wait()
    known.hypervisor_answers = False
    known.clock.go_on(known.conf.conductor.unresponsive_timeout)
    known.reporter.renew()
    known.clock.go_on(1)
    known.reporter.renew()
    assert known.renewed == [[("runs", 1)]]
    known.hypervisor_answers = True
    known.reporter.introduce()
    known.reporter.renew()
    assert known.renewed == [[("runs", 1)]] * 2
    work.open()
    assert results(known, 1) == [("runs", Result.SUCCEEDED)]


def test_only_what_is_begun_is_renewed_without_a_lease(known: Rig) -> None:
    work = Gate()
    known.queue.submit(an_order("runs"), work)
    work.wait()
    known.queue.submit(an_order("behind"), known.do)
    known.reporter.renew()
    cut_off(known)
    known.queue.submit(an_order("waits", guest="guest2"), known.do)
    known.reporter.renew()
    assert known.renewed == [[("runs", 1), ("behind", 1)], [("runs", 1)]]
    work.open()
    assert results(known, 1) == [("runs", Result.SUCCEEDED)]
