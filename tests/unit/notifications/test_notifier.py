"""Notifications are sent in their order by a thread of its own, and whatever goes wrong there harms nobody."""

import logging
import threading
from collections.abc import Iterator
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg
from oslo_messaging.notify.notifier import _notifier_opts
from oslo_messaging.transport import _transport_opts

from minova.exception import ConfigurationError
from minova.notifications.catalogue import CATALOGUE, COMPUTE_EXCEPTION, SERVICE_CREATE, SERVICE_UPDATE, Notification
from minova.notifications.notifier import GROUP, Notifier, check
from tests.unit.examples import example

SECONDS = 10.0

SENDABLE = [name for name in CATALOGUE if name != SERVICE_CREATE]
"""All but the one that the broker here chokes on."""


class Wire:
    """Takes the place of oslo.messaging's notifier: a broker that can be away."""

    def __init__(self) -> None:
        self.is_there = threading.Event()
        self.is_there.set()
        self.reached = threading.Event()
        self.sent: list[tuple[str, str, Any]] = []
        self.publisher_id = ""

    def __call__(self, _transport: object, publisher_id: str) -> "Wire":
        self.publisher_id = publisher_id
        return self

    def info(self, _ctxt: object, event_type: str, payload: Any) -> None:
        self._send("info", event_type, payload)

    def error(self, _ctxt: object, event_type: str, payload: Any) -> None:
        self._send("error", event_type, payload)

    def _send(self, priority: str, event_type: str, payload: Any) -> None:
        self.reached.set()
        assert self.is_there.wait(SECONDS)
        if event_type == SERVICE_CREATE:
            raise RuntimeError("boom")
        self.sent.append((priority, event_type, payload))


@pytest.fixture
def conf(conf: cfg.ConfigOpts) -> cfg.ConfigOpts:
    conf.register_opts(_transport_opts)
    conf.register_opts(_notifier_opts, GROUP)
    conf.set_override("transport_url", "fake://")
    conf.set_override("driver", ["messagingv2"], GROUP)
    return conf


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    wire = Wire()
    monkeypatch.setattr(oslo_messaging, "Notifier", wire)
    yield wire
    wire.is_there.set()


def told(event_type: str) -> Notification:
    return Notification(event_type, example(CATALOGUE[event_type].payload))


def started(conf: cfg.ConfigOpts) -> Notifier:
    notifier = Notifier(conf, "minova-conductor:here")
    notifier.start()
    return notifier


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_all_is_sent_in_its_order_before_the_stop(conf: cfg.ConfigOpts, wire: Wire) -> None:
    notifier = started(conf)
    for name in SENDABLE:
        notifier.send(told(name))
    notifier.stop()
    assert [name for _priority, name, _payload in wire.sent] == SENDABLE
    assert all(priority == CATALOGUE[name].priority for priority, name, _payload in wire.sent)
    assert wire.publisher_id == "minova-conductor:here"


def test_payload_says_what_it_is(conf: cfg.ConfigOpts, wire: Wire) -> None:
    notifier = started(conf)
    notifier.send(told(COMPUTE_EXCEPTION))
    notifier.stop()
    [(_priority, _name, payload)] = wire.sent
    assert payload["minova.object"] == "ExceptionPayload"
    assert payload["minova.version"] == "1.0"
    assert payload["minova.data"]["happened_at"] == "2020-02-29T12:30:15.123456Z"


def test_one_that_cannot_be_sent_does_not_stop_the_others(
    conf: cfg.ConfigOpts, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = started(conf)
    notifier.send(told(SERVICE_CREATE))
    notifier.send(told(SERVICE_UPDATE))
    notifier.stop()
    assert [name for _priority, name, _payload in wire.sent] == [SERVICE_UPDATE]
    assert "service.create was not sent" in caplog.text


def test_nobody_waits_for_a_broker_that_is_away(
    conf: cfg.ConfigOpts, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    conf.set_override("queue_size", 3, "notifications")
    wire.is_there.clear()
    notifier = started(conf)
    notifier.send(told(SERVICE_UPDATE))
    assert wire.reached.wait(SECONDS)
    for _ in range(10):
        notifier.send(told(COMPUTE_EXCEPTION))
    assert wire.sent == []
    assert warnings(caplog) == ["Notifications are dropped: 3 wait already, and cannot be sent"]
    wire.is_there.set()
    notifier.stop()
    # The oldest are kept: one is being sent, three wait.
    assert [name for _priority, name, _payload in wire.sent] == [SERVICE_UPDATE, *[COMPUTE_EXCEPTION] * 3]
    assert "Notifications that were dropped: 7; those that waited are sent" in warnings(caplog)


def test_nobody_waits_for_it_at_the_stop_either(
    conf: cfg.ConfigOpts, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    conf.set_override("drain_timeout", 0, "notifications")
    wire.is_there.clear()
    notifier = started(conf)
    notifier.send(told(SERVICE_UPDATE))
    assert wire.reached.wait(SECONDS)
    notifier.stop()
    assert wire.sent == []
    assert "could not be sent in time" in caplog.text
    wire.is_there.set()


def test_only_what_is_wanted_is_sent(conf: cfg.ConfigOpts, wire: Wire) -> None:
    conf.set_override("event_types", ["*.update", "instance.*.error"], "notifications")
    notifier = started(conf)
    for name in SENDABLE:
        notifier.send(told(name))
    notifier.stop()
    names = {name for _priority, name, _payload in wire.sent}
    assert {"service.update", "instance.update", "instance.create.error"} <= names
    assert all(name.endswith(".update") or name.endswith(".error") for name in names)
    assert "migration.error" not in names


@pytest.mark.parametrize("drivers", [[], ["noop"]])
def test_nothing_runs_while_notifications_are_off(conf: cfg.ConfigOpts, wire: Wire, drivers: list[str]) -> None:
    conf.set_override("driver", drivers, GROUP)
    before = threading.active_count()
    notifier = started(conf)
    notifier.send(told(SERVICE_UPDATE))
    assert threading.active_count() == before
    notifier.stop()
    assert wire.sent == []


def test_what_comes_before_the_start_or_after_the_stop_is_nobodys_business(conf: cfg.ConfigOpts, wire: Wire) -> None:
    notifier = Notifier(conf, "minova-conductor:here")
    notifier.send(told(SERVICE_UPDATE))
    notifier.start()
    notifier.stop()
    notifier.send(told(SERVICE_UPDATE))
    assert wire.sent == []


@pytest.mark.parametrize(
    ("group", "option", "value", "reason"),
    [
        (GROUP, "driver", ["messagingv2", "nosuch"], r"driver = nosuch: there are: messagingv2, log, noop"),
        (GROUP, "topics", [], r"topics has no value"),
        (GROUP, "transport_url", "rabit://me:pa55word@host/", r"transport_url cannot be used \(DriverLoadFailure\)"),
        ("notifications", "event_types", ["*.end", "instance.boot.*"], r"instance\.boot\.\* means no event"),
    ],
)
def test_mistakes_are_named(conf: cfg.ConfigOpts, group: str, option: str, value: Any, reason: str) -> None:
    conf.set_override(option, value, group)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        check(conf)
    assert "pa55word" not in str(caught.value)
