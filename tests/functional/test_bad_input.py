"""Senseless requests: each is refused in one line, and nothing changes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from minova.exception import (
    ActionNotFound,
    AmbiguousName,
    HostNotFenced,
    HostNotFound,
    HostUnusable,
    InstanceNotFound,
    InvalidInput,
    InvalidState,
    MigrationNotFound,
    MinovaError,
    NotForceable,
    NoValidHost,
)
from minova.objects import Action, MigrationOptions
from tests.fixtures.lab import Lab

Move = Callable[[Lab, str | None], Action]


def live_migrate(lab: Lab, destination: str | None) -> Action:
    return lab.api.live_migrate_instance(lab.ctxt, "vm", destination, MigrationOptions())


def migrate(lab: Lab, destination: str | None) -> Action:
    return lab.api.migrate_instance(lab.ctxt, "vm", destination)


def evacuate(lab: Lab, destination: str | None) -> Action:
    return lab.api.evacuate_instance(lab.ctxt, "vm", destination)


every_move = pytest.mark.parametrize("move", [live_migrate, migrate, evacuate])


@pytest.fixture
def movable(lab: Lab, move: Move) -> Lab:
    """A cluster with an instance on host1, which is fenced if it is to be evacuated."""
    lab.boot(host="host1")
    if move is evacuate:
        lab.silence("host1")
        lab.api.set_service_forced_down(lab.ctxt, "host1", True)
    return lab


def everything(lab: Lab) -> tuple[Any, ...]:
    """Return all that a refused request must not change."""
    return (
        lab.api.list_instances(lab.ctxt, deleted=True),
        lab.api.list_actions(lab.ctxt),
        lab.api.list_migrations(lab.ctxt),
        lab.api.list_hosts(lab.ctxt),
        lab.api.list_faults(lab.ctxt, "vm"),
    )


@contextmanager
def refused(lab: Lab, error: type[MinovaError], words: str) -> Iterator[None]:
    """Expect an error in one line, which has the words in it, and no change."""
    before = everything(lab)
    with pytest.raises(error) as refusal:
        yield
    assert words in refusal.value.message
    assert "\n" not in refusal.value.message
    assert everything(lab) == before


@every_move
def test_destination_that_is_the_source(movable: Lab, move: Move) -> None:
    with refused(movable, InvalidInput, "instance vm is on host host1 already: choose another"):
        move(movable, "host1")


@every_move
def test_destination_that_does_not_exist(movable: Lab, move: Move) -> None:
    with refused(movable, HostNotFound, "no such host: host9"):
        move(movable, "host9")


@every_move
def test_destination_that_is_disabled(movable: Lab, move: Move) -> None:
    movable.api.set_service_enabled(movable.ctxt, "host2", False)
    with refused(movable, HostUnusable, "host host2 cannot be used: its service is disabled"):
        move(movable, "host2")


@every_move
def test_destination_that_is_drained(movable: Lab, move: Move) -> None:
    movable.api.drain_host(movable.ctxt, "host2")
    with refused(movable, HostUnusable, "it is being drained"):
        move(movable, "host2")


@every_move
def test_destination_that_is_silent(movable: Lab, move: Move) -> None:
    movable.silence("host2")
    with refused(movable, HostUnusable, "it is down, or was not heard from"):
        move(movable, "host2")


@every_move
def test_destination_that_is_forced_down(movable: Lab, move: Move) -> None:
    movable.api.set_service_forced_down(movable.ctxt, "host2", True)
    with refused(movable, HostUnusable, "it is down, or was not heard from"):
        move(movable, "host2")


@every_move
@pytest.mark.parametrize(
    ("size", "words"),
    [
        ({"vcpus": 32}, "it has fewer than 1 vCPUs free"),
        ({"memory_mb": 16384 - 255}, "it has less than 256 MiB of memory free"),
        ({"disk_gb": 500}, "it has less than 1 GiB of disk free"),
    ],
)
def test_destination_without_room(movable: Lab, move: Move, size: dict[str, int], words: str) -> None:
    movable.boot("filler", host="host2", **size)
    with refused(movable, HostUnusable, words):
        move(movable, "host2")


@every_move
def test_no_destination_has_room(movable: Lab, move: Move) -> None:
    movable.boot("filler", host="host2", vcpus=32)
    with refused(movable, NoValidHost, "another host refused 1, enough vCPUs refused 1"):
        move(movable, None)


@pytest.mark.parametrize("bandwidth_mib", [0, -1, 10**9])
def test_absurd_bandwidth(lab: Lab, bandwidth_mib: int) -> None:
    lab.boot()
    with refused(lab, InvalidInput, f"{bandwidth_mib} MiB/s of bandwidth is not between 1 and 1048576"):
        lab.api.live_migrate_instance(lab.ctxt, "vm", None, MigrationOptions(bandwidth_mib=bandwidth_mib))


def test_source_that_is_silent(lab: Lab) -> None:
    lab.boot(host="host1")
    lab.silence("host1")
    for move in (live_migrate, migrate):
        with refused(lab, HostUnusable, "host host1 cannot be used: it was not heard from"):
            move(lab, None)


def test_evacuation_from_a_host_of_which_nobody_says_that_it_is_off(lab: Lab) -> None:
    lab.boot(host="host1")
    with refused(lab, HostNotFenced, "host host1 is not fenced"):
        evacuate(lab, None)
    lab.silence("host1")
    with refused(lab, HostNotFenced, "service force-down host1"):
        evacuate(lab, None)


def test_state_that_forbids_to_move(lab: Lab) -> None:
    lab.boot()
    lab.succeed(lab.api.stop_instance(lab.ctxt, "vm"))
    with refused(lab, InvalidState, "cannot live-migrate instance vm: it is stopped; allowed now: "):
        live_migrate(lab, None)
    lab.succeed(lab.api.start_instance(lab.ctxt, "vm"))
    lab.succeed(lab.api.pause_instance(lab.ctxt, "vm"))
    with refused(lab, InvalidState, "cannot migrate instance vm: it is paused; allowed now: "):
        migrate(lab, None)


def about_instance(lab: Lab, reference: str) -> dict[str, Callable[[], object]]:
    """Return every request that names an instance."""
    api, ctxt = lab.api, lab.ctxt
    return {
        "delete": lambda: api.delete_instance(ctxt, reference),
        "start": lambda: api.start_instance(ctxt, reference),
        "stop": lambda: api.stop_instance(ctxt, reference),
        "reboot": lambda: api.reboot_instance(ctxt, reference, False),
        "hard reboot": lambda: api.reboot_instance(ctxt, reference, True),
        "pause": lambda: api.pause_instance(ctxt, reference),
        "unpause": lambda: api.unpause_instance(ctxt, reference),
        "live migrate": lambda: api.live_migrate_instance(ctxt, reference, None, MigrationOptions()),
        "migrate": lambda: api.migrate_instance(ctxt, reference, None),
        "evacuate": lambda: api.evacuate_instance(ctxt, reference, None),
        "rebuild": lambda: api.rebuild_instance(ctxt, reference),
        "reset state": lambda: api.reset_instance_state(ctxt, reference, "error"),
        "get": lambda: api.get_instance(ctxt, reference),
        "faults": lambda: api.list_faults(ctxt, reference),
        "actions": lambda: api.list_actions(ctxt, reference),
        "migrations": lambda: api.list_migrations(ctxt, reference),
    }


@pytest.mark.parametrize("reference", ["nobody", "00000000-0000-0000-0000-000000000000", "", "'; drop", "VM"])
def test_instance_that_does_not_exist(lab: Lab, reference: str) -> None:
    lab.boot()
    before = everything(lab)
    for name, request in about_instance(lab, reference).items():
        with pytest.raises(InstanceNotFound) as refusal:
            request()
        assert refusal.value.message == f"no such instance: {reference}", name
    assert everything(lab) == before


def test_name_that_several_bear(lab: Lab) -> None:
    uuids = sorted(lab.succeed(lab.api.boot_instance(lab.ctxt, lab.request("twin"))).instance_uuid for _ in range(2))
    lab.boot()
    before = everything(lab)
    for name, request in about_instance(lab, "twin").items():
        with pytest.raises(AmbiguousName) as refusal:
            request()
        assert refusal.value.candidates == uuids, name
    assert everything(lab) == before
    lab.succeed(lab.api.stop_instance(lab.ctxt, uuids[0]))


def test_action_that_does_not_exist(lab: Lab) -> None:
    lab.boot()
    for request in (lab.api.get_action, lab.api.list_action_events, lab.api.cancel_action):
        with refused(lab, ActionNotFound, "no such action: 1234"):
            request(lab.ctxt, "1234")


def test_migration_that_does_not_exist(lab: Lab) -> None:
    lab.boot()
    for request in (lab.api.get_migration, lab.api.abort_migration, lab.api.force_complete_migration):
        with refused(lab, MigrationNotFound, "no such migration: 1234"):
            request(lab.ctxt, "1234")


def test_migration_that_is_over_cannot_be_forced(lab: Lab) -> None:
    lab.boot()
    action = lab.succeed(live_migrate(lab, None))
    with refused(lab, NotForceable, "it is completed"):
        lab.api.force_complete_migration(lab.ctxt, str(action.migration_uuid))


def test_cold_migration_cannot_be_forced(lab: Lab) -> None:
    lab.boot()
    action = lab.succeed(migrate(lab, None))
    with refused(lab, InvalidInput, "is no live migration"):
        lab.api.force_complete_migration(lab.ctxt, str(action.migration_uuid))
