"""The two sides of every RPC method agree, and the history of its interface knows it."""

import contextlib
import importlib
import inspect
import re
import typing
from typing import Any

import pytest

from minova.context import RequestContext
from minova.exception import PeerSilent
from minova.rpc.client import RPCAPI
from minova.rpc.control import ControlAPI
from minova.rpc.rollcall import RollCallAPI
from minova.rpc.versions import Pins, parse
from tests.unit.examples import example
from tests.unit.interfaces import INTERFACES, Interface, Method
from tests.unit.loopback import Loopback, Sent

METHODS = [(interface, name) for interface in INTERFACES for name in interface.history.since]

NEWER_FIELDS = {"conductor.boot_instance": ["1.3"], "conductor.live_migrate_instance": ["1.3"]}
"""Methods of which an older peer would leave out fields of an argument, if they are set."""

every_method = pytest.mark.parametrize(
    ("interface", "name"), METHODS, ids=[f"{interface.name}.{name}" for interface, name in METHODS]
)
every_interface = pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: interface.name)


def client_arguments(interface: Interface, name: str) -> dict[str, inspect.Parameter]:
    """Return what the client's method takes, but for the host that it is sent to."""
    arguments = interface.arguments(getattr(interface.client, name))
    if "host" not in interface.arguments(interface.exposed[name]):
        arguments.pop("host", None)
    return arguments


def send(loopback: Loopback, interface: Interface, name: str) -> Sent:
    """Call the client's method with examples of its arguments, and return the message, which may have been repeated."""
    api: RPCAPI
    if interface.client is ControlAPI:
        api = ControlAPI(loopback.conf, loopback.transport, "compute")
    elif interface.client is RollCallAPI:
        api = RollCallAPI(loopback.conf, loopback.transport)
    else:
        api = interface.client(loopback.conf, loopback.transport, Pins(loopback.conf, lambda _topic: None))
    method = getattr(api, name)
    hints = typing.get_type_hints(method)
    arguments = interface.arguments(getattr(interface.client, name))
    with contextlib.suppress(PeerSilent):
        method(RequestContext(), **{argument: example(hints[argument]) for argument in arguments})
    return loopback.sent[0]


def kinds(method: Method) -> dict[str, Any]:
    return typing.get_type_hints(method)


@every_method
def test_both_sides_have_it(interface: Interface, name: str) -> None:
    assert callable(getattr(interface.client, name))
    assert name in interface.exposed


@every_method
def test_arguments_have_the_same_names_in_the_same_order(interface: Interface, name: str) -> None:
    """An endpoint may take more: what clients of older versions send."""
    client, endpoint = list(client_arguments(interface, name)), list(interface.arguments(interface.exposed[name]))
    assert [argument for argument in endpoint if argument in client] == client


@every_method
def test_arguments_and_result_have_the_same_types(interface: Interface, name: str) -> None:
    client, endpoint = kinds(getattr(interface.client, name)), kinds(interface.exposed[name])
    added_later = {pair for release in interface.history.releases for pair in release.arguments}
    for argument in [*client_arguments(interface, name), "return"]:
        expected = client[argument] | None if (name, argument) in added_later else client[argument]
        assert endpoint[argument] == expected, argument


@every_method
def test_client_sends_what_the_endpoint_takes(loopback: Loopback, interface: Interface, name: str) -> None:
    endpoint = interface.arguments(interface.exposed[name])
    sent = send(loopback, interface, name)
    assert sent.message["method"] == name
    assert set(sent.args) == set(endpoint)


@every_method
def test_version_of_the_message_is_in_the_history(loopback: Loopback, interface: Interface, name: str) -> None:
    """It is the one that added the method or, if it has all its arguments, the last of them."""
    added = [release.version for release in interface.history.releases if name in dict(release.arguments)]
    added += NEWER_FIELDS.get(f"{interface.name}.{name}", [])
    assert send(loopback, interface, name).message["version"] == [interface.history.since[name], *added][-1]


@every_method
def test_docstring_of_the_client_leads_to_the_endpoint(interface: Interface, name: str) -> None:
    link = re.search(r":meth:`([\w.]+)`", str(getattr(interface.client, name).__doc__))
    assert link
    place, method = link[1].rsplit(".", 1)
    module, _dot, kind = place.rpartition(".")
    endpoint = getattr(importlib.import_module(module or interface.client.__module__), kind)
    assert endpoint in interface.endpoints
    assert getattr(endpoint, method) is interface.exposed[name]


@every_method
def test_docstring_of_the_client_tells_a_call_from_a_cast(loopback: Loopback, interface: Interface, name: str) -> None:
    says_call = str(getattr(interface.client, name).__doc__).startswith("Call ")
    says_cast = str(getattr(interface.client, name).__doc__).startswith("Cast to ")
    assert (says_call, says_cast) == ((True, False) if send(loopback, interface, name).call else (False, True))


@every_method
def test_what_is_cast_has_no_result(loopback: Loopback, interface: Interface, name: str) -> None:
    if not send(loopback, interface, name).call:
        assert kinds(interface.exposed[name])["return"] is type(None)


@every_method
def test_client_method_is_short(interface: Interface, name: str) -> None:
    assert len(inspect.getsource(getattr(interface.client, name)).splitlines()) <= 40


@every_interface
def test_history_has_every_exposed_method_once(interface: Interface) -> None:
    listed = [method for release in interface.history.releases for method in release.methods]
    assert sorted(listed) == sorted(interface.exposed)


@every_interface
def test_history_has_what_was_added_to_methods(interface: Interface) -> None:
    """What came later has a default, because older clients do not send it; what was there first has none."""
    added = {pair for release in interface.history.releases for pair in release.arguments}
    optional = {
        (name, argument.name)
        for name, method in interface.exposed.items()
        for argument in interface.arguments(method).values()
        if argument.default is not argument.empty
    }
    assert optional == added


@every_interface
def test_history_is_a_row_of_versions(interface: Interface) -> None:
    versions = [parse(release.version) for release in interface.history.releases]
    assert versions == [(versions[0][0], minor) for minor in range(len(versions))]
    assert all(release.summary.endswith(".") for release in interface.history.releases)


@every_interface
def test_endpoints_have_the_version_of_the_history(interface: Interface) -> None:
    assert {endpoint.target.version for endpoint in interface.endpoints} == {interface.history.version}


@every_interface
def test_clients_have_the_history(interface: Interface) -> None:
    assert interface.client.HISTORY is interface.history
