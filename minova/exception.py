"""Every error that minova raises on purpose.

An error has fields, which cross the wire with it, and makes its message from them::

    MinovaError
    ├── InvalidInput                 the request itself makes no sense
    ├── ConfigurationError           a file or option of the operator's is wrong
    ├── NotFound
    │   ├── InstanceNotFound, HostNotFound, ServiceNotFound, ActionNotFound, MigrationNotFound, ImageNotFound
    ├── AmbiguousName                a name that several instances bear
    ├── Conflict                     right request, wrong moment
    │   ├── InvalidState, InstanceBusy, NoGuest, NotCancellable, NotForceable,
    │   ├── HostNotFenced, HostAlive, HostEvacuating, PlaceUnclear, ImageExists
    ├── NoValidHost                  no host has room
    ├── HostUnusable                 the host that was asked for will not do
    ├── DatabaseError                unreadable, not migrated, or newer than this program
    │   └── ActionUnknown            an action of another release
    ├── BrokerUnreachable            transport_url leads nowhere
    ├── PeerError
    │   ├── PeerTooOld               a pinned peer cannot serve the request
    │   ├── PeerSilent               no answer in time
    │   └── ServiceFault             a peer met an error it did not expect
    └── DriverError                  the hypervisor could not do it
        ├── GuestNotFound, InsufficientResources, MigrationAborted, MigrationFailed, OperationRefused
"""

from dataclasses import dataclass, fields
from typing import Any


@dataclass(eq=False, kw_only=True)
class MinovaError(Exception):
    """Base of all; subclasses are dataclasses whose fields are JSON types, and define :attr:`message`."""

    @property
    def kwargs(self) -> dict[str, Any]:
        """The fields by name: what oslo.messaging sends along, and builds the error from at the other side."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def message(self) -> str:
        """One line: what is wrong, and what to do."""
        return type(self).__name__

    def __str__(self) -> str:
        return self.message


@dataclass(eq=False, kw_only=True)
class InvalidInput(MinovaError):
    """An argument makes no sense."""

    reason: str

    @property
    def message(self) -> str:
        return self.reason


@dataclass(eq=False, kw_only=True)
class ConfigurationError(MinovaError):
    """A configuration file or option is wrong."""

    reason: str

    @property
    def message(self) -> str:
        return f"configuration: {self.reason}"


@dataclass(eq=False, kw_only=True)
class NotFound(MinovaError):
    """Something that was named does not exist."""

    name: str

    @property
    def message(self) -> str:
        kind = type(self).__name__.split("_")[0].removesuffix("NotFound").lower()
        return f"no such {kind}: {self.name}"


class InstanceNotFound(NotFound):
    """No instance has this name or UUID."""


class HostNotFound(NotFound):
    """No compute host has this name."""


class ServiceNotFound(NotFound):
    """No service of this kind is registered on this host."""


class ActionNotFound(NotFound):
    """No action has this id."""


class MigrationNotFound(NotFound):
    """No migration has this UUID."""


@dataclass(eq=False, kw_only=True)
class AmbiguousName(MinovaError):
    """Several instances bear the name."""

    name: str
    candidates: list[str]

    @property
    def message(self) -> str:
        listed = ", ".join(self.candidates)
        return f"{len(self.candidates)} instances are named {self.name}; use one of their UUIDs: {listed}"


class Conflict(MinovaError):
    """The request is sound, but not now."""


@dataclass(eq=False, kw_only=True)
class InvalidState(Conflict):
    """The state of the instance forbids the operation."""

    instance: str
    verb: str
    state: str
    allowed: list[str]
    """The verbs that are allowed in this state."""

    @property
    def message(self) -> str:
        allowed = ", ".join(self.allowed) or "nothing"
        return f"cannot {self.verb} instance {self.instance}: it is {self.state}; allowed now: {allowed}"


@dataclass(eq=False, kw_only=True)
class InstanceBusy(Conflict):
    """Another action runs on the instance."""

    instance: str
    task_state: str
    action: str

    @property
    def message(self) -> str:
        return (
            f"instance {self.instance} is busy ({self.task_state}, action {self.action}); "
            f"wait for it: action watch {self.action}"
        )


@dataclass(eq=False, kw_only=True)
class NoGuest(Conflict):
    """The instance never got a guest, so there is nothing to operate on."""

    instance: str

    @property
    def message(self) -> str:
        return f"instance {self.instance} has no guest on any host: delete it, and boot it again"


@dataclass(eq=False, kw_only=True)
class NotCancellable(Conflict):
    """The action is over, past the point of no return, or of a kind that ends by itself."""

    action: str
    reason: str

    @property
    def message(self) -> str:
        return f"cannot cancel action {self.action}: {self.reason}"


@dataclass(eq=False, kw_only=True)
class NotForceable(Conflict):
    """The migration is not copying memory now, so it cannot be forced to end."""

    migration: str
    status: str

    @property
    def message(self) -> str:
        return f"cannot force migration {self.migration} to complete: it is {self.status}, not running"


@dataclass(eq=False, kw_only=True)
class HostNotFenced(Conflict):
    """Evacuation needs certainty that the old host runs nothing."""

    host: str

    @property
    def message(self) -> str:
        return (
            f"host {self.host} is not fenced: make sure that it is off, "
            f"then say so with: service force-down {self.host}"
        )


@dataclass(eq=False, kw_only=True)
class HostAlive(Conflict):
    """A host that is said to be off has reported a moment ago."""

    host: str
    heard_ago: float
    """Seconds since it was heard."""
    down_time: float
    """Seconds of silence after which it counts as down."""

    @property
    def message(self) -> str:
        return (
            f"host {self.host} was heard {self.heard_ago:g} s ago, so its guests may still run: make sure that it is "
            f"off, and try again when it has been silent for {self.down_time:g} s"
        )


@dataclass(eq=False, kw_only=True)
class HostEvacuating(Conflict):
    """A host cannot come back while guests that may be there are being made anew elsewhere."""

    host: str
    action: str

    @property
    def message(self) -> str:
        return f"a guest of host {self.host} is being made anew elsewhere (action {self.action}): wait for its end"


@dataclass(eq=False, kw_only=True)
class NoValidHost(MinovaError):
    """No host passes all filters."""

    request: str
    refusals: dict[str, int]
    """Filter name to the number of hosts that it refused."""

    @property
    def message(self) -> str:
        if not self.refusals:
            return f"no host for {self.request}: no compute host is registered"
        why = ", ".join(f"{name} refused {count}" for name, count in self.refusals.items())
        return f"no host for {self.request}: {why}"


@dataclass(eq=False, kw_only=True)
class HostUnusable(MinovaError):
    """The one host that was asked for will not do."""

    host: str
    reason: str

    @property
    def message(self) -> str:
        return f"host {self.host} cannot be used: {self.reason}"


@dataclass(eq=False, kw_only=True)
class DatabaseError(MinovaError):
    """The database cannot be used as it is."""

    reason: str

    @property
    def message(self) -> str:
        return f"database: {self.reason}"


class ActionUnknown(DatabaseError):
    """Another release began the action, and this conductor cannot go on with it."""


class PeerError(MinovaError):
    """The other side of an RPC could not serve us."""


@dataclass(eq=False, kw_only=True)
class BrokerUnreachable(MinovaError):
    """The broker of ``transport_url`` cannot be reached."""

    reason: str
    option: str

    @property
    def message(self) -> str:
        return f"the broker cannot be reached ({self.reason}): does it run, and is {self.option} right?"


@dataclass(eq=False, kw_only=True)
class PeerTooOld(PeerError):
    """The pin in force is older than the method, and no fallback has the same meaning."""

    method: str
    needed: str
    pinned: str
    holder: str
    """The host that holds the pin, or the option that does."""

    @property
    def message(self) -> str:
        remedy = f"upgrade {self.holder} first" if self.holder.startswith("host ") else "lift that pin"
        return f"{self.method} needs RPC version {self.needed}, but {self.holder} holds it at {self.pinned}: {remedy}"


@dataclass(eq=False, kw_only=True)
class PeerSilent(PeerError):
    """No answer came in time."""

    peer: str
    seconds: float
    """How long was waited."""

    @property
    def message(self) -> str:
        return f"{self.peer} did not answer within {self.seconds:g} s"


@dataclass(eq=False, kw_only=True)
class ServiceFault(PeerError):
    """A peer met an error that it did not expect; its log has the traceback."""

    service: str
    method: str
    kind: str
    reason: str
    request_id: str

    @property
    def message(self) -> str:
        return f"{self.service} failed in {self.method}: {self.kind}: {self.reason} (its log has {self.request_id})"


class DriverError(MinovaError):
    """The hypervisor could not do what was asked."""


@dataclass(eq=False, kw_only=True)
class GuestNotFound(DriverError):
    """The host has no such guest."""

    uuid: str
    host: str

    @property
    def message(self) -> str:
        return f"host {self.host} has no guest {self.uuid}"


@dataclass(eq=False, kw_only=True)
class InsufficientResources(DriverError):
    """The host refuses a guest; another host may take it."""

    host: str
    reason: str

    @property
    def message(self) -> str:
        return f"host {self.host} refuses the guest: {self.reason}"


@dataclass(eq=False, kw_only=True)
class MigrationAborted(DriverError):
    """Somebody aborted the migration; the guest is at the source."""

    uuid: str

    @property
    def message(self) -> str:
        return f"the migration of {self.uuid} was aborted"


@dataclass(eq=False, kw_only=True)
class MigrationFailed(DriverError):
    """The guest could not be moved; it is at the source."""

    uuid: str
    reason: str

    @property
    def message(self) -> str:
        return f"the migration of {self.uuid} failed: {self.reason}"


@dataclass(eq=False, kw_only=True)
class OperationRefused(DriverError):
    """The hypervisor, or a failure injected into the fake one, refuses an operation."""

    host: str
    operation: str
    reason: str

    @property
    def message(self) -> str:
        return f"{self.operation} on host {self.host}: {self.reason}"


EXCHANGED_MODULES = ("minova.exception", "minova.exception_images", "minova.exception_moves")
"""The modules whose errors a peer may send us by type (``allowed_remote_exmods``)."""
