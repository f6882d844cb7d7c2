"""What a message has to look like before anything is done with it: whoever reaches the broker can send one."""

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

_LONGEST_NAME = 100
_LONGEST_USER = 255
_REQUEST_ID = re.compile(r"[\w.-]{1,64}", re.ASCII)
_VERSION = re.compile(r"\d{1,9}\.\d{1,9}", re.ASCII)


class MessageRefused(Exception):
    """A message that no client of minova's sends; its text says what is wrong with it."""


def check_message(message: Mapping[str, Any], ctxt: Mapping[str, Any], client_timeout: object, max_size: int) -> None:
    """Check what oslo.messaging takes on trust.

    :param ctxt: the context that came with it, which gets into the log and the database.
    :param client_timeout: after how many seconds of silence the caller gives up; 0 or None: it does not say.
    :param max_size: how many bytes of JSON a message may have.
    :raises MessageRefused: the message is too large, or its parts have wrong types.
    """
    _check_size(message, max_size)
    _check_values(message)
    _check_context(ctxt)
    method = message.get("method")
    if not isinstance(method, str) or not method.isidentifier() or len(method) > _LONGEST_NAME:
        raise MessageRefused(f"its method is {_shown(method)}, not a name")
    if not isinstance(message.get("args", {}), dict):
        raise MessageRefused("its arguments have no names")
    if not isinstance(message.get("namespace"), str | None):
        raise MessageRefused(f"its namespace is {_shown(message['namespace'])}, not a name")
    version = message.get("version", "1.0")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        raise MessageRefused(f"its version is {_shown(version)}, not such as 1.0")
    if not isinstance(client_timeout, int | float | None):
        raise MessageRefused(f"its time-out is {_shown(client_timeout)}, not a number")


def typed_arguments(method: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of an endpoint's method with the types that its annotations tell.

    :param method: the function, not bound to its endpoint.
    :param arguments: what came, with wire objects already made of it.
    :raises MessageRefused: one is missing, unknown, or of a wrong type.
    """
    signature, kinds = _declared(method)
    try:
        signature.bind(None, None, **arguments)
    except TypeError as error:
        raise MessageRefused(f"{method.__name__}: {error}") from None
    typed = {}
    for name, value in arguments.items():
        try:
            typed[name] = msgspec.convert(value, kinds.get(name, Any))
        except msgspec.ValidationError as error:
            raise MessageRefused(f"{method.__name__}: {name}: {error}") from None
    return typed


def _check_size(message: Mapping[str, Any], max_size: int) -> None:
    try:
        size = len(msgspec.json.encode(message))
    except (TypeError, ValueError, RecursionError) as error:
        raise MessageRefused(f"it is no proper JSON: {error}") from None
    if size > max_size:
        raise MessageRefused(f"it has {size} bytes, and [rpc] max_message_size is {max_size}")


def _check_context(ctxt: Mapping[str, Any]) -> None:
    request_id, user = ctxt.get("request_id"), ctxt.get("user", "")
    if request_id is not None and not (isinstance(request_id, str) and _REQUEST_ID.fullmatch(request_id)):
        raise MessageRefused(f"its request id is {_shown(request_id)}, not such as req-…")
    if not isinstance(user, str) or len(user) > _LONGEST_USER or not user.isprintable():
        raise MessageRefused(f"its user is {_shown(user)}, not a name")


def _check_values(value: object) -> None:
    """Refuse what JSON can say and databases cannot."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise MessageRefused("it holds a number of more than 64 bits")
    if isinstance(value, str) and "\0" in value:
        raise MessageRefused("it holds a NUL character")
    if isinstance(value, dict):
        for name, each in value.items():
            _check_values(name)
            _check_values(each)
    elif isinstance(value, list):
        for each in value:
            _check_values(each)


@functools.cache
def _declared(method: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Any]]:
    return inspect.signature(method), typing.get_type_hints(method, include_extras=True)


def _shown(value: object) -> str:
    """Return something from the wire fit for one line of a log."""
    return repr(value)[:80]
