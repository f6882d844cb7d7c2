"""How the client of the computes gets on with old ones."""

from contextlib import nullcontext

import pytest
from oslo_config import cfg

from minova.compute.rpcapi import HISTORY, ComputeAPI
from minova.context import RequestContext
from minova.exception import PeerSilent, PeerTooOld
from minova.objects import Instance, MigrateData, MigrationOptions, Order
from minova.rpc.versions import Pins
from tests.unit.examples import example
from tests.unit.loopback import Loopback, Sent

PLAIN = MigrationOptions()
BLOCK = MigrationOptions(block_migration=True)
LIMITED = MigrationOptions(block_migration=True, bandwidth_mib=100)
DATA = MigrateData(address="host2.example.org")


def migrate(loopback: Loopback, options: MigrationOptions, lowest: str) -> Sent:
    """Ask for a live migration while a host of version ``lowest`` is alive, and return what was sent."""
    api = ComputeAPI(loopback.conf, loopback.transport, Pins(loopback.conf, lambda _topic: (lowest, "host3")))
    api.live_migration(RequestContext(), "host1", example(Order), example(Instance), "host2", options, DATA)
    [sent] = loopback.sent
    return sent


@pytest.mark.parametrize("options", [PLAIN, BLOCK, LIMITED], ids=str)
@pytest.mark.parametrize(("lowest", "sent_as"), [("1.1", "1.1"), ("1.3", "1.1"), (HISTORY.version, "1.4")])
def test_new_peers_get_the_options(loopback: Loopback, options: MigrationOptions, lowest: str, sent_as: str) -> None:
    sent = migrate(loopback, options, lowest)
    assert sent.message["version"] == sent_as
    assert ("data" in sent.args) == (sent_as == "1.4")
    assert sent.args["options"]["minova.data"]["bandwidth_mib"] == options.bandwidth_mib
    assert sent.args["block_migration"] == options.block_migration


@pytest.mark.parametrize("options", [PLAIN, BLOCK], ids=str)
def test_old_peers_get_what_means_the_same(loopback: Loopback, options: MigrationOptions) -> None:
    sent = migrate(loopback, options, "1.0")
    assert sent.message["version"] == "1.0"
    assert set(sent.args) == {"order", "instance", "destination", "block_migration"}
    assert sent.args["block_migration"] == options.block_migration
    assert (sent.server, sent.args["destination"]) == ("host1", "host2")


def test_old_peers_are_not_asked_for_what_they_cannot_do(loopback: Loopback) -> None:
    with pytest.raises(PeerTooOld) as caught:
        migrate(loopback, LIMITED, "1.0")
    assert (caught.value.needed, caught.value.pinned) == ("1.1", "1.0")
    assert "host3" in caught.value.holder
    assert not loopback.sent


@pytest.mark.parametrize("lowest", ["1.0", "1.3"])
def test_peers_below_1_4_know_of_no_other_limit_than_the_bandwidth(loopback: Loopback, lowest: str) -> None:
    with pytest.raises(PeerTooOld, match="these options") as caught:
        migrate(loopback, MigrationOptions(post_copy=True), lowest)
    assert caught.value.needed == "1.4"
    assert not loopback.sent


@pytest.mark.parametrize(("lowest", "asked"), [("1.3", False), ("1.4", True)])
def test_destination_below_1_4_is_not_asked(loopback: Loopback, lowest: str, asked: bool) -> None:
    api = ComputeAPI(loopback.conf, loopback.transport, Pins(loopback.conf, lambda _topic: (lowest, "host3")))
    with pytest.raises(PeerSilent) if asked else nullcontext():
        api.check_can_live_migrate_destination(RequestContext(), "host2", example(Instance), PLAIN, DATA)
    assert [sent.message["method"] for sent in loopback.sent] == ["check_can_live_migrate_destination"] * asked


@pytest.mark.parametrize("lowest", ["1.0", "1.1"])
def test_forcing_a_migration_has_no_fallback(conf: cfg.ConfigOpts, loopback: Loopback, lowest: str) -> None:
    api = ComputeAPI(conf, loopback.transport, Pins(conf, lambda _topic: (lowest, "host3")))
    with pytest.raises(PeerTooOld, match="host3") as caught:
        api.live_migration_force_complete(RequestContext(), "host1", "some action", "some uuid")
    assert caught.value.needed == "1.2"
    assert not loopback.sent
