"""Minova's RPC interfaces as their two sides define them."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minova.compute import rpcapi as compute_rpcapi
from minova.compute.manager import ComputeManager
from minova.conductor import rpcapi as conductor_rpcapi
from minova.conductor.manager import ConductorManager
from minova.rpc import control, rollcall
from minova.rpc.client import RPCAPI
from minova.rpc.versions import History

Method = Callable[..., Any]


@dataclass(frozen=True)
class Interface:
    """One interface: its client, its endpoints, and its versions."""

    name: str
    client: type[RPCAPI]
    endpoints: tuple[type[Any], ...]
    history: History

    @property
    def exposed(self) -> dict[str, Method]:
        """Return every method that can be called from afar."""
        return {
            name: method
            for endpoint in self.endpoints
            for name, method in inspect.getmembers(endpoint, inspect.isfunction)
            if hasattr(method, "exposed")
        }

    def arguments(self, method: Method) -> dict[str, inspect.Parameter]:
        """Return the arguments of a method of either side, without self and the context."""
        parameters = dict(inspect.signature(method).parameters)
        assert list(parameters)[:2] == ["self", "ctxt"]
        return {name: parameters[name] for name in list(parameters)[2:]}


INTERFACES = (
    Interface("compute", compute_rpcapi.ComputeAPI, (ComputeManager,), compute_rpcapi.HISTORY),
    Interface("conductor", conductor_rpcapi.ConductorAPI, (ConductorManager,), conductor_rpcapi.HISTORY),
    Interface("control", control.ControlAPI, (control.ControlEndpoint, control.LowestVersionEndpoint), control.HISTORY),
    Interface("rollcall", rollcall.RollCallAPI, (rollcall.RollCall,), rollcall.HISTORY),
)
