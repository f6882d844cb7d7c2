"""A broker that is not there, to clients that may not wait for it."""

import pytest
from oslo_config import cfg
from oslo_messaging import MessageDeliveryFailure

from minova.context import RequestContext
from minova.rpc.control import ControlAPI
from minova.rpc.transport import get_transport
from tests.fixtures.services.program import free_port


@pytest.fixture
def api(conf: cfg.ConfigOpts) -> ControlAPI:
    conf.set_override("transport_url", f"rabbit://user:secret@127.0.0.1:{free_port()}/")
    return ControlAPI(conf, get_transport(conf), "compute", retry=0)


def test_client_without_a_connection_cannot_deliver(api: ControlAPI) -> None:
    with pytest.raises(MessageDeliveryFailure, match="ConnectionRefusedError"):
        api.reset(RequestContext())
