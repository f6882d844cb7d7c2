"""One request id leads through the logs of all services, whichever threads and libraries wrote them."""

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from oslo_config import cfg
from oslo_log.formatters import JSONFormatter

from minova.context import RequestContext
from minova.objects import MigrationOptions
from tests.fixtures.crashes import crash_conductor, lame, let_lease_run_out
from tests.fixtures.lab import Lab

SHOW_SQL = 50
"""The value of ``[database] connection_debug`` from which on each statement is logged."""

OF_THEIR_OWN_ACCORD = {"ping", "report_host", "renew_orders", "get_lowest_version"}
"""What computes ask conductors without having been asked."""

OF_THE_ACTION = ("step", "call", "work", "making", "migration")
"""Names of the threads that work on nothing but actions."""


class Log(logging.Handler):
    """Keeps the lines that oslo.log would write with ``use_json``, each formatted in the thread that logs it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(JSONFormatter())
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


def request_id(line: dict[str, Any]) -> str | None:
    found: str | None = line["context"].get("request_id")
    return found


def method_of(line: dict[str, Any]) -> str | None:
    """Return the RPC method whose end a line tells."""
    return str(line["args"][1]) if line["msg"].startswith("%s: %s took") else None


@pytest.fixture
def log(conf: cfg.ConfigOpts) -> Iterator[Log]:
    """The lines of minova and of its two big libraries; to be asked for before the lab, for engines look once."""
    conf.set_override("connection_debug", SHOW_SQL, "database")
    root, log = logging.getLogger(), Log()
    levels = {name: logging.getLogger(name).level for name in ("minova", "oslo_messaging")}
    for name in levels:
        logging.getLogger(name).setLevel(logging.DEBUG)
    root.addHandler(log)
    yield log
    root.removeHandler(log)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_every_line_of_a_live_migration_has_the_id_of_the_command(log: Log, make_lab: Callable[..., Lab]) -> None:
    lab = make_lab("host1", "host2")
    instance = lab.boot()
    booted = len(log.lines)
    ctxt = RequestContext(user="operator")
    action = lab.api.live_migrate_instance(ctxt, "vm", None, MigrationOptions())
    lab.succeed(action)
    for host in ("host1", "host2"):
        lab.wait_until_idle(host)

    subjects = (instance.uuid, action.id, str(lab.migration(action).uuid))
    about = [line for line in log.lines[booted:] if any(subject in line["message"] for subject in subjects)]
    threads = [line for line in log.lines[booted:] if line["thread_name"].startswith(OF_THE_ACTION)]
    polled = {"list_actions", "get_action", "get_activity", "get_migration", "get_instance"}
    about = [line for line in about if not line["name"].startswith("sqlalchemy") or line in threads]
    served = {method_of(line): request_id(line) for line in log.lines[booted:] if method_of(line)}

    assert {line["thread_name"].split("_")[0] for line in threads} >= {"call", "work", "making", "migration"}
    assert {line["name"].partition(".")[0] for line in threads} >= {"minova", "sqlalchemy"}
    assert [line for line in [*about, *threads] if request_id(line) != ctxt.request_id] == []
    orders = set(served) - OF_THEIR_OWN_ACCORD - polled
    assert orders >= {"live_migrate_instance", "pre_live_migration", "live_migration", "report_outcome"}
    assert {served[method] for method in orders} == {ctxt.request_id}
    assert {served[method] for method in OF_THEIR_OWN_ACCORD & set(served)}.isdisjoint({ctxt.request_id})


def test_action_that_another_conductor_takes_over_keeps_its_id(log: Log, lab: Lab) -> None:
    lab.boot()
    first = lab.cluster.conductors[0]
    lame(first)
    ctxt = RequestContext(user="operator")
    action = lab.api.stop_instance(ctxt, "vm")
    crash_conductor(lab, first)
    lab.cluster.add_conductor()
    let_lease_run_out(lab, action)
    lab.succeed(action)
    [takeover] = [line for line in log.lines if line["message"].startswith(f"Action {action.id}: taken over")]
    [stopped] = [line for line in log.lines if method_of(line) == "stop_instance" and "compute" in line["message"]]
    assert request_id(takeover) == request_id(stopped) == ctxt.request_id


def test_timers_have_ids_of_their_own(log: Log, lab: Lab) -> None:
    ctxt = RequestContext(user="operator")
    lab.succeed(lab.api.boot_instance(ctxt, lab.request()))
    before = len(log.lines)
    lab.report("host1")
    reported = [line for line in log.lines[before:] if method_of(line) == "report_host"]
    assert reported
    assert all(request_id(line) not in (None, ctxt.request_id, lab.ctxt.request_id) for line in reported)
