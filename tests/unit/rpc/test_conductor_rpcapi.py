"""The conductor's client: a request whose answer is lost is made again, where that cannot do it twice."""

import pytest

from minova.conductor.rpcapi import HISTORY, TOPIC, ConductorAPI
from minova.context import RequestContext
from minova.exception import PeerSilent
from minova.rpc.control import ControlAPI
from minova.rpc.versions import Pins
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
