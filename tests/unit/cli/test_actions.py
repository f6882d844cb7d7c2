"""What becomes of the actions that commands begin."""

from dataclasses import replace

import pytest
from oslo_messaging import MessageDeliveryFailure

from minova.exception import PeerSilent
from minova.objects import Action
from minova.states import Verb
from tests.unit.cli.rig import ACTION, CANCELLED, FAILED, INSTANCE, RUNNING, Manage, Script


def test_waits_and_shows_the_instance(manage: Manage) -> None:
    manage.conductor.answers = {"start_instance": RUNNING, "get_action": Script([RUNNING, RUNNING, ACTION])}
    ended = manage("instance", "start", "web", "-f", "value", "-c", "name", "-c", "state")
    assert (ended.status, ended.out, ended.err) == (0, "web\nactive\n", "")
    assert [name for name, _arguments in manage.asked] == ["start_instance", *["get_action"] * 3, "get_instance"]
    assert manage.asked[-1][1] == {"instance": INSTANCE.uuid}
    assert len(manage.slept) == 3


def test_failure_says_why_and_where_to_look(manage: Manage) -> None:
    manage.conductor.answers = {"start_instance": RUNNING, "get_action": FAILED}
    ended = manage("instance", "start", "web")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err == f"minova-manage: error: {FAILED.error}; see how it went: action trace {ACTION.id}\n"


def test_failure_without_an_error(manage: Manage) -> None:
    manage.conductor.answers["stop_instance"] = replace(CANCELLED, verb=Verb.STOP, error="")
    ended = manage("instance", "stop", "web")
    assert ended.status == 1
    assert "error: stop of web ended as cancelled, not as succeeded; see" in ended.err


def test_no_wait_shows_the_action(manage: Manage) -> None:
    manage.conductor.answers["live_migrate_instance"] = RUNNING
    ended = manage("instance", "live-migrate", "web", "--no-wait", "-f", "value", "-c", "id")
    assert (ended.status, ended.out) == (0, f"{ACTION.id}\n")
    assert [name for name, _arguments in manage.asked] == ["live_migrate_instance"]


def test_no_wait_begins_with_the_id(manage: Manage) -> None:
    shown = manage("instance", "delete", "web", "--no-wait", "-f", "json").json
    assert next(iter(shown.items())) == ("id", ACTION.id)


def test_delete_says_no_more_than_that(manage: Manage) -> None:
    ended = manage("instance", "delete", "web")
    assert (ended.status, ended.out, ended.err) == (0, "deleted\n", "")
    assert "get_instance" not in dict(manage.asked)


@pytest.mark.parametrize("command", ["action cancel act-1", "migration abort mig"])
def test_cancel_that_came_too_late(manage: Manage, command: str) -> None:
    manage.conductor.answers = {"cancel_action": RUNNING, "abort_migration": RUNNING, "get_action": ACTION}
    ended = manage(*command.split())
    assert ended.status == 1
    assert "live-migrate of web ended as succeeded, not as cancelled" in ended.err


def test_watch_fails_as_the_action_does(manage: Manage) -> None:
    manage.conductor.answers["get_action"] = Script([RUNNING, FAILED])
    ended = manage("action", "watch", ACTION.id)
    assert ended.status == 1
    assert FAILED.error in ended.err


def test_interrupt_says_how_to_go_on(manage: Manage) -> None:
    manage.conductor.answers = {"start_instance": RUNNING, "get_action": KeyboardInterrupt()}
    ended = manage("instance", "start", "web")
    assert ended.status == 130
    assert ended.err == (
        "live-migrate of web is not over (action act-1); watch it with: minova-manage action watch act-1\n"
    )


def test_silent_conductor_is_asked_again(manage: Manage) -> None:
    silence = PeerSilent(peer="any conductor", seconds=10.0)
    turns = [RUNNING, silence, silence, RUNNING, silence, ACTION]
    manage.conductor.answers = {"start_instance": RUNNING, "get_action": Script(turns)}
    ended = manage("instance", "start", "web")
    assert ended.status == 0
    # Once for each time that it falls silent.
    assert ended.err == "any conductor did not answer within 10 s; still waiting for action act-1\n" * 2


def test_broker_that_is_away_is_waited_for(manage: Manage) -> None:
    turns = [RUNNING, MessageDeliveryFailure("amqp://user:secret@broker"), ACTION]
    manage.conductor.answers = {"start_instance": RUNNING, "get_action": Script(turns)}
    ended = manage("instance", "start", "web")
    assert ended.status == 0
    assert ended.err == "the broker is away; still waiting for action act-1\n"


def test_drain_waits_for_all(manage: Manage) -> None:
    first, second = replace(RUNNING, id="a1"), replace(RUNNING, id="a2")
    manage.conductor.answers = {
        "drain_host": [first, second],
        "get_action": lambda action: replace(ACTION, id=action),
        "list_instances": [],
    }
    ended = manage("host", "drain", "host1", "-f", "value", "-c", "id", "-c", "status")
    assert (ended.status, ended.out, ended.err) == (0, "a1 succeeded\na2 succeeded\n", "")
    assert ("list_instances", {"host": "host1", "deleted": False}) in manage.asked


@pytest.mark.parametrize(("actions", "out"), [([FAILED], "failed\n"), ([], "")], ids=["failed", "not even tried"])
def test_drain_that_leaves_instances_behind(manage: Manage, actions: list[Action], out: str) -> None:
    manage.conductor.answers = {"drain_host": actions, "list_instances": [INSTANCE, replace(INSTANCE, name="db")]}
    ended = manage("host", "drain", "host1", "-f", "value", "-c", "status")
    assert (ended.status, ended.out) == (1, out)
    assert ended.err == ("minova-manage: error: 2 instances are still on host1 (see: instance faults): web, db\n")


def test_drain_without_waiting(manage: Manage) -> None:
    manage.conductor.answers["drain_host"] = [RUNNING]
    ended = manage("host", "drain", "host1", "--no-wait", "-f", "value", "-c", "status")
    assert (ended.status, ended.out) == (0, "running\n")
    assert "get_action" not in dict(manage.asked)
