"""Every command asks what it should, and shows what it was told."""

from dataclasses import replace
from typing import Any

import pytest

from minova.objects import BootRequest, MigrationOptions
from minova.states import TimeoutAction
from tests.unit.cli.rig import ACTION, CANCELLED, FAULT, IMAGE, INSTANCE, MIGRATION, Manage

REQUESTS: list[tuple[str, str, dict[str, Any]]] = [
    (
        "instance boot web",
        "boot_instance",
        {"request": BootRequest(name="web", vcpus=1, memory_mb=256, disk_gb=1, host=None)},
    ),
    (
        "instance boot web --vcpus 2 --memory 512 --disk -5 --host host3",
        "boot_instance",
        {"request": BootRequest(name="web", vcpus=2, memory_mb=512, disk_gb=-5, host="host3")},
    ),
    (
        "instance boot web --image cirros --network lan",
        "boot_instance",
        {"request": BootRequest(name="web", vcpus=1, memory_mb=256, disk_gb=1, image="cirros", network="lan")},
    ),
    ("instance list", "list_instances", {"host": None, "deleted": False}),
    ("instance list --host host1 --deleted", "list_instances", {"host": "host1", "deleted": True}),
    ("instance show web", "get_instance", {"instance": "web"}),
    ("instance start web", "start_instance", {"instance": "web"}),
    ("instance stop web", "stop_instance", {"instance": "web"}),
    ("instance reboot web", "reboot_instance", {"instance": "web", "hard": False}),
    ("instance reboot web --hard", "reboot_instance", {"instance": "web", "hard": True}),
    ("instance pause web", "pause_instance", {"instance": "web"}),
    ("instance unpause web", "unpause_instance", {"instance": "web"}),
    (
        "instance live-migrate web",
        "live_migrate_instance",
        {"instance": "web", "destination": None, "options": MigrationOptions()},
    ),
    (
        "instance live-migrate web --to host2 --block --bandwidth 10",
        "live_migrate_instance",
        {
            "instance": "web",
            "destination": "host2",
            "options": MigrationOptions(block_migration=True, bandwidth_mib=10),
        },
    ),
    (
        "instance live-migrate web --max-downtime 70 --auto-converge --no-post-copy --timeout 0 --timeout-action abort",
        "live_migrate_instance",
        {
            "instance": "web",
            "destination": None,
            "options": MigrationOptions(
                max_downtime_ms=70, auto_converge=True, post_copy=False, timeout=0, timeout_action=TimeoutAction.ABORT
            ),
        },
    ),
    (
        "instance live-migrate web --no-auto-converge --post-copy --timeout 40 --timeout-action force-complete",
        "live_migrate_instance",
        {
            "instance": "web",
            "destination": None,
            "options": MigrationOptions(
                auto_converge=False, post_copy=True, timeout=40, timeout_action=TimeoutAction.FORCE_COMPLETE
            ),
        },
    ),
    ("instance migrate web", "migrate_instance", {"instance": "web", "destination": None}),
    ("instance migrate web --to host2", "migrate_instance", {"instance": "web", "destination": "host2"}),
    ("instance evacuate web", "evacuate_instance", {"instance": "web", "destination": None}),
    ("instance evacuate web --to host2", "evacuate_instance", {"instance": "web", "destination": "host2"}),
    ("instance rebuild web", "rebuild_instance", {"instance": "web"}),
    ("instance delete web", "delete_instance", {"instance": "web"}),
    ("instance reset-state web", "reset_instance_state", {"instance": "web", "state": "error"}),
    ("instance reset-state web --state active", "reset_instance_state", {"instance": "web", "state": "active"}),
    ("instance explain web", "explain_instance", {"instance": "web"}),
    ("instance faults web", "list_faults", {"instance": "web"}),
    ("image list", "list_images", {}),
    ("image show cirros", "get_image", {"image": "cirros"}),
    ("image remove cirros", "remove_image", {"image": "cirros"}),
    ("migration list", "list_migrations", {"instance": None, "limit": 100}),
    ("migration list --instance web --limit 3", "list_migrations", {"instance": "web", "limit": 3}),
    ("migration show mig", "get_migration", {"migration": "mig"}),
    ("migration abort mig", "abort_migration", {"migration": "mig"}),
    ("migration force-complete mig", "force_complete_migration", {"migration": "mig"}),
    ("action list", "list_actions", {"instance": None, "limit": 100}),
    ("action list --instance web --limit 3", "list_actions", {"instance": "web", "limit": 3}),
    ("action show act-1", "get_action", {"action": "act-1"}),
    ("action watch act-1", "get_action", {"action": "act-1"}),
    ("action cancel act-1", "cancel_action", {"action": "act-1"}),
    ("action trace act-1", "list_action_events", {"action": "act-1"}),
    ("host list", "list_hosts", {}),
    ("host show host1", "get_host", {"host": "host1"}),
    ("host drain host1", "drain_host", {"host": "host1"}),
    ("host undrain host1", "undrain_host", {"host": "host1"}),
    ("service list", "list_services", {}),
    ("service enable host1", "set_service_enabled", {"host": "host1", "enabled": True, "reason": ""}),
    ("service disable host1", "set_service_enabled", {"host": "host1", "enabled": False, "reason": ""}),
    (
        "service disable host1 --reason fan",
        "set_service_enabled",
        {"host": "host1", "enabled": False, "reason": "fan"},
    ),
    ("service force-down host1", "set_service_forced_down", {"host": "host1", "forced_down": True}),
    ("service force-down host1 --unset", "set_service_forced_down", {"host": "host1", "forced_down": False}),
]


@pytest.mark.parametrize(("command", "method", "arguments"), REQUESTS, ids=[request[0] for request in REQUESTS])
def test_request(manage: Manage, command: str, method: str, arguments: dict[str, Any]) -> None:
    manage.conductor.answers = {"abort_migration": CANCELLED, "cancel_action": CANCELLED}
    if command.startswith("host drain"):
        manage.conductor.answers["list_instances"] = []
    ended = manage(*command.split())
    assert (ended.status, ended.err) == (0, "")
    assert (method, arguments) in manage.asked
    assert ended.out


def test_instance_as_json(manage: Manage) -> None:
    shown = manage("instance", "show", "web", "-f", "json").json
    assert shown == {
        "name": "web",
        "uuid": INSTANCE.uuid,
        "host": "host1",
        "state": "active",
        "task": None,
        "power": "running",
        "vcpus": 1,
        "memory": 256,
        "disk": 1,
        "created": "2024-02-29T12:00:00Z",
        "updated": "2024-02-29T12:00:00Z",
        "image": None,
        "network": None,
        "mac_address": "02:11:11:11:11:22",
        "addresses": None,
        "user_data": False,
    }


def test_instance_with_all_that_it_may_have(manage: Manage) -> None:
    more: dict[str, Any] = {"image": IMAGE, "network": "lan", "addresses": ("192.0.2.7", "2001:db8::7")}
    manage.conductor.answers["get_instance"] = replace(INSTANCE, user_data="geheim", **more)
    ended = manage("instance", "show", "web", "-f", "json")
    assert "geheim" not in ended.out
    shown = {name: ended.json[name] for name in (*more, "user_data")}
    assert shown == {"image": "cirros", "network": "lan", "addresses": "192.0.2.7, 2001:db8::7", "user_data": True}


def test_instance_without_a_network_card_has_no_address_of_it(manage: Manage) -> None:
    manage.conductor.answers["get_instance"] = replace(INSTANCE, network="none")
    assert manage("instance", "show", "web", "-f", "json").json["mac_address"] is None


def test_instances_as_table(manage: Manage) -> None:
    heading, line = manage("instance", "list").out.splitlines()[1:4:2]
    assert heading.split("|")[1:-1] == [
        " name ", " uuid                                 ", " host  ", " state  ", " task ", " power   ", " vcpus ",
        " memory  ", " disk  ",
    ]  # fmt: skip
    assert [field.strip() for field in line.split("|")[1:-1]] == [
        "web", INSTANCE.uuid, "host1", "active", "-", "running", "1", "256 MiB", "1 GiB",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["table", "json", "yaml", "csv", "value"])
@pytest.mark.parametrize(
    "command",
    [
        "instance list",
        "image list",
        "migration list",
        "action list",
        "action trace act-1",
        "host list",
        "service list",
        "rpc ping",
    ],
)
def test_every_list_in_every_format(manage: Manage, command: str, kind: str) -> None:
    ended = manage(*command.split(), "-f", kind)
    assert (ended.status, ended.err) == (0, "")
    assert "host1" in ended.out or ACTION.id in ended.out or IMAGE.uuid in ended.out


@pytest.mark.parametrize("kind", ["table", "json", "yaml", "value"])
@pytest.mark.parametrize(
    "command", ["instance show web", "migration show m", "action show act-1", "host show host1", "service enable host1"]
)
def test_every_object_in_every_format(manage: Manage, command: str, kind: str) -> None:
    ended = manage(*command.split(), "-f", kind)
    assert (ended.status, ended.err) == (0, "")
    assert "host1" in ended.out or ACTION.id in ended.out


def test_migration_shows_how_far_it_is(manage: Manage) -> None:
    shown = manage("migration", "show", MIGRATION.uuid).out
    fields = dict(line.split("|")[1:3] for line in shown.splitlines() if line.startswith("|"))
    cells = {name.strip(): value.strip() for name, value in fields.items()}
    assert cells["copied"] == "75%"
    assert cells["remaining"] == "64 MiB"
    assert cells["dirty_rate"] == "32 MiB/s"
    assert cells["elapsed"] == "1.5 s"


def test_migration_shows_how_it_was_asked_for(manage: Manage) -> None:
    options = MigrationOptions(post_copy=True, timeout=40, timeout_action=TimeoutAction.ABORT)
    manage.conductor.answers["get_migration"] = replace(MIGRATION, options=options)
    shown = manage("migration", "show", MIGRATION.uuid).out
    for line in ("block_migration = no", "post_copy = yes", "timeout = 40", "timeout_action = abort"):
        assert f" {line} " in shown
    shown = manage("migration", "show", MIGRATION.uuid, "-f", "json").json
    asked = {"block_migration": False, "post_copy": True, "timeout": 40, "timeout_action": "abort"}
    assert shown["options"] == asked


ENDLESS = replace(MIGRATION.progress, dirty_rate=400 * 2**20, iteration=9, throttle=20, downtime_ms=300)


def test_migration_that_does_not_converge_is_shown_as_such(manage: Manage) -> None:
    endless = replace(MIGRATION, progress=ENDLESS)
    manage.conductor.answers = {"get_migration": endless, "list_migrations": [endless]}
    shown = manage("migration", "show", MIGRATION.uuid).out
    assert "75%, does not converge" in shown
    assert "does not converge: dirty rate 400 MiB/s, bandwidth 128 MiB/s, the guest slowed down by 20 %" in shown
    assert " 75%, does not converge |" in manage("migration", "list").out
    [listed] = manage("migration", "list", "-f", "json").json
    assert listed["copied"] == 0.75
    shown = manage("migration", "show", MIGRATION.uuid, "-f", "json").json
    assert (shown["verdict"], shown["throttle"], shown["downtime"]) == (ENDLESS.verdict, 20, 0.3)


def test_faults_with_details(manage: Manage) -> None:
    assert "details" not in manage("instance", "faults", "web", "-f", "json").json[0]
    assert manage("instance", "faults", "web", "--details", "-f", "json").json[0]["details"] == FAULT.details


def test_sorted_by_a_column_that_is_partly_empty(manage: Manage) -> None:
    manage.conductor.answers["list_instances"] = [replace(INSTANCE, host=host) for host in ("b", None, "a")]
    listed = manage("instance", "list", "--sort-column", "host", "-f", "json").json
    assert [instance["host"] for instance in listed] == ["a", "b", None]
