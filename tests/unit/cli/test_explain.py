"""``instance explain``: all there is to say for programs, and for people what there is to say now."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from minova.exception import InstanceNotFound, PeerSilent
from minova.objects import Explanation
from tests.unit.cli.rig import EXPLANATION, START, Manage


@pytest.fixture
def at_rest() -> Explanation:
    """The same, after the action has ended."""
    assert EXPLANATION.action is not None
    ended = replace(EXPLANATION.action, finished_at=START + timedelta(seconds=30), waits_for=None, undoes="")
    return replace(EXPLANATION, task_state=None, action=ended, next_attempt="")


def table(manage: Manage, *more: str) -> dict[str, list[str]]:
    """Return what the table shows: field to lines."""
    fields: dict[str, list[str]] = {}
    name = ""
    for line in manage("instance", "explain", "web", *more).out.splitlines():
        if line.startswith("|"):
            field, value = (cell.strip() for cell in line.strip("|").split("|"))
            name = field or name
            fields.setdefault(name, []).append(value)
    return fields


def test_action_that_runs(manage: Manage) -> None:
    shown = table(manage)
    assert shown["step"] == ["rollback_destination (undoes prepare_destination)"]
    assert shown["step_since"] == ["2024-02-29T12:00:10Z (50 s ago)"]
    assert shown["attempt_since"] == ["2024-02-29T12:00:50Z (10 s ago)"]
    assert shown["lease_until"] == ["2024-02-29T12:01:05Z (in 5 s)"]
    assert shown["given_up"] == ["2024-02-29T12:05:10Z (in 250 s)"]
    assert shown["owner"] == ["control1/1234 (of control1 some process was heard 2 s ago)"]
    assert shown["patience_since"] == ["2024-02-29T12:00:11Z (49 s ago)"]
    assert shown["next_attempt"] == ["none while host2 is silent"]
    assert shown["hosts"] == ["host1: running", "host2: silent: last heard 60 s ago"]
    assert shown["next"] == ["First this.", "Then that."]
    assert "finished" not in shown


def test_lease_that_ran_out(manage: Manage) -> None:
    manage.conductor.answers["explain_instance"] = replace(EXPLANATION, explained_at=START + timedelta(seconds=70))
    assert table(manage)["lease_until"] == ["2024-02-29T12:01:05Z (5 s ago)"]


def test_what_means_nothing_at_rest_is_not_in_the_table(manage: Manage, at_rest: Explanation) -> None:
    manage.conductor.answers["explain_instance"] = at_rest
    shown = table(manage)
    assert shown["finished"] == ["2024-02-29T12:00:30Z (30 s ago)"]
    gone = {"task", "waits_for", "attempt_since", "patience_since", "given_up", "owner", "lease_until", "next_attempt"}
    assert not gone & shown.keys()
    assert table(manage, "-c", "task", "-c", "given_up")["given_up"] == ["-"]


def test_instance_on_which_nothing_ever_ran(manage: Manage) -> None:
    manage.conductor.answers["explain_instance"] = replace(EXPLANATION, action=None, hosts=(), next_attempt="", next=())
    assert list(table(manage)) == ["Field", "name", "uuid", "host", "state", "task", "power"]


def test_long_sentence_is_broken(manage: Manage) -> None:
    manage.conductor.answers["explain_instance"] = replace(EXPLANATION, next=("word " * 30,))
    assert len(table(manage)["next"]) == 2


def test_long_error_is_broken(manage: Manage, at_rest: Explanation) -> None:
    assert at_rest.action is not None
    failed = replace(at_rest.action, error="word " * 30)
    manage.conductor.answers["explain_instance"] = replace(at_rest, action=failed)
    assert len(table(manage)["error"]) == 2


def test_report_that_any_conductor_takes(manage: Manage) -> None:
    assert EXPLANATION.action is not None
    ordered = replace(EXPLANATION.action, any_conductor=True)
    manage.conductor.answers["explain_instance"] = replace(EXPLANATION, action=ordered)
    assert table(manage)["owner"] == ["control1/1234; any conductor takes the report"]


def test_json_is_structured_and_has_every_field(manage: Manage, at_rest: Explanation) -> None:
    shown: dict[str, Any] = manage("instance", "explain", "web", "-f", "json").json
    assert shown["lease_until"] == "2024-02-29T12:01:05Z"
    assert shown["next"] == ["First this.", "Then that."]
    assert [host["said"] for host in shown["hosts"]] == ["running", "silent: last heard 60 s ago"]
    assert shown["hosts"][0]["report"]["guest"]["power_state"] == "running"
    manage.conductor.answers["explain_instance"] = at_rest
    later = manage("instance", "explain", "web", "-f", "json").json
    assert later.keys() == shown.keys()
    assert (later["lease_until"], later["next_attempt"]) == (None, None)


@pytest.mark.parametrize("kind", ["yaml", "csv", "value"])
def test_other_formats(manage: Manage, kind: str) -> None:
    ended = manage("instance", "explain", "web", "-f", kind)
    assert (ended.status, ended.err) == (0, "")
    assert "rollback_destination" in ended.out


@pytest.mark.parametrize("error", [InstanceNotFound(name="web"), PeerSilent(peer="any conductor", seconds=10.0)])
def test_refusal_is_one_line(manage: Manage, error: Exception) -> None:
    manage.conductor.answers["explain_instance"] = error
    ended = manage("instance", "explain", "web")
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)


def test_instance_has_to_be_named(manage: Manage, capsys: pytest.CaptureFixture[str]) -> None:
    assert manage("instance", "explain").status == 2
    assert "the following arguments are required: INSTANCE" in capsys.readouterr().err
