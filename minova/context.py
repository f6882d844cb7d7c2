"""The request context: who asked, and the id by which all logs of one request are found."""

from typing import Any, Self

from oslo_context import context


class RequestContext(context.RequestContext):
    """oslo.context's, with only what minova uses: a request id and the name of the user."""

    def __init__(self, *, user: str = "", request_id: str | None = None) -> None:
        """Make a context and make it this thread's, so that log lines carry its request id.

        :param user: who asked, for the record; minova has no notion of rights.
        :param request_id: of the request that this belongs to; None: a new request.
        """
        super().__init__(user_id=user, request_id=request_id)

    def to_dict(self) -> dict[str, Any]:
        """Return what travels with a message."""
        return {"user": self.user_id or "", "request_id": self.request_id}

    @classmethod
    def from_dict(cls, values: dict[str, Any], **_overrides: Any) -> Self:
        """Return the context that came with a message, and make it this thread's."""
        return cls(user=str(values.get("user", "")), request_id=values.get("request_id"))


def service_context() -> RequestContext:
    """Return a new context for what a service does of its own accord."""
    return RequestContext(user="minova")
