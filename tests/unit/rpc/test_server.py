"""The one wrapper around every dispatch: what is logged, what is refused, and what an error becomes."""

import logging
import sys
import threading
from typing import Any

import pytest
from oslo_messaging.rpc import dispatcher

from minova.context import RequestContext
from minova.exception import InstanceNotFound, InvalidInput, MinovaError, ServiceFault
from minova.objects import MigrationOptions
from minova.rpc.serializer import Serializer
from minova.rpc.server import Dispatcher, expose
from tests.unit.loopback import Incoming

MAX_SIZE = 65536


class Endpoint:
    def __init__(self) -> None:
        self.called: list[str] = []

    @expose
    def work(self, ctxt: RequestContext, options: MigrationOptions | None = None) -> MigrationOptions | None:
        self.called.append("work")
        return options

    def hidden(self, ctxt: RequestContext) -> None:
        self.called.append("hidden")

    @expose
    def refuse(self, ctxt: RequestContext) -> None:
        raise InstanceNotFound(name="web")

    @expose
    def typed(self, ctxt: RequestContext, name: str, orders: list[tuple[str, int]], when: int | None = None) -> None:
        self.called.append(f"{name} {orders} {when}")

    @expose
    def crash(self, ctxt: RequestContext) -> None:
        raise KeyError("boom")


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def served(endpoint: Endpoint) -> Dispatcher:
    return Dispatcher([endpoint], "compute:host1", MAX_SIZE)


def incoming(ctxt: RequestContext, method: str, version: str = "1.0", **args: Any) -> Incoming:
    return Incoming(ctxt.to_dict(), {"method": method, "args": args, "version": version})


def dispatch_error(served: Dispatcher, message: Incoming) -> BaseException:
    """Dispatch, and return the error that oslo.messaging would send back; it logs all others."""
    with pytest.raises(dispatcher.ExpectedException) as caught:
        served.dispatch(message)
    error = caught.value.exc_info[1]
    assert isinstance(error, MinovaError)
    return error


def test_result_is_serialized(served: Dispatcher, ctxt: RequestContext) -> None:
    options = Serializer().serialize_entity(ctxt, MigrationOptions(bandwidth_mib=3))
    assert served.dispatch(incoming(ctxt, "work", options=options)) == options


def test_success_is_timed_in_the_debug_log(
    served: Dispatcher, ctxt: RequestContext, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "minova"):
        served.dispatch(incoming(ctxt, "work"))
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert "compute:host1: work took" in caplog.text


@pytest.mark.parametrize("method", ["hidden", "__init__", "nothing_such"])
def test_what_is_not_exposed_cannot_be_called(
    served: Dispatcher, endpoint: Endpoint, ctxt: RequestContext, method: str
) -> None:
    error = dispatch_error(served, incoming(ctxt, method))
    assert isinstance(error, ServiceFault)
    assert error.kind == "NoSuchMethod"
    assert endpoint.called == []


@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_newer_version_is_refused(served: Dispatcher, endpoint: Endpoint, ctxt: RequestContext, version: str) -> None:
    error = dispatch_error(served, incoming(ctxt, "work", version))
    assert isinstance(error, ServiceFault)
    assert error.kind == "UnsupportedVersion"
    assert endpoint.called == []


def test_expected_error_goes_back_as_it_is_and_leaves_one_line(
    served: Dispatcher, ctxt: RequestContext, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        error = dispatch_error(served, incoming(ctxt, "refuse"))
    assert type(error) is InstanceNotFound
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [("INFO", None)]
    assert "compute:host1: refuse refused: no such instance: web" in caplog.text


def test_unexpected_error_becomes_a_fault_and_leaves_its_traceback(
    served: Dispatcher, ctxt: RequestContext, caplog: pytest.LogCaptureFixture
) -> None:
    error = dispatch_error(served, incoming(ctxt, "crash"))
    assert isinstance(error, ServiceFault)
    assert (error.service, error.method, error.kind) == ("compute:host1", "crash", "KeyError")
    assert error.request_id == ctxt.request_id
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert record.exc_info
    assert record.exc_info[0] is KeyError


def test_fault_carries_no_traceback_of_ours(served: Dispatcher, ctxt: RequestContext) -> None:
    error = dispatch_error(served, incoming(ctxt, "crash"))
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_broken_argument_is_the_callers_mistake(served: Dispatcher, endpoint: Endpoint, ctxt: RequestContext) -> None:
    options = Serializer().serialize_entity(ctxt, MigrationOptions())
    options["minova.data"]["bandwidth_mib"] = "fast"
    assert isinstance(dispatch_error(served, incoming(ctxt, "work", options=options)), InvalidInput)
    assert endpoint.called == []


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"name": "vm", "orders": [], "surprise": 1}, "unexpected keyword argument 'surprise'"),
        ({"name": "vm"}, "missing a required argument: 'orders'"),
        ({"name": 3, "orders": []}, "name: Expected `str`, got `int`"),
        ({"name": None, "orders": []}, "name: Expected `str`, got `null`"),
        ({"name": "vm", "orders": {}}, "orders: Expected `array`, got `object`"),
        ({"name": "vm", "orders": [["a", "b"]]}, "orders: Expected `int`, got `str`"),
        ({"name": "vm", "orders": [], "when": True}, "when: Expected `int | null`, got `bool`"),
    ],
)
def test_arguments_are_what_the_method_says(
    served: Dispatcher, endpoint: Endpoint, ctxt: RequestContext, args: dict[str, Any], reason: str
) -> None:
    error = dispatch_error(served, incoming(ctxt, "typed", **args))
    assert isinstance(error, InvalidInput)
    assert reason in error.reason
    assert endpoint.called == []


def test_arguments_become_what_the_method_says(served: Dispatcher, endpoint: Endpoint, ctxt: RequestContext) -> None:
    served.dispatch(incoming(ctxt, "typed", name="vm", orders=[["a", 1]]))
    assert endpoint.called == ["vm [('a', 1)] None"]


@pytest.mark.parametrize(
    "change",
    [
        {"method": None},
        {"method": 3},
        {"method": "work()"},
        {"method": "work" * 1000},
        {"method": ["work"]},
        {"args": [1, 2]},
        {"args": "options"},
        {"namespace": 1},
        {"namespace": {"a": 1}},
        {"version": None},
        {"version": 1.0},
        {"version": "1"},
        {"version": "one.two"},
        {"version": "1.0.0"},
        {"version": "1." + "9" * 5000},
        {"args": {"name": "x" * MAX_SIZE}},
        {"args": {"name": "\ud800"}},
    ],
    ids=str,
)
def test_what_no_client_sends_is_refused_with_one_line(
    served: Dispatcher, endpoint: Endpoint, ctxt: RequestContext, caplog: pytest.LogCaptureFixture, change: Any
) -> None:
    message = incoming(ctxt, "work")
    message.message.update(change)
    with caplog.at_level(logging.INFO):
        assert isinstance(dispatch_error(served, message), InvalidInput)
    assert [(record.levelname, record.exc_info) for record in caplog.records] == [("ERROR", None)]
    assert len(caplog.text) < 400
    assert caplog.text.count("\n") == 1
    assert endpoint.called == []


@pytest.mark.parametrize(
    "ctxt",
    [
        {"request_id": "req-1\nCRITICAL forged"},
        {"request_id": "x" * 65},
        {"request_id": ""},
        {"request_id": {"a": 1}},
        {"user": "x" * 256},
        {"user": "nul\0"},
        {"user": "two\nlines"},
        {"user": None},
    ],
    ids=str,
)
def test_context_that_no_client_sends_is_refused(
    served: Dispatcher, endpoint: Endpoint, caplog: pytest.LogCaptureFixture, ctxt: dict[str, Any]
) -> None:
    message = Incoming(ctxt, {"method": "work", "args": {}, "version": "1.0"})
    assert isinstance(dispatch_error(served, message), InvalidInput)
    assert caplog.text.count("\n") == 1
    assert endpoint.called == []


@pytest.mark.parametrize("ctxt", [{}, {"request_id": None, "user": ""}, {"request_id": "req-1", "user": "Zoë B."}])
def test_context_may_say_little(served: Dispatcher, endpoint: Endpoint, ctxt: dict[str, Any]) -> None:
    served.dispatch(Incoming(ctxt, {"method": "work", "args": {}, "version": "1.0"}))
    assert endpoint.called == ["work"]


def test_nobody_makes_a_line_of_his_own_in_the_log(
    served: Dispatcher, ctxt: RequestContext, caplog: pytest.LogCaptureFixture
) -> None:
    dispatch_error(served, incoming(ctxt, "work\nforged line"))
    assert "\nforged" not in caplog.text


@pytest.mark.parametrize("timeout", ["soon", [1], {"a": 1}])
def test_time_out_that_is_no_number_is_refused(served: Dispatcher, ctxt: RequestContext, timeout: Any) -> None:
    message = incoming(ctxt, "work")
    message.client_timeout = timeout
    assert isinstance(dispatch_error(served, message), InvalidInput)


@pytest.mark.parametrize("method", ["nothing_such", "work"])
def test_no_thread_is_left_by_a_monitored_call(served: Dispatcher, ctxt: RequestContext, method: str) -> None:
    """oslo.messaging starts one for each, and forgets it where there is no such method or version."""
    before = set(threading.enumerate())
    message = incoming(ctxt, method, "1.0" if method != "work" else "3.0")
    message.client_timeout = 600
    dispatch_error(served, message)
    assert set(threading.enumerate()) == before


def test_no_error_is_left_over(served: Dispatcher, ctxt: RequestContext) -> None:
    dispatch_error(served, incoming(ctxt, "crash"))
    assert sys.exc_info() == (None, None, None)
    assert served.dispatch(incoming(ctxt, "work")) is None
