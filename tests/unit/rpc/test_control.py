"""The namespace that every service serves."""

import os
import ssl
from importlib.metadata import version as installed_version

import pytest
from oslo_config import cfg
from oslo_messaging import MessageDeliveryFailure

from minova.context import RequestContext
from minova.exception import BrokerUnreachable, PeerSilent
from minova.objects import Pin, Task, utcnow
from minova.rpc.control import ControlAPI, ControlEndpoint, LowestVersionEndpoint
from minova.rpc.rollcall import RollCall, RollCallAPI
from minova.rpc.versions import LowestVersion, Pins
from tests.unit.loopback import Loopback

TASK = Task(what="power_on", subject="some action", since=utcnow())


@pytest.fixture
def pins(conf: cfg.ConfigOpts) -> Pins:
    return Pins(conf, lambda _topic: ("1.0", "host3"))


@pytest.fixture
def api(conf: cfg.ConfigOpts, loopback: Loopback, pins: Pins) -> ControlAPI:
    roll = RollCallAPI(conf, loopback.transport)
    loopback.serve("compute", ControlEndpoint("compute", "host1", "1.2", pins, lambda: [TASK], roll, workers=3))
    return ControlAPI(conf, loopback.transport, "compute")


def conductor_api(conf: cfg.ConfigOpts, loopback: Loopback, lowest: LowestVersion) -> ControlAPI:
    loopback.serve(
        "conductor",
        ControlEndpoint("conductor", "here", "1.0", Pins(conf, lowest), list, RollCallAPI(conf, loopback.transport)),
        LowestVersionEndpoint(lowest),
    )
    return ControlAPI(conf, loopback.transport, "conductor")


def test_ping(api: ControlAPI, ctxt: RequestContext) -> None:
    pong = api.ping(ctxt, "host1")
    assert (pong.service, pong.host) == ("compute", "host1")
    assert pong.uptime >= 0


def test_ping_of_nobody(conf: cfg.ConfigOpts, loopback: Loopback, ctxt: RequestContext) -> None:
    with pytest.raises(PeerSilent, match="compute on host9"):
        ControlAPI(conf, loopback.transport, "compute").ping(ctxt, "host9")


def test_versions_and_pins(api: ControlAPI, pins: Pins, ctxt: RequestContext) -> None:
    assert api.get_versions(ctxt, "host1").pins == ()
    pins.pin("conductor", "1.4")
    versions = api.get_versions(ctxt, "host1")
    assert (versions.service, versions.host, versions.rpc_version) == ("compute", "host1", "1.2")
    assert versions.release == installed_version("minova")
    assert versions.pins == (Pin(topic="conductor", version="1.0", reason="host host3"),)


def test_activity(api: ControlAPI, ctxt: RequestContext) -> None:
    assert api.get_activity(ctxt, "host1").tasks == (TASK,)


def test_roll_call(api: ControlAPI, loopback: Loopback, pins: Pins, ctxt: RequestContext) -> None:
    roll = RollCall()
    loopback.serve("rollcall", roll)
    pins.pin("conductor", "1.4")
    api.announce(ctxt, roll.round_id)
    [answer] = roll.collect(lambda answers: bool(answers), seconds=0)
    presence = answer.presence
    assert (presence.service, presence.host, presence.rpc_version) == ("compute", "host1", "1.2")
    assert (presence.process, presence.workers, presence.release) == (os.getpid(), 3, installed_version("minova"))
    assert presence.pins == (Pin(topic="conductor", version="1.0", reason="host host3"),)
    assert presence.tasks == (TASK,)
    assert answer.seconds >= 0
    assert [(sent.topic, sent.fanout) for sent in loopback.sent] == [("compute", True), ("rollcall", True)]


def test_answer_of_another_round_does_not_count(api: ControlAPI, loopback: Loopback, ctxt: RequestContext) -> None:
    roll = RollCall()
    loopback.serve("rollcall", roll)
    api.announce(ctxt, RollCall().round_id)
    assert roll.collect(lambda answers: bool(answers), seconds=0) == []


def test_reset_resolves_the_pins_again(conf: cfg.ConfigOpts, loopback: Loopback, ctxt: RequestContext) -> None:
    lowest = {"compute": ("1.0", "host3")}
    pins = Pins(conf, lowest.get)
    roll = RollCallAPI(conf, loopback.transport)
    loopback.serve("conductor", ControlEndpoint("conductor", "here", "1.0", pins, list, roll))
    assert pins.pin("compute", "1.2").version == "1.0"
    lowest["compute"] = ("1.2", "host3")
    assert pins.pin("compute", "1.2").version == "1.0"
    ControlAPI(conf, loopback.transport, "conductor").reset(ctxt)
    assert pins.pin("compute", "1.2").version == "1.2"
    assert [(sent.topic, sent.fanout) for sent in loopback.sent] == [("conductor", True)]


def test_messages_are_in_the_namespace(api: ControlAPI, loopback: Loopback, ctxt: RequestContext) -> None:
    api.ping(ctxt, "host1")
    [sent] = loopback.sent
    assert (sent.message["namespace"], sent.server) == ("control", "host1")


def test_no_pin_holds_it(conf: cfg.ConfigOpts, loopback: Loopback, api: ControlAPI, ctxt: RequestContext) -> None:
    """It tells what the pins are: so it must work whatever they are."""
    conf.set_override("compute", "0.1", "upgrade_levels")
    assert api.ping(ctxt, "host1").host == "host1"


def test_lowest_version(conf: cfg.ConfigOpts, loopback: Loopback, ctxt: RequestContext) -> None:
    api = conductor_api(conf, loopback, {"compute": ("1.1", "host2")}.get)
    assert api.get_lowest_version(ctxt, "compute") == Pin(topic="compute", version="1.1", reason="host2")
    assert api.get_lowest_version(ctxt, "conductor") is None


def test_a_process_without_a_database_pins_by_it(conf: cfg.ConfigOpts, loopback: Loopback) -> None:
    api = conductor_api(conf, loopback, {"compute": ("1.1", "host2")}.get)
    pin = Pins(conf, api.lowest).pin("compute", "1.2")
    assert (pin.version, pin.reason) == ("1.1", "host host2")
    assert Pins(conf, api.lowest).pin("conductor", "1.0").reason == "no live service is known"


def test_certificate_that_is_refused_is_told(loopback: Loopback, ctxt: RequestContext) -> None:
    refused = ssl.SSLCertVerificationError(1, "certificate verify failed")
    refused.verify_message = "unable to get local issuer certificate"

    def send(*_args: object, **_more: object) -> None:
        raise MessageDeliveryFailure("to amqp://minova:secret@broker") from refused

    loopback.send = send  # type: ignore[method-assign]
    with pytest.raises(BrokerUnreachable) as error:
        ControlAPI(loopback.conf, loopback.transport, "conductor").reach_broker(ctxt)
    assert "its certificate is refused: unable to get local issuer certificate" in error.value.message
    assert "ssl_ca_file" in error.value.message
    assert "secret" not in error.value.message
