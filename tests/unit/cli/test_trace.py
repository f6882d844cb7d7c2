"""The waterfall."""

import io
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console

from minova.cli.columns import offset_ms
from minova.cli.trace import Bar, waterfall
from minova.objects import Hop, Result
from tests.unit.cli.rig import ACTION, EVENTS, START, Manage, event


def bar(begin: float, end: float, total: float, width: int = 10) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(Bar(begin, end, total), end="")
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize(
    ("begin", "end", "drawn"),
    [
        (0, 100, "██████████"),
        (0, 50, "█████"),
        (50, 100, "     █████"),
        (20, 40, "  ██"),
        (30, 30, "   █"),
        (100, 100, "         █"),
        (-50, 10, "█"),
        (0, 200, "██████████"),
    ],
)
def test_bar_is_to_scale(begin: float, end: float, drawn: str) -> None:
    assert bar(begin, end, 100) == drawn


def test_bar_of_an_action_that_took_no_time() -> None:
    assert bar(0, 0, 0) == "█"


def test_waterfall(manage: Manage) -> None:
    manage.conductor.answers["get_action"] = replace(ACTION, finished_at=START + timedelta(milliseconds=100))
    lines = manage("action", "trace", ACTION.id).out.splitlines()
    assert lines[0].rstrip() == "live-migrate web: succeeded after 100 ms (action act-1)"
    assert max(map(len, lines)) <= 120
    rows = [[cell.rstrip() for cell in text.split("│")[1:-1]] for text in lines if text.startswith("│")]
    assert [[cell.strip() for cell in row[:5]] for row in rows] == [
        ["select_destination", "step", "conductor:c1", "0.0", "20.0"],
        ["migrate", "work", "compute:host1", "20.0", "60.0"],
        ["complete", "step", "conductor:c1", "80.0", "20.0"],
    ]
    first, second, third = (row[5][1:] for row in rows)
    assert len(second.strip()) == pytest.approx(3 * len(first), abs=1)
    assert second.index("█") == pytest.approx(len(first), abs=1)
    assert third.index("█") == pytest.approx(len(second), abs=1)


def test_trace_as_data(manage: Manage) -> None:
    assert manage("action", "trace", ACTION.id, "-f", "json").json[1] == {
        "step": "migrate",
        "hop": "work",
        "service": "compute:host1",
        "attempt": 1,
        "start_ms": 20.0,
        "duration_ms": 60.0,
        "result": "succeeded",
        "message": "",
    }


def test_trace_with_columns_is_a_plain_table(manage: Manage) -> None:
    ended = manage("action", "trace", ACTION.id, "-c", "step")
    assert ended.out.startswith("+")
    assert "compute" not in ended.out


def test_failures_are_spelled_out() -> None:
    failed = event("migrate", Hop.WORK, "compute:[h]", 0, 5, attempt=2, result=Result.FAILED, message="it [is] full")
    console = Console(file=io.StringIO(), width=120)
    console.print(waterfall(ACTION, [failed]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "migrate (2)" in text
    assert "compute:[h]" in text
    assert "migrate, work: failed: it [is] full" in text


def test_what_is_said_of_a_success_is_shown_too() -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(
        waterfall(ACTION, [event("migrate", Hop.WORK, "compute:h", 0, 5, message="it was forced to its end")])
    )
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "migrate, work: succeeded: it was forced to its end" in text


def test_trace_of_an_action_that_has_just_begun() -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(waterfall(replace(ACTION, finished_at=None), []))
    assert "live-migrate web" in console.file.getvalue()  # type: ignore[attr-defined]


def test_services_have_colours_of_their_own() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    console.print(waterfall(ACTION, EVENTS))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[36mcompute:host1" in text
    assert "\x1b[32mconductor:c1" in text


def test_clocks_that_differ_a_little() -> None:
    early = event("submit", Hop.SUBMIT, "conductor:c1", -0.01, 5)
    assert str(offset_ms(ACTION, early)) == "0.0"
    assert offset_ms(ACTION, event("submit", Hop.SUBMIT, "conductor:c1", -3, 5)) == -3.0
