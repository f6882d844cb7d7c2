"""``minova-manage rpc``: what the services say to each other, and whether they answer."""

import abc
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cliff.lister import Lister

from minova.cli.base import Display, ListCommand, MinovaCommand, PartlyFailed
from minova.cli.columns import Cell, Columns, optional, row
from minova.cli.rollcall import ROLL_CALL, TOPICS, call_roll, pins_cell
from minova.exception import PeerError, ServiceNotFound
from minova.objects import Pong, Service, ServiceVersions
from minova.states import HostState

if TYPE_CHECKING:
    from minova.cli.connection import Connection
    from minova.cli.rpcmap import Method
    from minova.rpc.control import ControlAPI

T = TypeVar("T")

QUESTIONS = 16
"""Services that are asked at the same time: each that is gone costs the full time-out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked(Generic[T]):
    """A service that was asked something: it has answered, after some seconds, or there is an error."""

    service: Service
    answer: T | None = None
    error: PeerError | None = None
    seconds: float = 0.0


class _Survey(ListCommand[Asked[T]], Generic[T]):
    """Asks many services the same, and complains if one that is up does not answer."""

    @abc.abstractmethod
    def question(self, control: "ControlAPI", connection: "Connection", host: str) -> T:
        """Ask one service."""

    def ask(self, connection: "Connection", services: Iterable[Service]) -> list[Asked[T]]:
        """Ask them all."""

        def one(service: Service) -> Asked[T]:
            started = time.perf_counter()
            control = connection.control(service.binary.removeprefix("minova-"))
            try:
                answer = self.question(control, connection, service.host)
            except PeerError as error:
                return Asked(service=service, error=error)
            return Asked(service=service, answer=answer, seconds=time.perf_counter() - started)

        with ThreadPoolExecutor(QUESTIONS) as executor:
            asked = list(executor.map(one, services))
        self.complaint = _silent(sum(1 for each in asked if each.error and each.service.state is HostState.UP))
        return asked


def _silent(number: int) -> PartlyFailed | None:
    """Return the complaint about services that are up and did not answer."""
    return PartlyFailed(reason=f"{number} of the services that are up did not answer") if number else None


def _error(asked: Asked[Any]) -> Cell:
    return optional(asked.error.message if asked.error else None)


def _answer_ms(asked: Asked[Pong]) -> Cell:
    if asked.answer is None:
        return Cell(None, "no answer")
    milliseconds = round(asked.seconds * 1000, 1)
    return Cell(milliseconds, str(milliseconds))


PING: Columns[Asked[Pong]] = {
    "host": lambda item: item.service.host,
    "binary": lambda item: item.service.binary,
    "state": lambda item: item.service.state.value,
    "answer_ms": _answer_ms,
    "error": _error,
}


class Ping(_Survey[Pong]):
    """Ask every service whether it is there."""

    table = PING

    def arguments(self, parser: ArgumentParser) -> None:
        """Add what to select by."""
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--host", metavar="HOST", help="only the services on this host")
        which.add_argument("--all", action="store_true", help="all in one round, with versions, pins and what runs")

    def layout(self, parsed_args: Namespace) -> Columns[Any]:
        """Return the columns of a roll call, or of single pings."""
        return ROLL_CALL if parsed_args.all else PING

    def take_action(self, parsed_args: Namespace) -> tuple[Sequence[str], Iterable[Any]]:
        """Ping one by one, or call the roll."""
        if not parsed_args.all:
            return super().take_action(parsed_args)
        with self.app.connect() as connection:
            called, silent = call_roll(connection, self.app.conf.rpc.ping_timeout)
        self.complaint = _silent(silent)
        return tuple(ROLL_CALL), [row(ROLL_CALL, each) for each in called]

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> list[Asked[Pong]]:
        """Ping the services.

        :raises ServiceNotFound: there is none on the host.
        """
        services = connection.conductor.list_services(connection.ctxt)
        chosen = [service for service in services if parsed_args.host in (None, service.host)]
        if parsed_args.host and not chosen:
            raise ServiceNotFound(name=parsed_args.host)
        return self.ask(connection, chosen)

    def question(self, control: "ControlAPI", connection: "Connection", host: str) -> Pong:
        """Ping one."""
        return control.ping(connection.ctxt, host)


VERSIONS: Columns[Asked[ServiceVersions]] = {
    "host": lambda item: item.service.host,
    "binary": lambda item: item.service.binary,
    "state": lambda item: item.service.state.value,
    "release": lambda item: optional(item.answer.release if item.answer else None),
    "rpc_version": lambda item: item.answer.rpc_version if item.answer else item.service.rpc_version,
    "pins": lambda item: pins_cell(item.answer.pins if item.answer else ()),
    "error": _error,
}


class Versions(_Survey[ServiceVersions]):
    """Show what version every service speaks, and what it holds its messages to, and why.

    A service that is not up is not asked: its version is what it said last.
    """

    table = VERSIONS

    def fetch(self, connection: "Connection", parsed_args: Namespace) -> list[Asked[ServiceVersions]]:
        """Ask the services that are up, and list the others."""
        services = connection.conductor.list_services(connection.ctxt)
        up = [service for service in services if service.state is HostState.UP]
        return [*self.ask(connection, up), *(Asked(service=each) for each in services if each not in up)]

    def question(self, control: "ControlAPI", connection: "Connection", host: str) -> ServiceVersions:
        """Ask one."""
        return control.get_versions(connection.ctxt, host)


class Reset(MinovaCommand):
    """Have every service resolve its pins again, as SIGHUP does."""

    def take_action(self, parsed_args: Namespace) -> None:
        """Tell all of them at once."""
        with self.app.connect() as connection:
            for topic in TOPICS:
                connection.control(topic).reset(connection.ctxt)
        self.app.notify("all services were told to resolve their pins again; see them with: minova-manage rpc versions")


def _grown(method: "Method") -> Cell:
    return Cell(method.grown, ", ".join(f"{name} {version}" for name, version in method.grown.items()) or "-")


MAP: "Columns[Method]" = {
    "topic": lambda item: item.topic,
    "namespace": lambda item: optional(item.namespace),
    "method": lambda item: item.name,
    "since": lambda item: optional(item.since),
    "arguments_since": _grown,
    "kind": lambda item: optional(item.kind),
    "client": lambda item: optional(item.client_place),
    "endpoint": lambda item: optional(item.endpoint_place),
}


class Map(Display, Lister):
    """List every RPC method, with the code at both of its ends; needs no cluster."""

    table = MAP

    def take_action(self, parsed_args: Namespace) -> tuple[Sequence[str], Sequence[Any]]:
        """Gather the methods."""
        from minova.cli.rpcmap import gather, interfaces

        methods = [method for interface in interfaces() for method in gather(interface)]
        return tuple(self.table), [row(self.table, method) for method in methods]
