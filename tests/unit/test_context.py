"""The context of a request."""

import threading

import pytest
from oslo_context import context

from minova.context import FreshContextPool, RequestContext, current_context, service_context, working_for


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


def test_work_for_another_request_is_over_when_it_ends() -> None:
    other, mine = RequestContext(), RequestContext()
    with working_for(other):
        assert current_context() is other
    assert current_context() is mine


def test_context_that_is_only_carried_leaves_the_threads_alone() -> None:
    mine = RequestContext()
    carried = RequestContext(request_id="req-1", overwrite=False)
    assert carried.request_id == "req-1"
    assert current_context() is mine


def test_pool_forgets_what_a_thread_worked_for() -> None:
    def work() -> tuple[str, str]:
        return current_context().request_id, RequestContext().request_id

    mine = RequestContext().request_id
    with FreshContextPool(1) as pool:
        seen = [pool.submit(work).result() for _ in range(2)]
    ids = [mine, *seen[0], *seen[1]]
    assert len(set(ids)) == len(ids)


def test_it_may_name_the_action_that_is_asked_for() -> None:
    named = RequestContext(user="someone").naming("0f6b4c1e-7d1b-4a57-9d4e-5a8c7a0b8f11")
    received = RequestContext.from_dict(named.to_dict())
    assert received.to_dict() == named.to_dict()


@pytest.mark.parametrize("name", [7, "web", "0f6b4c1e", ["0f6b4c1e-7d1b-4a57-9d4e-5a8c7a0b8f11"], None])
def test_a_name_that_is_none_is_ignored(name: object) -> None:
    assert RequestContext.from_dict({"action_id": name}).action_id is None
