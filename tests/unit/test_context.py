"""The context of a request."""

import threading

from oslo_context import context

from minova.context import RequestContext, service_context


def test_each_request_has_its_own_id() -> None:
    first, second = RequestContext(), RequestContext()
    assert first.request_id != second.request_id
    assert first.request_id.startswith("req-")


def test_round_trip() -> None:
    sent = RequestContext(user="someone")
    received = RequestContext.from_dict(sent.to_dict())
    assert (received.user_id, received.request_id) == ("someone", sent.request_id)


def test_what_travels_is_no_more_than_needed() -> None:
    assert set(RequestContext(user="someone").to_dict()) == {"user", "request_id"}


def test_what_a_newer_peer_adds_is_ignored() -> None:
    received = RequestContext.from_dict({"user": "someone", "request_id": "req-1", "project": "x"})
    assert received.request_id == "req-1"


def test_a_peer_that_says_nothing_gets_a_new_id() -> None:
    received = RequestContext.from_dict({})
    assert received.user_id == ""
    assert received.request_id.startswith("req-")


def test_it_is_the_threads_own() -> None:
    mine = RequestContext()
    seen: list[object] = []
    thread = threading.Thread(target=lambda: seen.append(context.get_current()))
    thread.start()
    thread.join()
    assert context.get_current() is mine
    assert seen == [None]


def test_services_have_a_name() -> None:
    assert service_context().user_id == "minova"
