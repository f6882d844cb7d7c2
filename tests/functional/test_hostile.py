"""Whatever reaches a service as a message, it is answered or refused, and the service lives on."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oslo_messaging.rpc import dispatcher

from minova.exception import MinovaError, ServiceFault
from minova.rpc.server import Dispatcher
from tests.fixtures import hostile
from tests.fixtures.lab import Lab

EXAMPLES = 300
UNKNOWN = ("NoSuchMethod", "UnsupportedVersion")

pytestmark = pytest.mark.meets_errors


def send(served: Dispatcher, ctxt: Any, message: Any) -> MinovaError | None:
    """Dispatch a message and return the error that would go back."""
    ctxt, message = json.loads(json.dumps([ctxt, message]))
    try:
        json.dumps(served.dispatch(SimpleNamespace(ctxt=ctxt, message=message, client_timeout=0)))
    except dispatcher.ExpectedException as expected:
        error = expected.exc_info[1]
        assert isinstance(error, MinovaError)
        return error
    return None


@pytest.mark.parametrize("topic", ["conductor", "compute"])
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_hostile_messages_are_refused(lab: Lab, topic: str, data: st.DataObject) -> None:
    ctxt, message = data.draw(hostile.contexts), data.draw(hostile.messages(topic))
    service = lab.cluster.conductors[0] if topic == "conductor" else lab.cluster.computes["host1"]
    error = send(service._server.dispatcher, ctxt, message)
    if isinstance(error, ServiceFault):
        assert error.kind in UNKNOWN, error
