"""Whether an upgrade to this release may go on, and what holds it back; run before its services are started.

The release that runs may be the one before: what is read here has been in the schema since its first revision.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from oslo_config import cfg
from oslo_upgradecheck.upgradecheck import Code, Result, UpgradeCommands
from sqlalchemy import true

from minova.compute import rpcapi as compute_rpcapi
from minova.conductor import foreign
from minova.conductor import rpcapi as conductor_rpcapi
from minova.db import migration
from minova.db.queries import COMPUTE, CONDUCTOR, live_versions, silent_services
from minova.db.session import Database
from minova.exception import BrokerUnreachable, ConfigurationError, DatabaseError
from minova.objects import utcnow
from minova.rpc.queues import check_queues
from minova.rpc.transport import is_fake
from minova.rpc.versions import History, check_level, parse

_KINDS: dict[str, tuple[str, History]] = {
    compute_rpcapi.TOPIC: (COMPUTE, compute_rpcapi.HISTORY),
    conductor_rpcapi.TOPIC: (CONDUCTOR, conductor_rpcapi.HISTORY),
}

_Check = tuple[Callable[..., Result], dict[str, Any]]
_FEW = 5


def add_commands(subparsers: Any) -> None:
    """Add what ``minova-status`` can be told, to argparse's subparsers; oslo.upgradecheck takes any word for check."""
    upgrade = subparsers.add_parser("upgrade", help="before and after an upgrade")
    upgrade.add_argument("check", choices=["check"], help="say whether the upgrade may go on")
    upgrade.add_argument("--json", action="store_true", help="show the results as JSON")


class UpgradeChecks(UpgradeCommands):
    """``minova-status upgrade check``: each check, and how far one can look."""

    display_title = "Upgrade Check Results"

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        """Check the cluster that ``conf`` is about."""
        self._conf = conf
        self.mistake: ConfigurationError | None = None
        """Why ``conf`` could not be loaded, if it could not."""

    def check(self) -> Code:
        """Run all checks for which there is something to look at, and print what they found."""
        self._upgrade_checks = tuple(self._sensible())
        return super().check()

    def _sensible(self) -> Iterator[tuple[str, _Check]]:
        yield "Configuration", (UpgradeChecks.check_configuration, {})
        if self.check_configuration().code is Code.FAILURE:
            return
        # That a database is not there is an answer too, and nothing to wait for.
        self._conf.set_override("max_retries", 0, "database")
        yield "Database", (UpgradeChecks.check_database, {})
        if self._revision() is None:
            return
        yield "Open actions", (UpgradeChecks.check_actions, {})
        if is_fake(self._conf):
            # Services that live no longer than a command are never of two releases.
            return
        yield "Queues", (UpgradeChecks.check_queues, {})
        yield "Silent services", (UpgradeChecks.check_silence, {})
        for topic in _KINDS:
            yield f"Versions: {topic}", (UpgradeChecks.check_versions, {"topic": topic})
            yield f"Pin: {topic}", (UpgradeChecks.check_pin, {"topic": topic})

    def check_configuration(self) -> Result:
        """Look whether this release takes the configuration."""
        try:
            if self.mistake is not None:
                raise self.mistake
            for topic, (_binary, history) in _KINDS.items():
                check_level(self._conf, topic, history)
        except ConfigurationError as error:
            self.mistake = error
            return Result(Code.FAILURE, error.message)
        return Result(Code.SUCCESS)

    def check_database(self) -> Result:
        """Look whether the database can be read, and is as this release needs it."""
        try:
            with self._database() as database:
                dependents = migration.contract_dependents(self._conf, database)
                if dependents:
                    return Result(Code.FAILURE, f"it cannot be migrated yet: {'; '.join(dependents)}")
                revision = migration.current(database)
                if migration.is_older(revision):
                    needed = f"it is at revision {revision}, and this release needs {migration.newest()}"
                    return Result(Code.WARNING, f"{needed}: run minova-manage db sync before its services are started")
                migration.require_usable(database)
        except DatabaseError as error:
            return Result(Code.FAILURE, error.message)
        if migration.is_newer(revision):
            return Result(Code.WARNING, f"a newer release has migrated it to {revision}; this one can work with that")
        return Result(Code.SUCCESS)

    def check_actions(self) -> Result:
        """Look whether this release can go on with what is under way."""
        with self._database() as database, database.read() as session:
            found = foreign.open_actions(session, true())
        unknown = [f"action {each.id}: {each.unknown}" for each in found if each.unknown]
        if not unknown:
            return Result(Code.SUCCESS)
        more = f"; and {len(unknown) - _FEW} more" if len(unknown) > _FEW else ""
        remedy = "let them end before the last conductor that knows them is stopped"
        return Result(Code.FAILURE, f"{'; '.join(unknown[:_FEW])}{more}: {remedy}")

    def check_queues(self) -> Result:
        """Look whether the queues are of the type that is configured."""
        try:
            check_queues(self._conf, list(_KINDS))
        except BrokerUnreachable as error:
            return Result(Code.WARNING, f"the queues could not be looked at: {error.message}")
        except ConfigurationError as error:
            return Result(Code.FAILURE, error.message)
        return Result(Code.SUCCESS)

    def check_silence(self) -> Result:
        """Look whether there are services of which nobody knows whether they will come back, and how old."""
        down_time = self._conf.service_down_time
        with self._database() as database, database.read() as session:
            silent = silent_services(session, utcnow() - timedelta(seconds=down_time))
        if not silent:
            return Result(Code.SUCCESS)
        named = ", ".join(f"{binary} on {host} ({version})" for binary, host, version in silent)
        return Result(Code.WARNING, f"not heard from for {down_time} s, and of no account until they are: {named}")

    def check_versions(self, topic: str) -> Result:
        """Look who is older than this release and so holds a pin back, and who cannot talk with it at all."""
        newest, live = _KINDS[topic][1].version, self._live(topic)
        strangers = [peer for peer in live if parse(peer[1])[0] != parse(newest)[0]]
        if strangers:
            return Result(Code.FAILURE, f"{_named(strangers)} and this release, {newest}, do not understand each other")
        older = [peer for peer in live if parse(peer[1]) < parse(newest)]
        if older:
            told = f"{_named(older)}: until they are upgraded and SIGHUP is sent, what needs up to {newest} is refused"
            return Result(Code.WARNING, f"{_holder(older)} holds the pin; older than {newest} are {told}")
        newer = [peer for peer in live if parse(peer[1]) > parse(newest)]
        if newer:
            return Result(Code.WARNING, f"newer than this release, {newest}, are {_named(newer)}")
        return Result(Code.SUCCESS)

    def check_pin(self, topic: str) -> Result:
        """Look whether ``[upgrade_levels]`` holds a pin above or below what all peers can do."""
        level, newest, live = self._conf.upgrade_levels[topic], _KINDS[topic][1].version, self._live(topic)
        lowest = min((parse(version) for _host, version in live), default=parse(newest))
        option = f"[upgrade_levels] {topic} = {level}"
        if level == "auto":
            return Result(Code.SUCCESS)
        if parse(level) > lowest:
            reason = f"{option} is more than {_holder(live)} understands, so messages to it are lost: set auto"
            return Result(Code.FAILURE, reason)
        if parse(level) < min(lowest, parse(newest)):
            return Result(Code.WARNING, f"{option} is less than all that live can do: set auto, and send SIGHUP")
        return Result(Code.SUCCESS)

    def _live(self, topic: str) -> list[tuple[str, str]]:
        since = utcnow() - timedelta(seconds=self._conf.service_down_time)
        with self._database() as database, database.read() as session:
            return live_versions(session, _KINDS[topic][0], since)

    def _revision(self) -> str | None:
        try:
            with self._database() as database:
                return migration.current(database)
        except DatabaseError:
            return None

    def _database(self) -> Database:
        return Database(self._conf)


def _named(peers: list[tuple[str, str]]) -> str:
    return ", ".join(f"{host} ({version})" for host, version in peers)


def _holder(peers: list[tuple[str, str]]) -> str:
    return min(peers, key=lambda peer: parse(peer[1]))[0]
