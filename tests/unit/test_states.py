"""The tables of states hold together, whichever way they are walked."""

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest

from minova import states
from minova.states import (
    MIGRATION,
    OPEN_ACTION,
    OPEN_MIGRATION,
    OPERATIONS,
    VM_STATE_OF_POWER,
    ActionStatus,
    MigrationEvent,
    MigrationStatus,
    Operation,
    PowerState,
    TaskState,
    Verb,
    VmState,
)

every_operation = pytest.mark.parametrize(("verb", "operation"), OPERATIONS.items(), ids=list(OPERATIONS))


def reachable(first: str, moves: Iterable[tuple[str, str]]) -> set[str]:
    moves = set(moves)
    found, new = {first}, {first}
    while new:
        new = {target for source, target in moves if source in new} - found
        found |= new
    return found


def instance_moves() -> set[tuple[str, str]]:
    """Return (from, to) of all that operations do to the state of an instance."""
    moves: set[tuple[str, str]] = set()
    for operation in OPERATIONS.values():
        by_the_guest = VM_STATE_OF_POWER.values()
        after = by_the_guest if operation.after_success is None else [operation.after_success]
        failed = [] if operation.after_failure is None else [operation.after_failure]
        moves |= {(source, target) for source in operation.allowed for target in [*after, *failed]}
    return moves


def test_every_verb_has_its_row() -> None:
    assert set(OPERATIONS) == set(Verb)


def test_every_vm_state_can_be_reached() -> None:
    assert reachable(VmState.BUILDING, instance_moves()) == set(VmState)


def test_a_new_instance_is_built_once() -> None:
    assert VmState.BUILDING not in {target for _source, target in instance_moves()}


def test_deleted_is_the_only_end() -> None:
    sources = {source for source, _target in instance_moves()}
    assert set(VmState) - sources == {VmState.DELETED}


@pytest.mark.parametrize("state", sorted(set(VmState) - {VmState.DELETED}))
def test_no_instance_is_stuck(state: VmState) -> None:
    assert VmState.DELETED in reachable(state, instance_moves())


@pytest.mark.parametrize("state", sorted(set(VmState) - {VmState.DELETED, VmState.BUILDING}))
def test_whatever_was_built_can_be_deleted(state: VmState) -> None:
    assert state in OPERATIONS[Verb.DELETE].allowed


def test_every_task_state_belongs_to_one_operation() -> None:
    used = [operation.task_state for operation in OPERATIONS.values()]
    assert sorted(used) == sorted(TaskState)


@every_operation
def test_operation_is_allowed_sometimes_and_never_on_what_is_deleted(verb: Verb, operation: Operation) -> None:
    assert operation.allowed
    assert VmState.DELETED not in operation.allowed


@every_operation
def test_operation_that_is_undone_leaves_a_state_at_rest(verb: Verb, operation: Operation) -> None:
    assert operation.after_failure in (None, VmState.ERROR)
    if operation.after_failure is None:
        assert VmState.BUILDING not in operation.allowed


def test_error_has_a_way_back() -> None:
    assert VmState.ACTIVE in reachable(VmState.ERROR, instance_moves())


def test_every_power_state_means_something() -> None:
    assert set(VM_STATE_OF_POWER) == set(PowerState)


def test_every_migration_status_can_be_reached() -> None:
    moves = {(source, target) for (source, _event), target in MIGRATION.items()}
    assert reachable(MigrationStatus.ACCEPTED, moves) == set(MigrationStatus)


def test_ends_of_a_migration_are_ends() -> None:
    ends = set(MigrationStatus) - {source for source, _event in MIGRATION}
    assert ends == {
        MigrationStatus.COMPLETED,
        MigrationStatus.CANCELLED,
        MigrationStatus.FAILED,
        MigrationStatus.ERROR,
    }
    assert ends == set(MigrationStatus) - OPEN_MIGRATION


@pytest.mark.parametrize("status", sorted(OPEN_MIGRATION))
def test_open_migration_can_end_in_any_bad_way(status: MigrationStatus) -> None:
    after = {MIGRATION.get((status, event)) for event in MigrationEvent}
    assert after >= {MigrationStatus.CANCELLED, MigrationStatus.FAILED, MigrationStatus.ERROR}


@pytest.mark.parametrize("status", sorted(OPEN_MIGRATION))
def test_open_migration_can_complete(status: MigrationStatus) -> None:
    moves = {(source, target) for (source, _event), target in MIGRATION.items()}
    assert MigrationStatus.COMPLETED in reachable(status, moves)


def test_migration_never_goes_back() -> None:
    order = list(MigrationStatus)
    assert all(order.index(source) < order.index(target) for (source, _event), target in MIGRATION.items())


def test_every_event_leads_to_one_status() -> None:
    after = {(event, target) for (_source, event), target in MIGRATION.items()}
    assert sorted(event for event, _target in after) == sorted(MigrationEvent)


def test_open_actions() -> None:
    assert set(ActionStatus) - OPEN_ACTION == {ActionStatus.SUCCEEDED, ActionStatus.FAILED, ActionStatus.CANCELLED}


def test_imports_nothing_of_minova() -> None:
    tree = ast.parse(Path(str(states.__file__)).read_text())
    imported = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert not [name for name in imported if name is None or name.startswith("minova")]
