"""Drivers are told where an instance lives when they destroy its guest: disks of a dead host must not go by mistake."""

from collections.abc import Callable

import pytest

from minova.objects import Action
from minova.states import ActionStatus
from minova.virt.fake import FakeDriver
from tests.fixtures.gate import Gate
from tests.fixtures.lab import Lab

Destroyed = list[tuple[str, str | None]]


@pytest.fixture
def destroyed(monkeypatch: pytest.MonkeyPatch) -> Destroyed:
    """Where guests were destroyed, and where their instances were said to live."""
    destroyed: Destroyed = []
    real = FakeDriver.destroy

    def destroy(driver: FakeDriver, uuid: str, *, home: str | None = None) -> None:
        destroyed.append((driver._host, home))
        real(driver, uuid, home=home)

    monkeypatch.setattr(FakeDriver, "destroy", destroy)
    return destroyed


def lose_host1(lab: Lab) -> None:
    lab.boot(host="host1")
    lab.kill_host("host1")
    lab.api.set_service_forced_down(lab.ctxt, "host1", True)


def evacuate(lab: Lab) -> Action:
    return lab.api.evacuate_instance(lab.ctxt, "vm", None)


def test_an_evacuation_that_is_undone(lab: Lab, destroyed: Destroyed, gate: Callable[[str], Gate]) -> None:
    lose_host1(lab)
    spawn = gate("spawn")
    action = evacuate(lab)
    spawn.wait()
    lab.api.cancel_action(lab.ctxt, action.id)
    spawn.open()
    assert lab.end_of(action).status is ActionStatus.CANCELLED
    assert destroyed == [("host2", "host1")]


def test_an_instance_that_is_deleted_where_it_was_evacuated_to(lab: Lab, destroyed: Destroyed) -> None:
    lose_host1(lab)
    lab.succeed(evacuate(lab))
    lab.succeed(lab.api.delete_instance(lab.ctxt, "vm"))
    assert destroyed == [("host2", "host2")]


def test_an_instance_that_is_rebuilt(lab: Lab, destroyed: Destroyed) -> None:
    lab.boot(host="host1")
    lab.succeed(lab.api.rebuild_instance(lab.ctxt, "vm"))
    assert destroyed == [("host1", "host1")]
