"""What an operator is told of an instance: what runs, why it waits, what each host says, and what comes next."""

from collections.abc import Callable, Iterator

import pytest
from oslo_config import cfg
from sqlalchemy import text

from minova.exception import AmbiguousName, InstanceNotFound, PeerTooOld
from minova.objects import Explanation
from minova.states import HostState, PowerState
from tests.fixtures.crashes import (
    crash_compute,
    gag,
    let_lease_run_out,
    let_patience_run_out,
    let_silence_grow,
    lose_reports,
    row_of,
    wait_for_outcome,
)
from tests.fixtures.doubts import fence
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab, wait_until
from tests.fixtures.moves import converge, start_endless


@pytest.fixture
def no_sweep(conf: cfg.ConfigOpts) -> None:
    """Let the conductors look for leases that have run out at their start, and then not again."""
    conf.set_override("sweep_interval", 3600.0, "conductor")


@pytest.fixture
def quick_pings(conf: cfg.ConfigOpts) -> None:
    """Give a host that does not answer up early."""
    conf.set_override("ping_timeout", 0.5, "rpc")


def explain(lab: Lab, reference: str = "vm") -> Explanation:
    return lab.api.explain_instance(lab.ctxt, reference)


def said(lab: Lab) -> dict[str, str]:
    """Return what the hosts say: host to sentence."""
    return {word.host: word.said for word in explain(lab).hosts}


def told(lab: Lab) -> str:
    return " ".join(explain(lab).next)


# Nothing runs.


def test_instance_at_rest(lab: Lab) -> None:
    booted = lab.boot(host="host1")
    found = explain(lab)
    assert (found.uuid, found.name, found.host) == (booted.uuid, "vm", "host1")
    assert (found.vm_state, found.task_state, found.power_state) == ("active", None, "running")
    assert found.action is not None
    assert (found.action.verb, found.action.status) == ("boot", "succeeded")
    assert found.action.finished_at is not None
    assert [(word.host, word.state, word.said) for word in found.hosts] == [("host1", HostState.UP, "running")]
    assert found.next_attempt == ""
    assert found.next[0].startswith("Nothing is pending")
    assert found.next[1].startswith("Allowed now: delete, hard-reboot, live-migrate")


def test_last_action_tells_why_it_failed(lab: Lab) -> None:
    lab.boot(host="host1")
    lab.set("fake", failures=["power_off"])
    failed = lab.fail(lab.api.stop_instance(lab.ctxt, "vm"))
    lab.set("fake", failures=[])
    action = explain(lab).action
    assert action is not None
    assert (action.id, action.status, action.error) == (failed.id, "failed", failed.error)


def test_guest_that_changed_behind_the_back_is_foretold_to_be_corrected(lab: Lab) -> None:
    uuid = lab.boot(host="host1").uuid
    lab.cluster.computes["host1"].reporter._driver.power_off(uuid)
    foretold = told(lab)
    lab.report("host1")
    assert "With its next reports host1 turns it to stopped, for its guest is shutdown." in foretold
    assert lab.instance().power_state is PowerState.SHUTDOWN
    assert "Nothing is pending" in told(lab)


def test_guest_that_is_gone_is_in_error_for_an_operator(lab: Lab) -> None:
    uuid = lab.boot(host="host1").uuid
    lab.cluster.computes["host1"].reporter._driver.destroy(uuid)
    assert "host1 turns it to error, for it has no such guest" in told(lab)
    lab.report("host1")
    assert said(lab) == {"host1": "answers, has no such guest"}
    assert "host host1 reports no such guest" in told(lab)
    assert "Nothing brings it out of error by itself: host1 has no guest of it, and rebuild makes one" in told(lab)
    assert "Allowed now: delete, hard-reboot, rebuild." in told(lab)


def test_silent_host_is_unknown_and_is_not_asked(lab: Lab) -> None:
    lab.boot(host="host1")
    lab.silence("host1")
    [word] = explain(lab).hosts
    assert (word.state, word.report) == (HostState.UNKNOWN, None)
    assert word.said.startswith("silent: last heard ")
    assert "host1 is silent, hence unknown and not down" in told(lab)
    assert "Operations are refused until host1 reports" in told(lab)
    lab.return_host("host1")


def test_evacuated_host_is_told_to_destroy_its_copy_when_it_is_back(lab: Lab) -> None:
    uuid = lab.boot(host="host1").uuid
    lab.silence("host1")
    lab.api.set_service_forced_down(lab.ctxt, "host1", True)
    assert said(lab)["host1"].startswith("forced down by the operator, last heard ")
    assert "Allowed now: delete, evacuate." in told(lab)
    lab.succeed(lab.api.evacuate_instance(lab.ctxt, "vm", None))
    assert set(said(lab)) == {"host2", "host1"}
    assert "When host1 reports, it is told to destroy its copy of the guest, if it has one." in told(lab)
    lab.return_host("host1")
    lab.report("host1")
    assert lab.guest("host1", uuid) is None
    lab.api.set_service_forced_down(lab.ctxt, "host1", False)
    assert "destroy its copy" not in told(lab)


def test_deleted_instance_is_explained_by_its_uuid(lab: Lab) -> None:
    uuid = lab.boot().uuid
    lab.succeed(lab.api.delete_instance(lab.ctxt, "vm"))
    assert explain(lab, uuid).next == ("It was deleted: nothing is pending.",)


# An action runs.


@pytest.mark.every_database
def test_live_migration_under_way(lab: Lab) -> None:
    lab.boot(host="host1")
    begun = start_endless(lab)
    found = explain(lab)
    action = found.action
    assert action is not None
    assert (action.id, action.verb, action.status) == (begun.id, "live-migrate", "running")
    assert (action.step, action.waits_for, action.attempt) == ("migrate", "host1", 1)
    assert begun.submitted_at < action.since <= action.attempted_at < found.explained_at < action.lease_expires_at
    assert (action.owner, action.cancel_requested) == (row_of(lab, begun).owner, False)
    assert action.given_up_at > action.lease_expires_at
    assert action.owner_seen_at is not None
    source, destination = found.hosts
    assert source.said.startswith("running, migrating to host2; has an order in hand: migrate since ")
    assert (destination.host, destination.said) == ("host2", "answers, has no such guest")
    assert found.next_attempt == "none is due: host1 has the order in hand, and renews the lease"
    assert found.next[0] == (
        "Once host1 has done migrate, next are switch_host, finish_at_destination and complete, and then the "
        "live-migrate has succeeded."
    )
    assert "host2 tells by finish_at_destination whether it was done all the same, and if not, all is undone." in told(
        lab
    )
    lab.end_of(lab.api.cancel_action(lab.ctxt, begun.id))


def test_step_that_waits_for_a_silent_host(lab: Lab) -> None:
    lab.boot(host="host1")
    begun = start_endless(lab)
    crash_compute(lab, "host1")
    let_silence_grow(lab, "host1")
    found = explain(lab)
    source, destination = found.hosts
    assert source.said.startswith("silent: last heard ")
    assert (destination.host, destination.said) == ("host2", "answers, has no such guest")
    assert found.next_attempt == (
        "none while host1 is silent; once it is back, it is sent what it does not hold any more"
    )
    assert "If nothing is heard of migrate until " in found.next[1]
    lab.return_host("host1")
    wait_until(lambda: explain(lab).next_attempt.startswith("none is due: host1 has the order"), "the next attempt")
    lab.end_of(lab.api.cancel_action(lab.ctxt, begun.id))


def test_lease_that_ran_out_is_followed_by_the_next_attempt(
    no_sweep: None, lab: Lab, gate: Callable[[str], Gate]
) -> None:
    power_off = gate("power_off")
    lab.boot(host="host1")
    stop = lab.api.stop_instance(lab.ctxt, "vm")
    power_off.wait()
    heal = gag(lab.cluster.computes["host1"])
    let_lease_run_out(lab, stop)
    before = explain(lab)
    lab.cluster.conductors[0].leases.sweep()
    after = explain(lab)
    assert before.next_attempt.startswith("attempt 2 with the next sweep (every 60 min) after the lease, which ran out")
    assert before.next_attempt.endswith(": it takes the action over")
    assert before.action is not None
    assert after.action is not None
    assert (before.action.attempt, after.action.attempt) == (1, 2)
    assert before.action.since == after.action.since < before.explained_at < after.action.attempted_at
    assert after.next_attempt == "none is due: host1 has the order in hand, and renews the lease"
    heal()
    power_off.open()
    lab.succeed(stop)


def test_outcome_that_no_conductor_has_taken(lab: Lab) -> None:
    lab.boot(host="host1")
    again = lose_reports(lab.cluster.computes["host1"])
    stop = lab.api.stop_instance(lab.ctxt, "vm")
    wait_for_outcome(lab.cluster.computes["host1"])
    assert said(lab) == {"host1": "shutdown; has done power_off, and no conductor has taken the outcome yet"}
    assert explain(lab).next_attempt.endswith(
        "unless a conductor takes the outcome before: host1 has done it, and tells again and again"
    )
    again()
    lab.succeed(stop)


def test_move_of_which_nobody_could_tell_waits_for_its_hosts_to_be_heard(lab: Lab) -> None:
    lab.boot(host="host1")
    begun = start_endless(lab)
    for host in ("host1", "host2"):
        crash_compute(lab, host)
        let_silence_grow(lab, host)
    for step in ("migrate", "finish_at_destination", "prepare_destination"):
        lab.wait_for_step(begun, step)
        if step == "finish_at_destination":
            assert "and the instance is active (or error, if host2 stays silent as long once more)." in told(lab)
        sequence = row_of(lab, begun).sequence
        if step == "prepare_destination":
            action = explain(lab).action
            assert action is not None
            assert (action.status, action.step, action.undoes) == ("undoing", "rollback_destination", step)
            assert "the instance goes to error, and a fault says what is left on host2" in told(lab)
        let_patience_run_out(lab, begun)
        wait_until(lambda sequence=sequence: row_of(lab, begun).sequence > sequence, f"the end of {step}")
    failed = lab.fail(begun)
    found = explain(lab)
    assert found.vm_state == "error"
    assert found.action is not None
    assert found.action.error == failed.error
    assert [word.state for word in found.hosts] == [HostState.UNKNOWN, HostState.UNKNOWN]
    assert "rollback_destination on host host2 was not done" in found.action.error
    assert "reports of host1, then of host2 tell" in told(lab)
    assert "Allowed now: nothing; delete is once host1 reports, or after 'service force-down host1' if " in told(lab)
    fence(lab, "host1")
    assert "reports of host2 tell" in told(lab)
    assert "Allowed now: delete." in told(lab)
    lab.api.set_service_forced_down(lab.ctxt, "host1", False)
    converge(lab)
    for host in ("host1", "host2"):
        lab.return_host(host)
        lab.report(host)


def test_host_that_does_not_answer_keeps_nobody_waiting_for_long(
    quick_pings: None, lab: Lab, gate: Callable[[str], Gate]
) -> None:
    lab.boot(host="host1")
    get_guest = gate("get_guest")
    assert said(lab)["host1"].endswith("but did not tell: compute on host1 did not answer within 0.5 s")
    get_guest.open()


def test_hypervisor_that_does_not_answer_is_told_as_such(lab: Lab) -> None:
    lab.boot(host="host1")
    lab.set("fake", failures=["get_guest"])
    assert said(lab)["host1"].startswith("its hypervisor did not tell: ")
    lab.set("fake", failures=[])


# Peers of other releases.


def test_host_of_before_is_too_old_to_be_asked(conf: cfg.ConfigOpts, lab: Lab) -> None:
    conf.set_override("compute", "1.2", "upgrade_levels")
    lab.boot(host="host1")
    assert said(lab)["host1"].endswith(
        "but did not tell: compute.get_guest needs RPC version 1.3, but [upgrade_levels] compute = 1.2 holds it at "
        "1.2: lift that pin"
    )


def test_conductor_of_before_cannot_explain(conf: cfg.ConfigOpts, lab: Lab) -> None:
    conf.set_override("conductor", "1.1", "upgrade_levels")
    lab.boot()
    with pytest.raises(PeerTooOld, match=r"conductor.explain_instance needs RPC version 1.2"):
        explain(lab)


@pytest.fixture
def of_tomorrow(lab: Lab) -> Iterator[str]:
    """Let what runs be of a newer release for a while; return the action's id."""
    lab.boot(host="host1")
    begun = start_endless(lab)

    def write(verb: str, task_state: str, status: str) -> None:
        for statement in (
            f"update actions set verb = '{verb}' where id = '{begun.id}'",
            f"update instances set task_state = '{task_state}'",
            f"update migrations set status = '{status}'",
        ):
            lab.database.write(lambda session, statement=statement: session.execute(text(statement)))

    write("suspend", "suspending", "teleporting")
    yield begun.id
    write("live-migrate", "migrating", "running")
    lab.end_of(lab.api.cancel_action(lab.ctxt, begun.id))


@pytest.mark.every_database
def test_action_of_another_release_is_left_to_its_conductors(of_tomorrow: str, lab: Lab) -> None:
    found = explain(lab)
    assert found.task_state == "suspending"
    assert found.action is not None
    assert (found.action.id, found.action.verb, found.action.step) == (of_tomorrow, "suspend", "migrate")
    assert found.next_attempt.startswith("left to conductors of another release of minova: ")
    assert "'suspend'" in found.next_attempt
    assert "If no conductor that knows it has worked on it until " in found.next[0]
    assert {word.host for word in found.hosts} == {"host1", "host2"}


# What makes no sense.


def test_instance_that_does_not_exist(lab: Lab) -> None:
    with pytest.raises(InstanceNotFound, match="no such instance: nothing"):
        explain(lab, "nothing")


def test_name_that_is_ambiguous(lab: Lab) -> None:
    both = sorted([lab.boot().uuid, lab.succeed(lab.api.boot_instance(lab.ctxt, lab.request())).instance_uuid])
    with pytest.raises(AmbiguousName) as refusal:
        explain(lab)
    assert refusal.value.candidates == both
    assert "\n" not in refusal.value.message
