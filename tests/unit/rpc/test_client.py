"""The base of all clients: versions, pins, timeouts and errors."""

from typing import Any

import oslo_messaging
import pytest
from amqp.exceptions import ConnectionForced, InternalError
from kombu.exceptions import OperationalError
from oslo_config import cfg
from oslo_messaging import MessageDeliveryFailure

from minova.context import RequestContext
from minova.exception import AmbiguousName, InvalidState, PeerSilent, PeerTooOld, ServiceFault
from minova.objects import MigrationOptions
from minova.rpc.client import RPCAPI, Timeout
from minova.rpc.server import expose
from minova.rpc.versions import History, Pins, Release
from tests.unit.loopback import Loopback

BUSY = InvalidState(instance="web", verb="start", state="active", allowed=["stop", "pause"])


class EchoAPI(RPCAPI):
    TOPIC = "compute"
    HISTORY = History(
        (
            Release(version="1.0", summary="The first.", methods=("echo", "tell", "fail", "ponder")),
            Release(version="1.1", summary="More.", methods=("shout",), arguments=(("echo", "loud"),)),
        )
    )

    def echo(self, ctxt: RequestContext, host: str | None, version: str = "", **args: Any) -> Any:
        return self._call(ctxt, Timeout.QUICK, host, "echo", version, **args)

    def shout(self, ctxt: RequestContext) -> Any:
        return self._call(ctxt, Timeout.NORMAL, None, "shout")

    def ponder(self, ctxt: RequestContext) -> Any:
        return self._call(ctxt, Timeout.LONG, None, "ponder")

    def tell(self, ctxt: RequestContext, host: str | None, version: str = "", **args: Any) -> None:
        self._cast(ctxt, host, "tell", version, **args)

    def fail(self, ctxt: RequestContext) -> None:
        self._call(ctxt, Timeout.QUICK, None, "fail")


class EchoEndpoint:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    @expose
    def echo(self, ctxt: RequestContext, **args: Any) -> Any:
        return [ctxt.user_id, args]

    @expose
    def fail(self, ctxt: RequestContext) -> None:
        assert self.error is not None
        raise self.error


@pytest.fixture
def api(conf: cfg.ConfigOpts, loopback: Loopback) -> EchoAPI:
    """Return a client whose peers are as new as itself."""
    return EchoAPI(conf, loopback.transport, Pins(conf, lambda _topic: ("1.1", "host1")))


@pytest.fixture
def held_api(conf: cfg.ConfigOpts, loopback: Loopback) -> EchoAPI:
    """Return a client that an old peer holds back."""
    return EchoAPI(conf, loopback.transport, Pins(conf, lambda _topic: ("1.0", "host3")))


def test_nothing_is_resolved_before_the_first_message(conf: cfg.ConfigOpts, loopback: Loopback) -> None:
    pins = Pins(conf, lambda _topic: ("1.0", "host1"))
    api = EchoAPI(conf, loopback.transport, pins)
    assert pins.in_force() == ()
    api.tell(RequestContext(), "host1")
    assert pins.in_force() != ()


def test_call_returns_the_answer(api: EchoAPI, loopback: Loopback, ctxt: RequestContext) -> None:
    loopback.serve("compute", EchoEndpoint())
    assert api.echo(ctxt, "host1", number=3) == ["someone", {"number": 3}]


def test_call_carries_objects_both_ways(api: EchoAPI, loopback: Loopback, ctxt: RequestContext) -> None:
    class Endpoint:
        @expose
        def echo(self, ctxt: RequestContext, options: MigrationOptions) -> list[MigrationOptions]:
            assert isinstance(options, MigrationOptions)
            return [options]

    loopback.serve("compute", Endpoint())
    options = MigrationOptions(bandwidth_mib=7)
    assert api.echo(ctxt, None, options=options) == [options]


def test_messages_go_to_the_host_or_to_any(api: EchoAPI, loopback: Loopback, ctxt: RequestContext) -> None:
    api.tell(ctxt, "host1", x=1)
    api.tell(ctxt, None, x=1)
    assert [(sent.topic, sent.server, sent.call) for sent in loopback.sent] == [
        ("compute", "host1", False),
        ("compute", None, False),
    ]


def test_messages_carry_the_request_id(api: EchoAPI, loopback: Loopback, ctxt: RequestContext) -> None:
    api.tell(ctxt, None)
    assert loopback.sent[0].ctxt["request_id"] == ctxt.request_id


def test_version_is_the_one_that_added_the_method(api: EchoAPI, loopback: Loopback, ctxt: RequestContext) -> None:
    """So that a message is no newer than it needs to be."""
    api.tell(ctxt, None)
    api.tell(ctxt, None, "1.1")
    assert [sent.message["version"] for sent in loopback.sent] == ["1.0", "1.1"]


@pytest.mark.parametrize(("call", "option"), [("echo", "quick_timeout"), ("shout", "normal_timeout")])
def test_timeouts_are_configured(
    api: EchoAPI, loopback: Loopback, ctxt: RequestContext, conf: cfg.ConfigOpts, call: str, option: str
) -> None:
    conf.set_override(option, 0.75, "rpc")
    with pytest.raises(PeerSilent):
        getattr(api, call)(ctxt, *(["host1"] if call == "echo" else []))
    assert loopback.sent[0].timeout == 0.75


def test_long_call_is_monitored(api: EchoAPI, loopback: Loopback, ctxt: RequestContext, conf: cfg.ConfigOpts) -> None:
    """A peer that is gone is given up after the silence, not after the time that the work may take."""
    conf.set_override("long_timeout", 300.0, "rpc")
    conf.set_override("monitor_timeout", 7, "rpc")
    with pytest.raises(PeerSilent, match="within 7 s"):
        api.ponder(ctxt)
    assert (loopback.sent[0].timeout, loopback.sent[0].monitor) == (300.0, 7)


def test_other_calls_are_not_monitored(api: EchoAPI, loopback: Loopback, ctxt: RequestContext) -> None:
    """They may have to wait in a queue, and nobody says meanwhile that they do."""
    with pytest.raises(PeerSilent):
        api.shout(ctxt)
    assert loopback.sent[0].monitor is None


@pytest.mark.parametrize(("host", "peer"), [("host1", "compute on host1"), (None, "any compute")])
def test_silence_is_a_typed_error(api: EchoAPI, ctxt: RequestContext, host: str | None, peer: str) -> None:
    with pytest.raises(PeerSilent) as caught:
        api.echo(ctxt, host)
    assert (caught.value.peer, caught.value.seconds) == (peer, 10.0)


@pytest.fixture(
    params=[MessageDeliveryFailure, OperationalError, ConnectionForced, InternalError, ConnectionResetError]
)
def broken(request: pytest.FixtureRequest, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that has gone away: all but the first are what the driver lets out if it needed a new connection."""

    def send(*_args: Any, **_options: Any) -> None:
        raise request.param("amqp://user:secret@broker after inf tries")

    monkeypatch.setattr(loopback, "send", send)


@pytest.mark.usefixtures("broken")
def test_broker_that_goes_away_is_silence(api: EchoAPI, ctxt: RequestContext) -> None:
    with pytest.raises(PeerSilent, match=r"compute on host1 did not answer within [\d.]+ s"):
        api.echo(ctxt, "host1")


@pytest.mark.usefixtures("broken")
def test_nothing_is_sent_without_a_broker(api: EchoAPI, ctxt: RequestContext) -> None:
    with pytest.raises(MessageDeliveryFailure):
        api.tell(ctxt, "host1")


def test_can_send_version(api: EchoAPI, held_api: EchoAPI) -> None:
    assert api.can_send_version("1.1")
    assert held_api.can_send_version("1.0")
    assert not held_api.can_send_version("1.1")


def test_too_old_a_peer_names_the_host_that_holds_the_pin(
    held_api: EchoAPI, loopback: Loopback, ctxt: RequestContext
) -> None:
    with pytest.raises(PeerTooOld) as caught:
        held_api.shout(ctxt)
    error = caught.value
    assert (error.method, error.needed, error.pinned) == ("compute.shout", "1.1", "1.0")
    assert "host3" in error.holder
    assert not loopback.sent


def test_too_new_an_argument_is_not_dropped(held_api: EchoAPI, loopback: Loopback, ctxt: RequestContext) -> None:
    with pytest.raises(PeerTooOld, match="host3"):
        held_api.tell(ctxt, None, "1.1", loud=True)
    assert not loopback.sent


def test_too_old_a_pin_names_the_option_that_holds_it(
    conf: cfg.ConfigOpts, loopback: Loopback, ctxt: RequestContext
) -> None:
    conf.set_override("compute", "1.0", "upgrade_levels")
    api = EchoAPI(conf, loopback.transport, Pins(conf, lambda _topic: None))
    with pytest.raises(PeerTooOld, match=r"\[upgrade_levels\] compute = 1\.0"):
        api.shout(ctxt)


@pytest.mark.parametrize(
    "error", [BUSY, AmbiguousName(name="web", candidates=["a", "b"])], ids=lambda e: type(e).__name__
)
def test_expected_errors_arrive_as_their_own_type(
    api: EchoAPI, loopback: Loopback, ctxt: RequestContext, error: Exception
) -> None:
    loopback.serve("compute", EchoEndpoint(error))
    with pytest.raises(type(error)) as caught:
        api.fail(ctxt)
    assert type(caught.value) is type(error)
    assert str(caught.value) == str(error)
    assert caught.value.__suppress_context__


def test_unexpected_errors_arrive_as_a_fault(api: EchoAPI, loopback: Loopback, ctxt: RequestContext) -> None:
    loopback.serve("compute", EchoEndpoint(ZeroDivisionError("by zero")))
    with pytest.raises(ServiceFault) as caught:
        api.fail(ctxt)
    fault = caught.value
    assert (fault.method, fault.kind, fault.reason) == ("fail", "ZeroDivisionError", "by zero")
    assert fault.request_id == ctxt.request_id
    assert "\n" not in str(fault)


def test_errors_of_foreign_types_are_faults_without_a_traceback(
    api: EchoAPI, loopback: Loopback, ctxt: RequestContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that does not wrap its errors must not make us show its traceback."""
    monkeypatch.setattr("tests.unit.loopback.EXCHANGED_MODULES", ())
    loopback.serve("compute", EchoEndpoint(BUSY))
    with pytest.raises(ServiceFault) as caught:
        api.fail(ctxt)
    assert (caught.value.kind, caught.value.reason) == ("InvalidState", str(BUSY))
    assert "Traceback" not in str(caught.value)


def test_peer_that_turns_out_to_be_older_is_counted_from_then_on(
    conf: cfg.ConfigOpts, loopback: Loopback, ctxt: RequestContext
) -> None:
    """As a conductor that was not there when the pin was resolved."""

    class OldEndpoint(EchoEndpoint):
        target = oslo_messaging.Target(version="1.0")

    answers = iter([("1.1", "host1"), ("1.0", "host3")])
    api = EchoAPI(conf, loopback.transport, Pins(conf, lambda _topic: next(answers)))
    loopback.serve("compute", OldEndpoint())
    with pytest.raises(ServiceFault) as fault:
        api.shout(ctxt)
    assert fault.value.kind == "UnsupportedVersion"
    with pytest.raises(PeerTooOld, match="host3"):
        api.shout(ctxt)
