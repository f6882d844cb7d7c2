"""How often a conductor is asked, and what a terminal shows meanwhile."""

import io
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console

from minova.cli.progress import ProgressLine, line
from minova.cli.waiting import FIRST_DELAY, LONGEST_DELAY, Silence, Waiter
from minova.objects import MigrationProgress
from tests.unit.cli.rig import ACTION, MIGRATION, RUNNING, START, Manage, Script, Terminal

MIGRATING = replace(RUNNING, migration_uuid=MIGRATION.uuid)


def drawn(*what: object, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(line(*what))  # type: ignore[arg-type]
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_quick_at_first_then_slower(manage: Manage) -> None:
    manage.conductor.answers["get_action"] = Script([*[RUNNING] * 20, ACTION])
    ended = Waiter(manage.connection, Silence(print), manage.slept.append).wait(RUNNING)
    assert ended == ACTION
    assert manage.slept[0] == FIRST_DELAY
    assert manage.slept == sorted(manage.slept)
    assert manage.slept[-1] == LONGEST_DELAY


def test_what_is_over_is_not_asked_for(manage: Manage) -> None:
    assert Waiter(manage.connection, Silence(print), manage.slept.append).wait(ACTION) == ACTION
    assert (manage.asked, manage.slept) == ([], [])


def test_migration_is_asked_for_on_a_terminal_only(manage: Manage) -> None:
    turns = [MIGRATING, MIGRATING, ACTION]
    manage.conductor.answers["get_action"] = Script(list(turns))
    Waiter(manage.connection, Silence(print), manage.slept.append).wait(MIGRATING)
    assert "get_migration" not in dict(manage.asked)
    manage.conductor.answers["get_action"] = Script(list(turns))
    Waiter(manage.connection, ProgressLine(Terminal()), manage.slept.append).wait(MIGRATING)
    assert ("get_migration", {"migration": MIGRATION.uuid}) in manage.asked


def test_line_of_a_plain_action() -> None:
    assert drawn(RUNNING, None, 1.25).split() == ["live-migrate", "web", "migrate", "1.2", "s"]


def test_line_of_a_later_attempt() -> None:
    assert "migrate (attempt 2)  1.0 s" in drawn(replace(RUNNING, attempt=2), None, 1.0)


def test_line_of_a_migration() -> None:
    text = drawn(RUNNING, MIGRATION, 2.0)
    assert text.startswith("live-migrate web  migrate  2.0 s  ━")
    assert text.strip().endswith("300/256 MiB, 64 MiB left, pass 2, 128 MiB/s, dirtied 32 MiB/s")
    assert text.count("\n") == 1


def test_line_of_a_migration_that_does_not_converge() -> None:
    progress = replace(MIGRATION.progress, dirty_rate=400 * 2**20, iteration=9)
    text = drawn(RUNNING, replace(MIGRATION, progress=progress), 2.0, width=160)
    verdict = "does not converge: dirty rate 400 MiB/s, bandwidth 128 MiB/s"
    assert text.strip().endswith(f"64 MiB left, pass 9, {verdict}")


def test_line_of_a_migration_that_has_copied_nothing() -> None:
    assert "MiB" not in drawn(RUNNING, replace(MIGRATION, progress=MigrationProgress()), 2.0)


@pytest.mark.parametrize("width", [20, 60, 80])
def test_narrow_terminal_still_gets_one_line(width: int) -> None:
    assert drawn(RUNNING, MIGRATION, 2.0, width=width).count("\n") == 1


def test_what_matters_survives_on_a_narrow_terminal() -> None:
    assert drawn(RUNNING, MIGRATION, 2.0, width=80).startswith("live-migrate web  migrate  2.0 s  ━")


def test_names_are_not_markup() -> None:
    assert "[red]web" in drawn(replace(RUNNING, instance_name="[red]web"), None, 0.0)


def test_progress_on_a_terminal(manage: Manage) -> None:
    manage.stderr = Terminal
    manage.conductor.answers = {"live_migrate_instance": MIGRATING, "get_action": Script([MIGRATING, ACTION])}
    ended = manage("instance", "live-migrate", "web", "-f", "value", "-c", "name")
    assert (ended.status, ended.out) == (0, "web\n")
    assert "migrate" in ended.err
    assert "300/256 MiB" in ended.err


def test_seconds_count_from_the_submission() -> None:
    stream = Terminal()
    progress = ProgressLine(stream, lambda: START + timedelta(seconds=75))
    with progress.shown():
        progress.show(RUNNING, None)
    assert "75.0 s" in stream.getvalue()


def test_what_is_said_stays_as_it_is() -> None:
    stream = Terminal()
    progress = ProgressLine(stream)
    message = "[bold]a message that is longer than the terminal is wide, 12345678901234567890123456789012345678901234"
    with progress.shown():
        progress.say(message)
    assert message in stream.getvalue()
