"""The guests of one host: which there are, and their power.

Whose domain runs here, is here. One that is shut down is here if its folder says so, or if it has none: see
:mod:`minova.virt.libvirt.storage`.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import libvirt

from minova.exception import GuestNotFound, OperationRefused
from minova.objects import Guest
from minova.states import PowerState
from minova.virt.libvirt.addresses import Addresses
from minova.virt.libvirt.connection import Connection
from minova.virt.libvirt.domain_xml import NAMESPACE, Marked, definition_name
from minova.virt.libvirt.storage import Storage

LOG = logging.getLogger(__name__)

T = TypeVar("T")

POWER_STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: PowerState.NOSTATE,
    libvirt.VIR_DOMAIN_RUNNING: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    # It is about to be off, and is not yet.
    libvirt.VIR_DOMAIN_SHUTDOWN: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_SHUTOFF: PowerState.SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.CRASHED,
    # Its memory stays: it does not run on until it is woken.
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.PAUSED,
}

_MAY_BE_ARRIVING = {
    libvirt.VIR_DOMAIN_PAUSED: (
        libvirt.VIR_DOMAIN_PAUSED_UNKNOWN,
        libvirt.VIR_DOMAIN_PAUSED_STARTING_UP,
        libvirt.VIR_DOMAIN_PAUSED_MIGRATION,
        libvirt.VIR_DOMAIN_PAUSED_POSTCOPY,
        libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED,
    ),
    libvirt.VIR_DOMAIN_RUNNING: (
        libvirt.VIR_DOMAIN_RUNNING_UNKNOWN,
        libvirt.VIR_DOMAIN_RUNNING_UNPAUSED,
        libvirt.VIR_DOMAIN_RUNNING_MIGRATED,
        libvirt.VIR_DOMAIN_RUNNING_POSTCOPY,
        libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED,
    ),
}
"""States of a guest that is being live-migrated to here, and the reasons for them; others have them too."""

_FAILED = [libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_FAILED]

_NOT_OURS = (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN)

_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)

_LOOK_SECONDS = 0.1
_ASK_AGAIN_SECONDS = 5.0
"""A guest that has only begun to boot does not hear the first time."""


class Guests:
    """The domains of one host that are minova's; no other is ever looked at twice."""

    def __init__(self, connection: Connection, storage: Storage, host: str) -> None:
        self._connection = connection
        self._storage = storage
        self._host = host
        self._addresses = Addresses()
        self._definitions = threading.Lock()

    def all(self) -> tuple[Guest, ...]:
        """Return every guest of this host, by UUID."""

        def look(connection: libvirt.virConnect) -> dict[str, Guest]:
            domains = [domain for domain in connection.listAllDomains() if _marked(domain) is not None]
            # The folders last: a guest that is removed meanwhile loses its domain first.
            found = {domain.UUIDString(): self._look(domain) for domain in domains}
            moved_here = {uuid: self._without_domain(uuid) for uuid in self._storage.owned() if uuid not in found}
            return {uuid: guest for uuid, guest in (found | moved_here).items() if guest is not None}

        guests = self._connection.run("list_guests", look)
        return tuple(guests[uuid] for uuid in sorted(guests))

    def find(self, uuid: str) -> Guest | None:
        """Return a guest, or None if this host does not have it."""

        def look(connection: libvirt.virConnect) -> Guest | None:
            domain = find_domain(connection, uuid)
            if domain is not None:
                return self._look(domain)
            return self._without_domain(uuid)

        return self._connection.run("get_guest", look)

    def require(self, uuid: str) -> Guest:
        """Return a guest. :raises GuestNotFound:"""
        guest = self.find(uuid)
        if guest is None:
            raise GuestNotFound(uuid=uuid, host=self._host)
        return guest

    def sizes(self) -> dict[str, Marked]:
        """Return what is given to guests of which there are domains here, by UUID."""

        def look(connection: libvirt.virConnect) -> dict[str, Marked]:
            marked = {domain.UUIDString(): _marked(domain) for domain in connection.listAllDomains()}
            return {uuid: sizes for uuid, sizes in marked.items() if sizes is not None}

        return self._connection.run("spawn", look)

    def has_domain(self, uuid: str) -> bool:
        """Return whether a guest is here, and has a domain."""

        def look(connection: libvirt.virConnect) -> bool:
            domain = find_domain(connection, uuid)
            return domain is not None and self._look(domain) is not None

        return self._connection.run("get_guest", look)

    def is_arriving(self, uuid: str) -> bool:
        """Return whether a guest has a domain here, and is not here yet."""

        def look(connection: libvirt.virConnect) -> bool:
            domain = find_domain(connection, uuid)
            return domain is not None and self._look(domain) is None and find_domain(connection, uuid) is not None

        return self._connection.run("get_guest", look)

    def gone_to(self, uuid: str) -> str | None:
        """Return the host to which a guest was live-migrated without anybody having written that down."""

        def look(connection: libvirt.virConnect) -> str | None:
            domain = find_domain(connection, uuid)
            if domain is not None:
                self._look(domain)
                return None
            return self._gone_to(uuid)

        return self._connection.run("destroy", look)

    def define(self, uuid: str, xml: str) -> None:
        """Make a guest's domain, unless there is one."""
        self._storage.keep_definition(uuid, xml)
        self._connection.run("spawn", lambda connection: self._define(connection, uuid))

    def start(self, uuid: str) -> None:
        """Let a guest run, whatever its state."""

        def work(domain: libvirt.virDomain) -> None:
            state, _reason = domain.state()
            if state == libvirt.VIR_DOMAIN_PAUSED:
                domain.resume()
            elif state == libvirt.VIR_DOMAIN_PMSUSPENDED:
                domain.pMWakeup()
            elif not domain.isActive():
                self._storage.prepare_console(uuid)
                domain.create()

        self.on_domain("power_on", uuid, work)

    def stop(self, uuid: str, patience: float) -> None:
        """Have a guest shut itself down, and see to it after ``patience`` seconds; its domain may be gone."""
        gives_up_at, asks_at, asking = time.monotonic() + patience, 0.0, None
        while (now := time.monotonic()) < gives_up_at and self._runs(uuid):
            if now >= asks_at and (asking is None or not asking.is_alive()):
                asks_at, asking = now + _ASK_AGAIN_SECONDS, self._ask_to_shut_down(uuid)
            time.sleep(_LOOK_SECONDS)
        self.cut_off(uuid)

    def cut_off(self, uuid: str) -> None:
        """Take the power from a guest, if there is one."""

        def work(connection: libvirt.virConnect) -> None:
            domain = find_domain(connection, uuid)
            # One that has been handed over is forgotten by whoever looks at it first.
            with taking_for_done(libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN):
                if domain is not None and domain.isActive():
                    domain.destroy()

        self._connection.run("power_off", work)

    def pause(self, uuid: str) -> None:
        """Freeze a guest that runs."""
        self.on_domain("pause", uuid, lambda domain: domain.suspend())

    def forget(self, uuid: str) -> None:
        """Take the power from a guest and remove its domain, if there is one."""
        self.cut_off(uuid)

        def work(connection: libvirt.virConnect) -> None:
            domain = find_domain(connection, uuid)
            if domain is not None:
                with taking_for_done(libvirt.VIR_ERR_NO_DOMAIN):
                    domain.undefineFlags(_UNDEFINE)

        self._connection.run("destroy", work)

    def on_domain(self, operation: str, uuid: str, work: Callable[[libvirt.virDomain], T]) -> T:
        """Return what ``work`` does with a guest's domain. :raises GuestNotFound: there is none."""
        return self._connection.run(operation, lambda connection: work(self._define(connection, uuid)))

    def _ask_to_shut_down(self, uuid: str) -> threading.Thread:
        """Have a guest's power button pressed, and wait for nothing: a hypervisor that hangs never answers."""
        thread = threading.Thread(target=_press_power_button, args=(self._connection.uri, uuid), daemon=True)
        thread.start()
        return thread

    def _runs(self, uuid: str) -> bool:
        def look(connection: libvirt.virConnect) -> bool:
            domain, state = find_domain(connection, uuid), None
            with taking_for_done(libvirt.VIR_ERR_NO_DOMAIN):
                state = domain.state()[0] if domain is not None else None
            return POWER_STATES.get(state) is PowerState.RUNNING

        return self._connection.run("power_off", look)

    def _define(self, connection: libvirt.virConnect, uuid: str) -> libvirt.virDomain:
        """Return a guest's domain; if it has moved here without one, make it as it was there."""
        with self._definitions:
            domain = find_domain(connection, uuid)
            if domain is not None:
                return domain
            definition = self._storage.definition(uuid)
            if definition is None or not self._owns(uuid) or self._gone_to(uuid) is not None:
                raise GuestNotFound(uuid=uuid, host=self._host)
            # To define it would change the other's.
            if _lookup(connection, uuid) is not None:
                raise self._connection.refusal("spawn", f"libvirt has a domain {uuid} that is not minova's")
            return connection.defineXML(definition)

    def _look(self, domain: libvirt.virDomain) -> Guest | None:
        """Return the guest of a domain, or None if another host has it."""
        try:
            marked, uuid, (state, reason) = _marked(domain), domain.UUIDString(), domain.state()
            if domain.isActive():
                # Of one that this host owns nothing is asked that a hypervisor that hangs would keep waiting.
                if marked is None or (self._known_owner(uuid) != self._host and _is_arriving(domain, state, reason)):
                    return None
                self._claim(domain, uuid)
                addresses = self._addresses.of(domain)
            elif marked is None or self._has_left(domain, uuid):
                return None
            else:
                addresses = ()
        except libvirt.libvirtError as error:
            if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return None
            raise
        power_state = POWER_STATES.get(state, PowerState.NOSTATE)
        return Guest(uuid=uuid, name=marked.name, power_state=power_state, addresses=addresses)

    def _without_domain(self, uuid: str) -> Guest | None:
        """Return a guest that another host has handed over, and that has no domain yet; None: it is another host's."""
        if not self._owns(uuid) or self._gone_to(uuid) is not None:
            return None
        definition = self._storage.definition(uuid)
        name = definition_name(definition) if definition is not None else ""
        return Guest(uuid=uuid, name=name or uuid, power_state=PowerState.SHUTDOWN)

    def _owns(self, uuid: str) -> bool:
        return self._storage.owner(uuid) == self._host

    def _known_owner(self, uuid: str) -> str | None:
        """Return who owns a guest that has a domain here; None: nobody, or it cannot be read, and libvirt decides."""
        try:
            return self._storage.owner(uuid)
        except OperationRefused as error:
            LOG.warning("Whose guest %s is cannot be read: %s", uuid, error.reason)
            return None

    def _gone_to(self, uuid: str) -> str | None:
        """Return where a guest without a domain here is, if libvirt has moved it while no compute looked."""
        successor = self._storage.successor(uuid)
        if successor is None or not self._owns(uuid) or not self._storage.shares_with(successor):
            return None
        return successor

    def _claim(self, domain: libvirt.virDomain, uuid: str) -> None:
        """Write down that a guest has come here, if nobody has done so; its domain is defined just before."""
        # What cannot be written now is when somebody looks again.
        with suppress(OperationRefused):
            if self._storage.expected_from(uuid) is not None and domain.isPersistent():
                self._storage.hand_over(uuid, self._host)
            elif self._storage.successor(uuid) == self._host:
                # To be given back: if the source never heard that it has come, it runs on there, on the same disk.
                self._storage.take(uuid)

    def _has_left(self, domain: libvirt.virDomain, uuid: str) -> bool:
        """Return whether another host has a guest whose domain is shut off; then no domain of it is needed here."""
        with self._definitions:
            if not self._failed_to_come(domain, uuid):
                self._claim(domain, uuid)
                owner = self._known_owner(uuid)
                if owner is None or not self._storage.shares_with(owner) or domain.isActive():
                    return False
                if self._storage.successor(uuid) == self._host:
                    # It has come, and that could not be written down.
                    return False
            with taking_for_done(libvirt.VIR_ERR_NO_DOMAIN):
                domain.undefineFlags(_UNDEFINE)
            self._storage.remove_console(uuid)
            return True

    def _failed_to_come(self, domain: libvirt.virDomain, uuid: str) -> bool:
        """Return whether a live migration to here failed at its very end: its source has the guest, as it knows."""
        if domain.state() != _FAILED:
            return False
        # One whose files cannot be read is where its domain is.
        with suppress(OperationRefused):
            awaited = self._storage.owner(uuid) is None and self._storage.expected_from(uuid) is not None
            return awaited or self._storage.successor(uuid) == self._host
        return False


def find_domain(connection: libvirt.virConnect, uuid: str) -> libvirt.virDomain | None:
    """Return a guest's domain, or None if there is none of minova's."""
    domain = _lookup(connection, uuid)
    return domain if domain is not None and _marked(domain) is not None else None


@contextmanager
def taking_for_done(*codes: int) -> Iterator[None]:
    """Take errors of these codes for success: what was to be done is done."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() not in codes:
            raise


def _lookup(connection: libvirt.virConnect, uuid: str) -> libvirt.virDomain | None:
    try:
        return connection.lookupByUUIDString(uuid)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise


def _marked(domain: libvirt.virDomain) -> Marked | None:
    """Return what a domain says of its instance, or None if it is not minova's."""
    try:
        return Marked.parse(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE))
    except libvirt.libvirtError as error:
        if error.get_error_code() in _NOT_OURS:
            return None
        raise


def _is_arriving(domain: libvirt.virDomain, state: int, reason: int) -> bool:
    """Return whether a live migration to here is under way: until its end the source has the guest."""
    if reason not in _MAY_BE_ARRIVING.get(state, ()):
        return False
    try:
        # Whoever asks for the job of a guest waits for a hypervisor that hangs, as does who is before him.
        if domain.controlInfo()[0] != libvirt.VIR_DOMAIN_CONTROL_OCCUPIED:
            domain.jobInfo()
            return False
    except libvirt.libvirtError as error:
        # Of a migration to here libvirt tells nothing.
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_UNSUPPORTED:
            return True
    # What arrives is defined before the hypervisor is told to let it run, which may fail.
    return not domain.isPersistent() or state == libvirt.VIR_DOMAIN_PAUSED


def _press_power_button(uri: str, uuid: str) -> None:
    # A guest that does not listen, or has gone meanwhile, is what the patience is for. On a connection of its own: of
    # one, libvirtd hears but a few requests at once.
    with suppress(libvirt.libvirtError):
        connection = libvirt.open(uri)
        connection.lookupByUUIDString(uuid).shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
