"""The catalogue: every event that is ever told of. What is not in it cannot be sent."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from minova.notifications.payloads import (
    ExceptionPayload,
    InstanceActionPayload,
    InstanceUpdatePayload,
    MigrationPayload,
    Payload,
    ServicePayload,
)
from minova.states import MigrationStatus, Verb

COMPUTE_EXCEPTION = "compute.exception"
INSTANCE_UPDATE = "instance.update"
SERVICE_CREATE = "service.create"
SERVICE_UPDATE = "service.update"


class Phase(StrEnum):
    """Where an operation stands: each that started comes to one of the two ends."""

    START = "start"
    END = "end"
    ERROR = "error"


class Priority(StrEnum):
    """How urgent an event is: the last word of the topic that it goes to."""

    INFO = "info"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the catalogue.

    :ivar payload: the class of what it carries.
    :ivar when: when it is sent, for people.
    """

    priority: Priority
    payload: type[Payload]
    when: str


ACTION_WORDS: Mapping[Verb, str] = {
    Verb.BOOT: "create",
    Verb.DELETE: "delete",
    Verb.START: "power_on",
    Verb.STOP: "power_off",
    Verb.REBOOT: "reboot",
    Verb.HARD_REBOOT: "reboot",
    Verb.PAUSE: "pause",
    Verb.UNPAUSE: "unpause",
    Verb.LIVE_MIGRATE: "live_migration",
    Verb.MIGRATE: "migrate",
    Verb.EVACUATE: "evacuate",
    Verb.REBUILD: "rebuild",
}
"""What an operation is called in its events: Nova's words, so that both kinds of reboot share one (the payload's
``verb`` tells them apart). A live migration is told of as a whole, its stages as ``migration.*``; a cold migration is
no ``resize`` here, since it changes no size."""


def action_event(verb: Verb, phase: Phase) -> str:
    """Return the type of the event about an operation."""
    return f"instance.{ACTION_WORDS[verb]}.{phase}"


def migration_event(status: MigrationStatus) -> str:
    """Return the type of the event about a migration that has got this status."""
    return f"migration.{status}"


def _of_actions() -> Iterator[tuple[str, Event]]:
    for verb, word in ACTION_WORDS.items():
        name = " or ".join(f"`{other}`" for other, its in ACTION_WORDS.items() if its == word)
        whens = {
            Phase.START: f"{name} was accepted and stored: it will come to an end",
            Phase.END: f"{name} has succeeded",
            Phase.ERROR: f"{name} has failed or was cancelled; `status` and `error` tell",
        }
        for phase, when in whens.items():
            priority = Priority.ERROR if phase is Phase.ERROR else Priority.INFO
            yield action_event(verb, phase), Event(priority, InstanceActionPayload, when)


_MIGRATION_WHENS: Mapping[MigrationStatus, str] = {
    MigrationStatus.ACCEPTED: "a destination was chosen (again, if the one before refused)",
    MigrationStatus.PREPARING: "the destination is getting ready",
    MigrationStatus.QUEUED: "the source has others to move first",
    MigrationStatus.RUNNING: "the guest is being moved",
    MigrationStatus.COMPLETED: "the guest is at its destination",
    MigrationStatus.CANCELLED: "it was cancelled, and the guest is where it was",
    MigrationStatus.FAILED: "it failed and was undone: the guest is where it was",
    MigrationStatus.ERROR: "it failed and could not be undone: an operator has to look",
}


def _of_migrations() -> Iterator[tuple[str, Event]]:
    bad = (MigrationStatus.FAILED, MigrationStatus.ERROR)
    for status, when in _MIGRATION_WHENS.items():
        priority = Priority.ERROR if status in bad else Priority.INFO
        yield migration_event(status), Event(priority, MigrationPayload, when)


CATALOGUE: Mapping[str, Event] = {
    **dict(_of_actions()),
    INSTANCE_UPDATE: Event(
        Priority.INFO,
        InstanceUpdatePayload,
        "the state of an instance was changed by no operation: its host reported another one, or an operator reset it",
    ),
    **dict(_of_migrations()),
    SERVICE_CREATE: Event(Priority.INFO, ServicePayload, "a service has registered for the first time"),
    SERVICE_UPDATE: Event(
        Priority.INFO,
        ServicePayload,
        "a service was started anew, or an operator has enabled, disabled, fenced or drained it; `change` tells",
    ),
    COMPUTE_EXCEPTION: Event(
        Priority.ERROR,
        ExceptionPayload,
        "an operation met an error that nobody expected, on a compute or in a conductor",
    ),
}
"""Event type to what it is."""


@dataclass(frozen=True, slots=True)
class Notification:
    """One event that has happened.

    :raises ValueError: there is no such event in the catalogue.
    :raises TypeError: it carries another class of payload.
    """

    event_type: str
    payload: Payload

    def __post_init__(self) -> None:
        event = CATALOGUE.get(self.event_type)
        if event is None:
            raise ValueError(f"no such event: {self.event_type}")
        if type(self.payload) is not event.payload:
            given = type(self.payload).__name__
            raise TypeError(f"{self.event_type} carries {event.payload.__name__}, not {given}")

    @property
    def priority(self) -> Priority:
        """How urgent it is."""
        return CATALOGUE[self.event_type].priority
