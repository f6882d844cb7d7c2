"""``notifications watch`` shows what comes, when it comes."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from minova.notifications import subscription
from minova.notifications.catalogue import (
    CATALOGUE,
    COMPUTE_EXCEPTION,
    INSTANCE_UPDATE,
    SERVICE_UPDATE,
)
from minova.notifications.subscription import Message
from minova.objects.wire import to_wire
from tests.unit.cli.rig import Manage
from tests.unit.examples import example

START, ERROR, MOVED = "instance.create.start", "instance.create.error", "migration.running"


def message(name: str, **more: Any) -> Message:
    event = CATALOGUE[name]
    values = {
        "timestamp": "2020-01-01 00:00:00.123456",
        "priority": event.priority.upper(),
        "publisher_id": "minova-conductor:here",
        "event_type": name,
        "payload": to_wire(example(event.payload)),
    }
    return Message(**{**values, **more})


@pytest.fixture
def come(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Say what is to come; after that, Ctrl-C is pressed."""

    def come(*messages: Message) -> None:
        class Subscription:
            def __init__(self, _conf: object, notify: Callable[[str], None]) -> None:
                notify("watching")

            def interrupt(self, *_signal: object) -> None:
                raise KeyboardInterrupt

            def __iter__(self) -> Iterator[Message]:
                yield from messages
                raise KeyboardInterrupt

        monkeypatch.setattr(subscription, "Subscription", Subscription)

    return come


def test_each_is_a_line_and_ctrl_c_is_a_good_end(manage: Manage, come: Callable[..., None]) -> None:
    come(message(START), message(MOVED), message(SERVICE_UPDATE), message(INSTANCE_UPDATE), message(COMPUTE_EXCEPTION))
    ended = manage("notifications", "watch")
    assert (ended.status, ended.err) == (0, "watching\n")
    head, *lines = ended.out.splitlines()
    assert head.split() == ["time", "priority", "event", "publisher", "subject", "detail"]
    assert [line.split()[2] for line in lines] == [START, MOVED, SERVICE_UPDATE, INSTANCE_UPDATE, COMPUTE_EXCEPTION]
    assert all(line.startswith("2020-02-29T12:30:15Z  ") for line in lines)
    assert "söme text → söme text" in lines[1]
    assert "undrained" in lines[2]
    assert lines[4].split()[1] == "error"


def test_count(manage: Manage, come: Callable[..., None]) -> None:
    come(*[message(START)] * 5)
    assert len(manage("notifications", "watch", "--count", "2", "-f", "value").out.splitlines()) == 2


def test_events_that_are_wanted(manage: Manage, come: Callable[..., None]) -> None:
    come(message(START), message(ERROR), message(MOVED), message(SERVICE_UPDATE))
    ended = manage(
        "notifications", "watch", "--event", "*.error", "--event", "migration.*", "-f", "value", "-c", "event"
    )
    assert ended.out.splitlines() == [ERROR, MOVED]


def test_count_is_of_those_that_are_wanted(manage: Manage, come: Callable[..., None]) -> None:
    come(message(START), message(ERROR), message(START), message(ERROR))
    args = ("notifications", "watch", "--event", ERROR, "--count", "2", "-f", "value", "-c", "event")
    assert manage(*args).out.splitlines() == [ERROR, ERROR]


def test_json_has_a_line_for_each_with_all_of_it(manage: Manage, come: Callable[..., None]) -> None:
    come(message(START), message(MOVED))
    first, second = map(json.loads, manage("notifications", "watch", "-f", "json").out.splitlines())
    assert (first["event"], second["event"]) == (START, MOVED)
    assert first["payload"] == message(START).payload


def test_yaml_has_a_document_for_each(manage: Manage, come: Callable[..., None]) -> None:
    come(message(START), message(MOVED))
    documents = list(yaml.safe_load_all(manage("notifications", "watch", "-f", "yaml").out))
    assert [each["event"] for each in documents] == [START, MOVED]


def test_csv_has_one_head(manage: Manage, come: Callable[..., None]) -> None:
    come(message(START), message(MOVED))
    rows = list(csv.DictReader(io.StringIO(manage("notifications", "watch", "-f", "csv").out)))
    assert [row["event"] for row in rows] == [START, MOVED]
    assert "payload" not in rows[0]


@pytest.mark.parametrize("formatter", ["table", "json", "yaml", "csv", "value"])
def test_each_can_be_read_before_the_next_comes(
    manage: Manage, monkeypatch: pytest.MonkeyPatch, formatter: str
) -> None:
    out = _Pipe()
    manage.stdout = lambda: out
    read: list[bool] = []

    class Subscription:
        def __init__(self, *_: object) -> None:
            pass

        def interrupt(self, *_signal: object) -> None:
            raise KeyboardInterrupt

        def __iter__(self) -> Iterator[Message]:
            yield message(START)
            read.append(START in out.read)
            yield message(MOVED)
            read.append(MOVED in out.read)
            raise KeyboardInterrupt

    monkeypatch.setattr(subscription, "Subscription", Subscription)
    manage("notifications", "watch", "-f", formatter)
    assert read == [True, True]


class _Pipe(io.StringIO):
    """Passes on what was flushed."""

    read = ""

    def flush(self) -> None:
        self.read = self.getvalue()


def test_what_others_publish_is_shown_as_well_as_can_be(manage: Manage, come: Callable[..., None]) -> None:
    come(message(START, event_type="some.event", payload={"size": 3}, publisher_id="else"))
    [line] = manage("notifications", "watch").out.splitlines()[1:]
    assert line.split() == ["2020-01-01T00:00:00Z", "info", "some.event", "else", "-", "-"]


def test_nobody_commands_the_terminal(manage: Manage, come: Callable[..., None]) -> None:
    come(message(START, publisher_id="\x1b[2Jhere\n"))
    ended = manage("notifications", "watch")
    assert "\x1b" not in ended.out
    assert len(ended.out.splitlines()) == 2


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("--event", "instance.boot.*"), "--event instance.boot.* means no event; there are: instance.create.*, "),
        (("--count", "0"), "--count 0: at least 1 is expected"),
        (("-c", "nosuch"), "no such column: nosuch; there are: time, "),
    ],
)
def test_mistakes_are_told_at_once(
    manage: Manage, come: Callable[..., None], args: tuple[str, ...], reason: str
) -> None:
    come(message(START))
    ended = manage("notifications", "watch", *args)
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith(f"minova-manage: error: {reason}")
