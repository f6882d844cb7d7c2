"""What is generated into ``docs/`` is current."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from minova.notifications.catalogue import CATALOGUE
from minova.states import MIGRATION, OPERATIONS, MigrationStatus, TaskState, VmState

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    return load("generate_diagrams")


def load(name: str) -> ModuleType:
    """Return a generator's module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_notifications_are_current() -> None:
    page = load("generate_notifications").render()
    assert (DOCS / "notifications.md").read_text() == page, "run: tox -e docs-notifications"


def test_each_event_has_a_line_and_a_sample() -> None:
    page = load("generate_notifications").render()
    for name in CATALOGUE:
        assert page.count(f"| [`{name}`]") == 1
        assert page.count(f'"event_type": "{name}"') == 1


def test_states_are_current(generator: ModuleType) -> None:
    assert (DOCS / "states.md").read_text() == generator.render(), "run: tox -e docs-diagrams"


def test_all_states_are_shown(generator: ModuleType) -> None:
    page = generator.render()
    drawn = [line for line in page.splitlines() if "-->" in line]
    for state in (*VmState, *MigrationStatus):
        assert any(state in line.split() or f"{state}:" in line.split() for line in drawn), state
    for state in TaskState:
        assert f"`{state}`" in page


def test_every_operation_has_a_line(generator: ModuleType) -> None:
    lines = generator.render().splitlines()
    assert [line.split("`")[1] for line in lines if line.startswith("| `")] == [*OPERATIONS, *MigrationStatus]


def test_every_move_of_a_migration_is_drawn(generator: ModuleType) -> None:
    lines = [line.strip() for line in generator.render().splitlines()]
    assert all(f"{source} --> {target}: {event}" in lines for (source, event), target in MIGRATION.items())


def test_ends_are_drawn_as_ends(generator: ModuleType) -> None:
    ends = [line.split()[0] for line in generator.render().splitlines() if line.endswith("--> [*]")]
    assert ends == ["deleted", "completed", "cancelled", "failed", "error"]
