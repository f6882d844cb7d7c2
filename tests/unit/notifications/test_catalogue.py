"""Only what is in the catalogue can be told, and the catalogue has all that happens."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest

from minova.notifications.catalogue import (
    CATALOGUE,
    COMPUTE_EXCEPTION,
    SERVICE_UPDATE,
    Notification,
    Phase,
    Priority,
    action_event,
    migration_event,
)
from minova.notifications.payloads import (
    PAYLOAD_TYPES,
    ExceptionPayload,
    InstanceActionPayload,
    MigrationPayload,
    ServicePayload,
)
from minova.states import MigrationStatus, Verb
from tests.unit.examples import example


def notifications() -> Iterator[Notification]:
    for name, event in CATALOGUE.items():
        yield Notification(name, example(event.payload))


@pytest.mark.parametrize("verb", Verb)
@pytest.mark.parametrize("phase", Phase)
def test_each_operation_has_its_events(verb: Verb, phase: Phase) -> None:
    event = CATALOGUE[action_event(verb, phase)]
    assert event.payload is InstanceActionPayload
    assert event.priority is (Priority.ERROR if phase is Phase.ERROR else Priority.INFO)
    assert f"`{verb}`" in event.when


@pytest.mark.parametrize("status", MigrationStatus)
def test_each_status_of_a_migration_has_its_event(status: MigrationStatus) -> None:
    event = CATALOGUE[migration_event(status)]
    assert event.payload is MigrationPayload
    assert (event.priority is Priority.ERROR) == (status in (MigrationStatus.FAILED, MigrationStatus.ERROR))


def test_words_are_novas() -> None:
    words = {"create", "delete", "power_on", "power_off", "reboot", "pause", "unpause", "rebuild", "evacuate"}
    assert {f"instance.{word}.start" for word in words} <= CATALOGUE.keys()
    assert CATALOGUE[COMPUTE_EXCEPTION].priority is Priority.ERROR


def test_names_have_novas_form() -> None:
    assert all(re.fullmatch(r"(instance\.\w+\.(start|end|error)|\w+\.\w+)", name) for name in CATALOGUE)


def test_every_payload_is_used() -> None:
    assert {event.payload for event in CATALOGUE.values()} == set(PAYLOAD_TYPES)


@pytest.mark.parametrize("notification", list(notifications()), ids=lambda each: each.event_type)
def test_what_is_in_the_catalogue_can_be_told(notification: Notification) -> None:
    assert notification.priority is CATALOGUE[notification.event_type].priority


def test_event_that_is_not_in_the_catalogue_cannot_be_told() -> None:
    with pytest.raises(ValueError, match=r"instance\.boot\.start"):
        Notification("instance.boot.start", example(InstanceActionPayload))


def test_event_cannot_carry_the_payload_of_another() -> None:
    with pytest.raises(TypeError, match=r"service\.update carries ServicePayload, not ExceptionPayload"):
        Notification(SERVICE_UPDATE, example(ExceptionPayload))


def test_event_cannot_be_made_another_afterwards() -> None:
    told = Notification(SERVICE_UPDATE, example(ServicePayload))
    with pytest.raises(TypeError):
        replace(told, event_type=COMPUTE_EXCEPTION)
