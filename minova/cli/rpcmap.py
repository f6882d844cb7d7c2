"""Every RPC method with both of its ends: what the client sends, and what runs at the other side of the queue."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import minova
from minova.rpc.client import RPCAPI
from minova.rpc.versions import History

ROOT = Path(minova.__file__).parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A client and the endpoints that serve it.

    :ivar endpoints: topic, or ``every``, to the class that serves it there.
    """

    client: type[RPCAPI]
    endpoints: Mapping[str, type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One RPC method. What is None is missing, which is a mistake.

    :ivar since: the version that added it.
    :ivar grown: argument to the version that added it later.
    :ivar kind: ``call`` or ``cast``.
    :ivar client: the client's function.
    :ivar endpoint: the endpoint's function.
    """

    topic: str
    namespace: str | None
    name: str
    since: str | None
    grown: dict[str, str]
    kind: str | None
    client: Callable[..., Any] | None
    endpoint: Callable[..., Any] | None

    @property
    def client_place(self) -> str | None:
        """``file:line`` of the client's function."""
        return place(self.client)

    @property
    def endpoint_place(self) -> str | None:
        """``file:line`` of the endpoint's function."""
        return place(self.endpoint)


def interfaces() -> tuple[Interface, ...]:
    """Return all interfaces of minova."""
    from minova.compute.manager import ComputeManager
    from minova.compute.rpcapi import ComputeAPI
    from minova.conductor.manager import ConductorManager
    from minova.conductor.rpcapi import ConductorAPI
    from minova.rpc.control import ControlAPI, ControlEndpoint, LowestVersionEndpoint
    from minova.rpc.rollcall import RollCall, RollCallAPI

    return (
        Interface(client=ConductorAPI, endpoints={ConductorAPI.TOPIC: ConductorManager}),
        Interface(client=ComputeAPI, endpoints={ComputeAPI.TOPIC: ComputeManager}),
        Interface(client=ControlAPI, endpoints={"every": ControlEndpoint, ConductorAPI.TOPIC: LowestVersionEndpoint}),
        Interface(client=RollCallAPI, endpoints={RollCallAPI.TOPIC: RollCall}),
    )


def gather(interface: Interface) -> Iterator[Method]:
    """Yield every method that the history, the client or an endpoint of ``interface`` knows, by name."""
    history = interface.client.HISTORY
    served = _served(interface)
    sent = {name: function for name, function in _functions(interface.client) if _kind(function)}
    for name in sorted({*history.since, *served, *sent}):
        topic, endpoint = served.get(name, (next(iter(interface.endpoints)), None))
        yield Method(
            topic=topic,
            namespace=interface.client.NAMESPACE,
            name=name,
            since=history.since.get(name),
            grown=_grown(history, name),
            kind=_kind(sent[name]) if name in sent else None,
            client=sent.get(name),
            endpoint=endpoint,
        )


def place(function: Callable[..., Any] | None) -> str | None:
    """Return ``file:line`` of a function's definition, from the folder that holds the package."""
    if function is None:
        return None
    lines, first = inspect.getsourcelines(function)
    decorators = next(index for index, line in enumerate(lines) if line.lstrip().startswith("def "))
    path = Path(inspect.getsourcefile(function) or "").relative_to(ROOT)
    return f"{path}:{first + decorators}"


def _functions(owner: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name, function in inspect.getmembers(owner, inspect.isfunction):
        if not name.startswith("_"):
            yield name, function


def _served(interface: Interface) -> dict[str, tuple[str, Callable[..., Any]]]:
    return {
        name: (topic, function)
        for topic, endpoint in interface.endpoints.items()
        for name, function in _functions(endpoint)
        if getattr(function, "exposed", False)
    }


def _kind(function: Callable[..., Any]) -> str | None:
    """Return what a client's method says that it does: the first word of its docstring is ``Call`` or ``Cast``."""
    first = (inspect.getdoc(function) or "").partition(" ")[0].lower()
    return first if first in ("call", "cast") else None


def _grown(history: History, name: str) -> dict[str, str]:
    return {
        argument: release.version
        for release in history.releases
        for method, argument in release.arguments
        if method == name
    }
