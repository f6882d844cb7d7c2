"""The one wrapper around every dispatch: what is logged, what is refused, and what an error becomes."""

import logging
import sys
from typing import Any

import pytest
from oslo_messaging.rpc import dispatcher

from minova.context import RequestContext
from minova.exception import InstanceNotFound, InvalidInput, MinovaError, ServiceFault
from minova.objects import MigrationOptions
from minova.rpc.serializer import Serializer
from minova.rpc.server import Dispatcher, expose
from tests.unit.loopback import Incoming


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
    def crash(self, ctxt: RequestContext) -> None:
        raise KeyError("boom")


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def served(endpoint: Endpoint) -> Dispatcher:
    return Dispatcher([endpoint], "compute:host1")


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


def test_unknown_argument_is_a_fault(served: Dispatcher, endpoint: Endpoint, ctxt: RequestContext) -> None:
    error = dispatch_error(served, incoming(ctxt, "work", surprise=1))
    assert isinstance(error, ServiceFault)
    assert error.kind == "TypeError"
    assert endpoint.called == []


def test_no_error_is_left_over(served: Dispatcher, ctxt: RequestContext) -> None:
    dispatch_error(served, incoming(ctxt, "crash"))
    assert sys.exc_info() == (None, None, None)
    assert served.dispatch(incoming(ctxt, "work")) is None
