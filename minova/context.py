"""The request context: who asked, and the id by which all logs of one request are found.

A thread logs with the request id of the context that was last made or taken up in it. So whoever hands work to another
thread hands the context over too, and a thread that serves one request after the other begins each with a new one.
"""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, ParamSpec, Self, TypeVar
from uuid import UUID

from oslo_context import context

_P = ParamSpec("_P")
_T = TypeVar("_T")


class RequestContext(context.RequestContext):
    """oslo.context's, with only what minova uses: a request id and the name of the user."""

    def __init__(
        self,
        *,
        user: str = "",
        request_id: str | None = None,
        action_id: str | None = None,
        overwrite: bool = True,
    ) -> None:
        """Make a context and make it this thread's, so that log lines carry its request id.

        :param user: who asked, for the record; minova has no notion of rights.
        :param request_id: of the request that this belongs to; None: a new request.
        :param action_id: a UUID for the action that the message asks for, so that a repetition is known as such; None:
            the conductor makes one.
        :param overwrite: make it this thread's even if the thread has one.
        """
        super().__init__(user_id=user, request_id=request_id, overwrite=overwrite)
        self.action_id = action_id

    def naming(self, action_id: str) -> Self:
        """Return the context of a message that asks for an action, which gets this id."""
        return type(self)(user=self.user_id or "", request_id=self.request_id, action_id=action_id, overwrite=False)

    def to_dict(self) -> dict[str, Any]:
        """Return what travels with a message."""
        named = {"action_id": self.action_id} if self.action_id else {}
        return {"user": self.user_id or "", "request_id": self.request_id, **named}

    @classmethod
    def from_dict(cls, values: dict[str, Any], **_overrides: Any) -> Self:
        """Return the context that came with a message, and make it this thread's."""
        user, action_id = str(values.get("user", "")), _uuid(values.get("action_id"))
        return cls(user=user, request_id=values.get("request_id"), action_id=action_id)


def _uuid(value: object) -> str | None:
    """Return a UUID in its usual form, or None for what is none."""
    try:
        return str(UUID(value)) if isinstance(value, str) else None
    except ValueError:
        return None


def service_context() -> RequestContext:
    """Return a new context for what a service does of its own accord."""
    return RequestContext(user="minova")


def current_context() -> RequestContext:
    """Return the context of what this thread works on; if there is none, a new one of the service's own."""
    current = context.get_current()
    return current if isinstance(current, RequestContext) else service_context()


@contextmanager
def working_for(ctxt: RequestContext) -> Iterator[None]:
    """Let this thread log with the request id of ``ctxt``, and afterwards with the one that it had before."""
    before = context.get_current()
    ctxt.update_store()
    try:
        yield
    finally:
        (before or service_context()).update_store()


class FreshContextPool(ThreadPoolExecutor):
    """Threads that begin each piece of work with a new context: nothing is logged with the id of an earlier one."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Have a thread call ``fn``."""
        return super().submit(_afresh, functools.partial(fn, *args, **kwargs))


def _afresh(work: Callable[[], _T]) -> _T:
    service_context()
    return work()
