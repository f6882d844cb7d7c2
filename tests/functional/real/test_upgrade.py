"""The release before side by side with this one, in every combination, and an upgrade from one release to another.

``tests/fixtures/release.py`` says which release is the one before.
"""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minova.conductor.tasks.power import StopInstance
from minova.db.queries import COMPUTE, CONDUCTOR
from minova.exception import PeerTooOld
from minova.objects import Action, MigrationOptions
from minova.states import OPERATIONS, MigrationStatus, Verb
from tests.fixtures import release
from tests.fixtures.daemon import Daemon
from tests.fixtures.operations import SLOWLY, Operator
from tests.fixtures.site import BIN, Site

MakeSite = Callable[..., Site]

QUEUES = "[oslo_messaging_rabbit]\nrabbit_quorum_queue = false\n"
"""A queue's type cannot be changed while it is used: a site that upgrades sets what it had, here by default."""


@pytest.fixture(scope="session")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of the release before."""
    return release.install_previous(tmp_path_factory.mktemp("previous"))


@pytest.fixture
def following(tmp_path: Path) -> Path:
    """The scripts of a release that comes after this one."""
    return release.make_next(tmp_path / "next")


@pytest.fixture
def site(make_site: MakeSite, previous: Path) -> Site:
    """A site of the release before, without any daemon yet."""
    return make_site(QUEUES, scripts=previous)


def add_conductors(site: Site, *scripts: Path) -> list[Daemon]:
    """Start conductors, those of the release before before the schema is migrated, and migrate it."""
    daemons = []
    for number, each in enumerate(scripts):
        if each == BIN:
            site.manage("db", "sync")
        daemons.append(site.add(CONDUCTOR, f"control{number}", scripts=each))
        site.wait_until_up()
    site.manage("db", "sync")
    return daemons


def add_computes(site: Site, previous: Path) -> tuple[Daemon, Daemon]:
    """Start a compute of the release before and then one of this: of an older one, conductors hear after a while."""
    old = site.add(COMPUTE, "old-host", scripts=previous)
    site.wait_until_up(old)
    new = site.add(COMPUTE, "new-host")
    site.wait_until_up(new)
    return old, new


def check_logs(site: Site) -> None:
    """Check that nobody has met an error that it did not expect."""
    assert [error for daemon in site.daemons for error in daemon.errors()] == []


@pytest.mark.parametrize("releases", [["previous"], ["this"], ["previous", "this"]], ids="+".join)
def test_every_operation_between_hosts_of_both_releases(site: Site, previous: Path, releases: list[str]) -> None:
    add_conductors(site, *(previous if each == "previous" else BIN for each in releases))
    old, new = add_computes(site, previous)
    with site.connect() as connection:
        operator = Operator(site, connection)
        operator.do_everything(old, new)
        operator.do_everything(new, old)
    assert operator.done == set(OPERATIONS)
    check_logs(site)


@pytest.mark.parametrize(("conductor", "command"), [("previous", "this"), ("this", "previous")])
def test_commands_of_the_other_release(site: Site, previous: Path, conductor: str, command: str) -> None:
    scripts = {"previous": previous, "this": BIN}
    add_conductors(site, scripts[conductor])
    add_computes(site, previous)

    def manage(*args: str) -> Any:
        return site.manage(*args, scripts=scripts[command])

    assert manage("instance", "boot", "web", "--host", "old-host")["host"] == "old-host"
    assert manage("instance", "live-migrate", "web")["host"] == "new-host"
    assert [each["status"] for each in manage("migration", "list")] == ["completed"]
    assert [each["state"] for each in manage("service", "list")] == ["up"] * 3
    assert {each["error"] for each in manage("rpc", "versions")} == {None}
    assert {each["error"] for each in manage("rpc", "ping")} == {None}
    check_logs(site)


def begin_at(conductor: Daemon, site: Site, operator: Operator, to: str) -> Action:
    """Begin a migration that a certain conductor has in hand."""
    for _ in range(10):
        action = operator.start_migration(to)
        if site.action(action.id).owner.startswith(f"{conductor.host}/"):
            return action
        operator.cancel(action)
    raise AssertionError(f"{conductor.host} never got a request")


@pytest.mark.parametrize("killed", [0, 1], ids=["previous dies", "this dies"])
def test_action_of_a_conductor_that_dies_is_taken_over_by_one_of_the_other_release(
    site: Site, previous: Path, killed: int
) -> None:
    conductors = add_conductors(site, previous, BIN)
    old, new = add_computes(site, previous)
    with site.connect() as connection:
        operator = Operator(site, connection)
        operator.boot(old.host)
        action = begin_at(conductors[killed], site, operator, new.host)
        conductors[killed].kill()
        operator.force_complete(action)
        assert site.succeed(action.id).owner.startswith(f"{conductors[1 - killed].host}/")
        operator.delete()
    check_logs(site)


def test_action_that_only_a_newer_conductor_understands_is_left_to_it(make_site: MakeSite, following: Path) -> None:
    """Whichever conductor the compute reports to."""
    site = make_site()
    site.add_conductor("older")
    site.add(CONDUCTOR, "newer", scripts=following)
    compute = site.add_compute("host1")
    site.wait_until_up()
    owners = set()
    with site.connect() as connection:
        operator = Operator(site, connection)
        operator.boot(compute.host)
        for _ in range(8):
            stopped = site.action(operator.power(Verb.STOP))
            operator.power(Verb.START)
            # The broker asks the conductors in turn: one question more, and the next stop is the other's.
            assert operator.instance.host == compute.host
            if stopped.data["version"] != StopInstance.version:
                owners.add(stopped.owner.partition("/")[0])
        operator.delete()
    assert owners == {"newer"}
    check_logs(site)


def test_messages_that_are_held_at_the_first_version(site: Site, previous: Path) -> None:
    """As the release before would have them that came before all."""
    site.manage("db", "sync")
    site.add_conductor(more="[upgrade_levels]\ncompute = 1.0\n")
    old, new = add_computes(site, previous)
    with site.connect() as connection:
        operator = Operator(site, connection)
        operator.boot(old.host)
        operator.live_migrate(new.host)
        operator.live_migrate(old.host, MigrationOptions(block_migration=True))
        with pytest.raises(PeerTooOld, match=r"\[upgrade_levels\] compute = 1\.0 holds it at 1\.0: lift that pin"):
            operator.live_migrate(new.host, SLOWLY)
        operator.delete()
    check_logs(site)


def upgrade(site: Site, daemon: Daemon, scripts: Path) -> Daemon:
    """Stop a daemon, and start that of another release in its place."""
    daemon.stop()
    upgraded = site.add(daemon.binary, daemon.host, scripts=scripts)
    site.wait_until_up(upgraded)
    return upgraded


def pin_of_computes(site: Site) -> tuple[str, str]:
    """Return the version at which the conductor holds its messages to computes, and why; nothing while it looks."""
    (conductor,) = (each for each in site.manage("rpc", "versions") if each["binary"] == CONDUCTOR)
    pins = [(pin["version"], pin["reason"]) for pin in conductor["pins"]]
    return pins[0] if pins else ("", "")


def upgrade_check(site: Site, scripts: Path) -> tuple[int, dict[str, str]]:
    """Return the exit status of ``minova-status upgrade check``, and what it found worth telling."""
    command = [scripts / "minova-status", "--config-file", site.config, "upgrade", "check", "--json"]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, {
        each["check"]: each["details"] for each in json.loads(done.stdout)["checks"] if each["details"]
    }


def test_upgrade_of_one_service_after_the_other(site: Site, previous: Path, following: Path) -> None:
    """The pin is held by the last host that is older, and moves on after its upgrade, with SIGHUP and not before."""
    (conductor,) = add_conductors(site, previous)
    host1, host2 = (site.add(COMPUTE, host, scripts=previous) for host in ("host1", "host2"))
    site.wait_until_up()
    conductor = upgrade(site, conductor, following)
    upgrade(site, host2, following)
    with site.connect() as connection:
        operator = Operator(site, connection)
        operator.boot("host1")
        action = operator.start_migration("host2")
        with pytest.raises(PeerTooOld, match=r"but host host1 holds it at .*: upgrade host host1 first"):
            operator.force_complete(action)
        older, reason = pin_of_computes(site)
        assert reason == "host host1"
        status, told = upgrade_check(site, following)
        assert (status, list(told)) == (1, ["Versions: compute"])
        assert told["Versions: compute"].startswith("host1 holds the pin")

        upgrade(site, host1, following)
        assert operator.migration_status(action) is MigrationStatus.RUNNING, "it went on without the service"
        with pytest.raises(PeerTooOld):
            operator.force_complete(action)
        os.kill(conductor.pid, signal.SIGHUP)
        site.wait_for(lambda: pin_of_computes(site)[1] == "all live services are as new", "a pin that has moved on")
        assert pin_of_computes(site)[0] != older
        assert upgrade_check(site, following) == (0, {})
        operator.force_complete(action)
        site.succeed(action.id)
        operator.delete()
    check_logs(site)
