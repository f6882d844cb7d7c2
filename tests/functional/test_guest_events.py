"""Guests that change by themselves, on a hypervisor that tells of it."""

from collections.abc import Callable

import pytest
from oslo_config import cfg

from minova.states import PowerState, VmState
from minova.virt.fake import FakeDriver
from tests.fixtures.lab import Lab


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[[], object]]:
    """Have the fake driver tell of its guests; what is to be called, by host, for as long as anybody listens."""
    listeners: dict[str, Callable[[], object]] = {}

    def watch_guests(driver: FakeDriver, on_change: Callable[[], object]) -> Callable[[], None]:
        listeners[driver._host] = on_change
        return lambda: listeners.pop(driver._host, None) and None

    monkeypatch.setattr(FakeDriver, "watch_guests", watch_guests, raising=False)
    return listeners


def test_a_guest_that_shuts_itself_down_is_seen_at_once(
    conf: cfg.ConfigOpts, tell: dict[str, Callable[[], object]], make_lab: Callable[..., Lab]
) -> None:
    conf.set_override("report_interval", 3600)
    lab = make_lab("host1")
    instance = lab.boot()
    lab.cluster.computes["host1"].reporter._driver.power_off(instance.uuid)
    tell["host1"]()
    assert lab.instance().power_state is PowerState.SHUTDOWN
    assert lab.instance().vm_state is VmState.STOPPED


def test_nobody_listens_to_a_driver_once_its_compute_has_stopped(
    tell: dict[str, Callable[[], object]], lab: Lab
) -> None:
    assert set(tell) == {"host1", "host2"}
    lab.stop_compute("host1")
    assert set(tell) == {"host2"}
