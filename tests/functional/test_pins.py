"""Peers of an older version: what they can do is done, what they cannot is refused, and who holds them is told."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from oslo_config import cfg
from oslo_messaging._drivers import impl_fake
from sqlalchemy.orm import Session

from minova.compute.rpcapi import HISTORY
from minova.db import models
from minova.db.queries import COMPUTE, CONDUCTOR
from minova.exception import PeerTooOld
from minova.objects import Action, MigrationOptions, Pin, utcnow
from minova.states import ActionStatus, MigrationStatus
from tests.fixtures.lab import Lab, wait_until

Messages = list[dict[str, Any]]

NEWEST = HISTORY.version


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> Messages:
    """Record what is sent."""
    sent: Messages = []
    real = impl_fake.FakeExchange.deliver_message

    def deliver(exchange: Any, topic: str, ctxt: Any, message: dict[str, Any], **more: Any) -> None:
        sent.append(message)
        real(exchange, topic, ctxt, message, **more)

    monkeypatch.setattr(impl_fake.FakeExchange, "deliver_message", deliver)
    return sent


@pytest.fixture
def pinned(conf: cfg.ConfigOpts) -> None:
    """Hold the messages to computes at the first version."""
    conf.set_override("compute", "1.0", "upgrade_levels")


def register(lab: Lab, host: str, rpc_version: str, seconds_ago: float = 0, binary: str = COMPUTE) -> None:
    """Let a service of a version be registered, or change the one that is."""

    def write(session: Session) -> None:
        now = utcnow()
        row = session.get(models.Service, (binary, host)) or models.Service(binary=binary, host=host, started_at=now)
        row.rpc_version, row.last_seen_at = rpc_version, now - timedelta(seconds=seconds_ago)
        session.add(row)

    lab.database.write(write)


def migrate(lab: Lab, **options: Any) -> Action:
    return lab.api.live_migrate_instance(lab.ctxt, "vm", None, MigrationOptions(**options))


def migrate_slowly(lab: Lab) -> str:
    """Start a live migration that does not end by itself, and return its UUID once it copies."""
    lab.set("fake", migration_dirty_rate=4000.0, migration_bandwidth=2000.0)
    action = migrate(lab)
    return str(
        wait_until(
            lambda: (now := lab.migration(action)).status is MigrationStatus.RUNNING and now.uuid,
            "the start of the migration",
        )
    )


def abort(lab: Lab, migration: str) -> None:
    action = lab.end_of(lab.api.abort_migration(lab.ctxt, migration))
    assert action.status is ActionStatus.CANCELLED


def compute_pin(lab: Lab) -> Pin:
    [pin] = lab.cluster.control("conductor").get_versions(lab.ctxt, None).pins
    return pin


def sent(messages: Messages, method: str) -> dict[str, Any]:
    [message] = [message for message in messages if message["method"] == method]
    return message


def test_without_a_pin_the_newest_message_is_sent(lab: Lab, messages: Messages) -> None:
    lab.boot()
    options = MigrationOptions(bandwidth_mib=500, timeout=9)
    lab.succeed(migrate(lab, bandwidth_mib=500, timeout=9))
    asked, ordered = sent(messages, "live_migrate_instance"), sent(messages, "live_migration")
    assert (asked["version"], ordered["version"]) == ("1.3", "1.4")
    for message in (asked, ordered):
        assert message["args"]["options"]["minova.data"] == msgspec.to_builtins(options)


@pytest.mark.parametrize(
    ("topic", "level", "what", "needed"),
    [
        ("compute", "1.3", "a live migration with these options", "1.4"),
        ("conductor", "1.2", "conductor.live_migrate_instance", "1.3"),
    ],
)
def test_options_that_old_peers_would_leave_out_are_refused(
    conf: cfg.ConfigOpts, make_lab: Callable[..., Lab], topic: str, level: str, what: str, needed: str
) -> None:
    conf.set_override(topic, level, "upgrade_levels")
    lab = make_lab("host1", "host2")
    before = lab.boot()
    with pytest.raises(PeerTooOld) as refusal:
        migrate(lab, post_copy=True)
    assert refusal.value.message == (
        f"{what} needs RPC version {needed}, but [upgrade_levels] {topic} = {level} holds it at {level}: lift that pin"
    )
    assert lab.instance() == before
    lab.succeed(migrate(lab, bandwidth_mib=500))


@pytest.mark.parametrize("block_migration", [False, True])
def test_old_peers_migrate_without_options(pinned: None, lab: Lab, messages: Messages, block_migration: bool) -> None:
    before = lab.boot()
    lab.succeed(migrate(lab, block_migration=block_migration))
    message = sent(messages, "live_migration")
    assert message["version"] == "1.0"
    assert "options" not in message["args"]
    assert message["args"]["block_migration"] is block_migration
    assert lab.instance().host != before.host


def test_bandwidth_that_old_peers_do_not_know_is_refused(pinned: None, lab: Lab, messages: Messages) -> None:
    before = lab.boot()
    with pytest.raises(PeerTooOld) as refusal:
        migrate(lab, bandwidth_mib=10)
    assert refusal.value.message == (
        "a live migration with a bandwidth limit needs RPC version 1.1, but [upgrade_levels] compute = 1.0 "
        "holds it at 1.0: lift that pin"
    )
    assert "live_migration" not in [message["method"] for message in messages]
    assert lab.instance() == before
    assert lab.api.list_migrations(lab.ctxt) == []


def test_old_peers_cannot_be_forced_to_complete(pinned: None, lab: Lab) -> None:
    lab.boot()
    migration = migrate_slowly(lab)
    with pytest.raises(PeerTooOld) as refusal:
        lab.api.force_complete_migration(lab.ctxt, migration)
    assert refusal.value.method == "compute.live_migration_force_complete"
    assert (refusal.value.needed, refusal.value.pinned) == ("1.2", "1.0")
    assert refusal.value.holder == "[upgrade_levels] compute = 1.0"
    assert lab.api.get_migration(lab.ctxt, migration).status is MigrationStatus.RUNNING
    abort(lab, migration)


def test_oldest_live_host_holds_the_pin_and_is_named(lab: Lab) -> None:
    register(lab, "old-host", "1.1")
    lab.boot()
    assert compute_pin(lab) == Pin(topic="compute", version="1.1", reason="host old-host")
    migration = migrate_slowly(lab)
    with pytest.raises(PeerTooOld) as refusal:
        lab.api.force_complete_migration(lab.ctxt, migration)
    assert "but host old-host holds it at 1.1: upgrade host old-host first" in refusal.value.message
    abort(lab, migration)


def test_old_host_that_is_silent_or_fenced_holds_nothing(lab: Lab) -> None:
    register(lab, "silent-host", "1.0", seconds_ago=lab.conf.service_down_time + 1)
    register(lab, "fenced-host", "1.0")
    lab.api.set_service_forced_down(lab.ctxt, "fenced-host", True)
    lab.boot()
    assert compute_pin(lab).reason == "all live services are as new"


def test_pin_lasts_until_it_is_resolved_anew(lab: Lab) -> None:
    register(lab, "old-host", "1.1")
    lab.boot()
    register(lab, "old-host", NEWEST)
    migration = migrate_slowly(lab)
    with pytest.raises(PeerTooOld):
        lab.api.force_complete_migration(lab.ctxt, migration)
    for conductor in lab.cluster.conductors:
        conductor.reset()
    lab.succeed(lab.api.force_complete_migration(lab.ctxt, migration))
    assert compute_pin(lab) == Pin(topic="compute", version=NEWEST, reason="all live services are as new")


def test_level_that_was_changed_counts_after_a_reset(lab: Lab, messages: Messages) -> None:
    before = lab.boot()
    lab.set("upgrade_levels", compute="1.0")
    assert compute_pin(lab).version == NEWEST
    for conductor in lab.cluster.conductors:
        conductor.reset()
    lab.succeed(migrate(lab))
    assert sent(messages, "live_migration")["version"] == "1.0"
    assert compute_pin(lab).reason == "[upgrade_levels] compute = 1.0"
    assert lab.instance().host != before.host


def test_compute_resolves_its_pin_of_conductors_anew(lab: Lab) -> None:
    control = lab.cluster.control("compute")
    lab.set("upgrade_levels", conductor="1.0")
    lab.cluster.computes["host1"].reset()
    lab.report("host1")
    [pin] = control.get_versions(lab.ctxt, "host1").pins
    assert (pin.topic, pin.reason) == ("conductor", "[upgrade_levels] conductor = 1.0")


def test_old_host_that_comes_back_is_not_sent_what_it_does_not_know(lab: Lab, messages: Messages) -> None:
    """It was silent when the pin was resolved."""
    lab.boot()
    wait_until(lambda: compute_pin(lab).reason == "all live services are as new", "the first pin")
    register(lab, "old-host", "1.0")
    wait_until(lambda: compute_pin(lab).reason == "host old-host", "a lower pin")
    lab.succeed(migrate(lab))
    assert sent(messages, "live_migration")["version"] == "1.0"


def test_old_conductor_that_comes_back_is_not_sent_what_it_does_not_know(lab: Lab) -> None:
    """Computes look after their pins too, with each report."""

    def pins(host: str) -> list[Pin]:
        return list(lab.cluster.control("compute").get_versions(lab.ctxt, host).pins)

    register(lab, "old-conductor", "1.0", binary=CONDUCTOR)
    held = Pin(topic="conductor", version="1.0", reason="host old-conductor")
    for host in ("host1", "host2"):
        wait_until(lambda host=host: pins(host) == [held], f"a lower pin on {host}")
