"""The conductor's client: a request whose answer is lost is made again, where that cannot do it twice."""

from typing import Any

import pytest

from minova.conductor.rpcapi import HISTORY, TOPIC, ConductorAPI
from minova.context import RequestContext
from minova.exception import PeerSilent, PeerTooOld
from minova.objects import BootRequest, MigrationOptions, Order
from minova.rpc.control import ControlAPI
from minova.rpc.versions import Pins
from minova.states import MigrationEvent, TimeoutAction
from tests.unit.examples import example
from tests.unit.loopback import Loopback


def api(loopback: Loopback, version: str = HISTORY.version) -> ConductorAPI:
    loopback.conf.set_override(TOPIC, version, "upgrade_levels")
    return ConductorAPI(loopback.conf, loopback.transport, Pins(loopback.conf, lambda _topic: None))


def test_request_without_an_answer_is_made_again_under_the_same_name(loopback: Loopback, ctxt: RequestContext) -> None:
    with pytest.raises(PeerSilent, match="within 60 s"):
        api(loopback).stop_instance(ctxt, "vm")
    first, second = loopback.sent
    assert first.ctxt["action_id"] == second.ctxt["action_id"]
    assert first.ctxt["request_id"] == ctxt.request_id


def test_each_request_has_a_name_of_its_own(loopback: Loopback, ctxt: RequestContext) -> None:
    for _ in range(2):
        with pytest.raises(PeerSilent):
            api(loopback).stop_instance(ctxt, "vm")
    assert len({sent.ctxt["action_id"] for sent in loopback.sent}) == 2


def test_request_is_made_though_nobody_tells_the_pin(loopback: Loopback, ctxt: RequestContext) -> None:
    """It waits in the queue for the conductor that comes next."""
    control = ControlAPI(loopback.conf, loopback.transport, TOPIC)
    client = ConductorAPI(loopback.conf, loopback.transport, Pins(loopback.conf, control.lowest))
    with pytest.raises(PeerSilent, match="within 60 s"):
        client.stop_instance(ctxt, "vm")
    sent = [(each.message["method"], each.message["version"], each.timeout) for each in loopback.sent]
    assert sent == [("get_lowest_version", "1.0", 10), ("stop_instance", "1.0", 60)]


def test_old_conductor_is_asked_once(loopback: Loopback, ctxt: RequestContext) -> None:
    with pytest.raises(PeerSilent, match="within 60 s"):
        api(loopback, "1.0").stop_instance(ctxt, "vm")
    assert len(loopback.sent) == 1


def test_what_computes_tell_does_not_wait_for_a_conductor_to_come(loopback: Loopback, ctxt: RequestContext) -> None:
    """Else it would stand before the pings and reports that the next one has to hear first."""
    for tell in (
        lambda: api(loopback).report_migration(ctxt, example(Order), MigrationEvent.QUEUE, None),
        lambda: api(loopback).renew_orders(ctxt, "host1", [("action", 1)]),
    ):
        with pytest.raises(PeerSilent, match="within 2 s"):
            tell()
    assert [sent.timeout for sent in loopback.sent] == [2, 2]


NEW: list[dict[str, Any]] = [
    {"image": "cirros"},
    {"network": "lan"},
    {"user_data": "x"},
    {"ssh_keys": ("ssh-rsa AAAA",)},
]


def request(**more: Any) -> BootRequest:
    return BootRequest(**{"name": "vm", "vcpus": 1, "memory_mb": 1, "disk_gb": 1, **more})


@pytest.mark.parametrize("more", NEW)
def test_boot_is_not_asked_of_a_conductor_that_would_leave_something_out(
    loopback: Loopback, ctxt: RequestContext, more: dict[str, Any]
) -> None:
    with pytest.raises(PeerTooOld, match=r"conductor.boot_instance needs RPC version 1.3, but .* holds it at 1.2"):
        api(loopback, "1.2").boot_instance(ctxt, request(**more))
    assert loopback.sent == []


@pytest.mark.parametrize(("more", "version"), [({}, "1.0"), *((more, "1.3") for more in NEW)])
def test_boot_says_what_it_needs(loopback: Loopback, ctxt: RequestContext, more: dict[str, Any], version: str) -> None:
    with pytest.raises(PeerSilent):
        api(loopback).boot_instance(ctxt, request(**more))
    assert {sent.message["version"] for sent in loopback.sent} == {version}


def test_boot_says_what_it_needs_though_nobody_tells_the_pin(loopback: Loopback, ctxt: RequestContext) -> None:
    control = ControlAPI(loopback.conf, loopback.transport, TOPIC)
    client = ConductorAPI(loopback.conf, loopback.transport, Pins(loopback.conf, control.lowest))
    with pytest.raises(PeerSilent, match="within 60 s"):
        client.boot_instance(ctxt, request(image="cirros"))
    assert loopback.sent[-1].message["version"] == "1.3"


STEERED: list[dict[str, Any]] = [
    {"max_downtime_ms": 70},
    {"auto_converge": False},
    {"post_copy": True, "bandwidth_mib": 7},
    {"timeout": 0},
    {"timeout_action": TimeoutAction.ABORT},
]


@pytest.mark.parametrize("options", STEERED, ids=str)
def test_live_migration_is_not_asked_of_a_conductor_that_would_leave_something_out(
    loopback: Loopback, ctxt: RequestContext, options: dict[str, Any]
) -> None:
    with pytest.raises(PeerTooOld, match=r"conductor.live_migrate_instance needs RPC version 1.3, but .* at 1.2"):
        api(loopback, "1.2").live_migrate_instance(ctxt, "vm", None, MigrationOptions(**options))
    assert loopback.sent == []


@pytest.mark.parametrize("options", [{}, {"block_migration": True, "bandwidth_mib": 7}], ids=str)
def test_live_migration_is_asked_of_an_old_conductor_if_that_knows_it(
    loopback: Loopback, ctxt: RequestContext, options: dict[str, Any]
) -> None:
    with pytest.raises(PeerSilent):
        api(loopback, "1.2").live_migrate_instance(ctxt, "vm", None, MigrationOptions(**options))
    assert {sent.message["version"] for sent in loopback.sent} == {"1.0"}
