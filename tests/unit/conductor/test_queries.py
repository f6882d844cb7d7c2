"""What conductors answer of rows that a newer release has written: the others, and who it is that can read these."""

from collections.abc import Callable
from typing import Any

import pytest
from oslo_config import cfg
from sqlalchemy import event, text

from minova.conductor.queries import Queries
from minova.db import models
from minova.exception import DatabaseError
from minova.objects import Hop, MigrationOptions, Result, utcnow
from minova.states import TimeoutAction, Verb
from tests.unit.conductor.rig import INSTANCE, Rig
from tests.unit.rows import an_instance

OTHER = "other-uuid"


@pytest.fixture
def queries(rig: Rig, conf: cfg.ConfigOpts) -> Queries:
    """Answer of two instances; on both something is done."""
    rig.database.write(lambda session: session.add(an_instance(OTHER, host="host1")))
    for instance in (INSTANCE, OTHER):
        rig.begin(Verb.MIGRATE, instance=instance)
    return Queries(conf, rig.database)


def newer(rig: Rig, table: str, column: str, owner: str) -> None:
    """Let the row that is about the first instance hold what this release does not know."""
    statement = f"update {table} set {column} = 'of_tomorrow' where {owner} = '{INSTANCE}'"
    rig.database.write(lambda session: session.execute(text(statement)))


def a_line(action_id: str, step: str) -> models.ActionEvent:
    """Return a line of a trace."""
    now = utcnow()
    return models.ActionEvent(
        action_id=action_id,
        step=step,
        hop=Hop.STEP,
        service="here",
        attempt=1,
        started_at=now,
        finished_at=now,
        result=Result.SUCCEEDED,
    )


@pytest.mark.parametrize("column", ["vm_state", "task_state", "power_state"])
def test_instances_that_can_be_read_are_listed(
    rig: Rig, queries: Queries, caplog: pytest.LogCaptureFixture, column: str
) -> None:
    newer(rig, "instances", column, "uuid")
    assert [each.uuid for each in queries.instances(None, True)] == [OTHER]
    assert f"Left out of instances, since only a newer release of minova can read them: {INSTANCE}" in caplog.text


@pytest.mark.parametrize("column", ["verb", "status", "previous_vm_state"])
def test_actions_that_can_be_read_are_listed(rig: Rig, queries: Queries, column: str) -> None:
    newer(rig, "actions", column, "instance_uuid")
    assert [each.instance_uuid for each in queries.actions(None, 10)] == [OTHER]


@pytest.mark.parametrize("column", ["migration_type", "status"])
def test_migrations_that_can_be_read_are_listed(rig: Rig, queries: Queries, column: str) -> None:
    newer(rig, "migrations", column, "instance_uuid")
    assert [each.instance_uuid for each in queries.migrations(None, 10)] == [OTHER]


@pytest.mark.parametrize("column", ["hop", "result"])
def test_lines_of_a_trace_that_can_be_read_are_listed(rig: Rig, queries: Queries, column: str) -> None:
    [action] = queries.actions(OTHER, 1)
    for step in ("strange", "known"):
        rig.database.write(lambda session, step=step: session.add(a_line(action.id, step)))
    strange = f"update action_events set {column} = 'of_tomorrow' where step = 'strange'"
    rig.database.write(lambda session: session.execute(text(strange)))
    steps = [each.step for each in queries.action_events(action.id)]
    assert "known" in steps
    assert "strange" not in steps


def test_row_that_is_asked_for_by_its_name_says_what_is_wrong(rig: Rig, queries: Queries) -> None:
    newer(rig, "instances", "task_state", "uuid")
    with pytest.raises(DatabaseError, match="TaskState 'of_tomorrow', which a newer release of minova wrote"):
        queries.instance(INSTANCE)


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"block_migration": True, "timeout": 7}, MigrationOptions(block_migration=True, timeout=7)),
        ({"timeout_action": "abort", "of a newer release": 1}, MigrationOptions(timeout_action=TimeoutAction.ABORT)),
        ({"timeout_action": "of a newer release"}, None),
    ],
)
def test_migration_tells_how_it_was_asked_for(
    rig: Rig, queries: Queries, options: dict[str, Any], found: MigrationOptions | None
) -> None:
    [migration] = queries.migrations(OTHER, 1)
    assert migration.options is None
    rig.change(models.Action, migration.action_id, args={"destination": None, "options": options})
    assert queries.migration(str(migration.uuid)).options == found


@pytest.mark.parametrize(
    ("list_newest", "index"),
    [(Queries.actions, "ix_actions_submitted_at"), (Queries.migrations, "ix_migrations_created_at")],
)
def test_what_is_newest_is_found_without_a_look_at_all(
    rig: Rig, queries: Queries, list_newest: Callable[..., list[Any]], index: str
) -> None:
    asked: list[tuple[str, Any]] = []

    @event.listens_for(rig.database.engine, "before_cursor_execute")
    def _note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append((statement, parameters))

    assert len(list_newest(queries, None, 1)) == 1
    with rig.database.engine.connect() as connection:
        for statement, parameters in list(asked):
            plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            assert [each for each in plan if each.startswith("SCAN") and index not in each] == ["SCAN anon_1"], plan
