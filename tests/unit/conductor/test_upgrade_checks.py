"""What ``minova-status upgrade check`` finds: good, worth a look, and what has to stop an upgrade."""

import json
from argparse import Namespace
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg
from oslo_upgradecheck import upgradecheck
from sqlalchemy import text

from minova.conductor.upgrade_checks import UpgradeChecks
from minova.conf import load
from minova.db import migration, models
from minova.db.queries import COMPUTE, CONDUCTOR
from minova.db.session import Database
from minova.exception import BrokerUnreachable, ConfigurationError
from minova.objects import utcnow
from minova.rpc.versions import History, Release
from minova.states import ActionStatus, Verb, VmState
from tests.unit.rows import an_instance

SUCCESS, WARNING, FAILURE = 0, 1, 2

HISTORY = History(tuple(Release(version=f"1.{minor}", summary="") for minor in range(3)))


@pytest.fixture(autouse=True)
def json_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgradecheck, "CONF", Namespace(command=Namespace(json=True)))
    kinds = {"compute": (COMPUTE, HISTORY), "conductor": (CONDUCTOR, HISTORY)}
    monkeypatch.setattr("minova.conductor.upgrade_checks._KINDS", kinds)


@pytest.fixture(autouse=True)
def queues(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Why the queues will not do, if they do not."""
    errors: list[Exception] = []

    def check_queues(_conf: cfg.ConfigOpts, names: list[str]) -> None:
        assert names == ["compute", "conductor"]
        for error in errors:
            raise error

    monkeypatch.setattr("minova.conductor.upgrade_checks.check_queues", check_queues)
    return errors


@pytest.fixture
def configure(tmp_path: Path) -> Iterator[Callable[..., cfg.ConfigOpts]]:
    """Load a configuration; by default a sound one, with a database in the test's folder."""

    def configure(more: str = "", connection: str = f"sqlite:///{tmp_path}/minova.sqlite") -> cfg.ConfigOpts:
        file = tmp_path / "minova.conf"
        text = f"[DEFAULT]\ntransport_url = rabbit://broker/\n[database]\nconnection = {connection}\n{more}"
        file.write_text(text)
        load.load(cfg.CONF, [f"--config-file={file}"], "minova-status")
        return cfg.CONF

    yield configure
    cfg.CONF.reset()


@pytest.fixture
def conf(configure: Callable[..., cfg.ConfigOpts]) -> cfg.ConfigOpts:
    return configure()


@pytest.fixture
def database(conf: cfg.ConfigOpts) -> Iterator[Database]:
    """The configured database, migrated."""
    with Database(conf) as database:
        migration.upgrade(database)
        yield database


@pytest.fixture
def check(conf: cfg.ConfigOpts, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run the checks: return the exit status, and each check's name, code and details."""

    def check(mistake: ConfigurationError | None = None) -> tuple[int, dict[str, tuple[int, str]]]:
        checks = UpgradeChecks(conf)
        checks.mistake = mistake
        code = int(checks.check())
        shown = json.loads(capsys.readouterr().out)["checks"]
        return code, {each["check"]: (each["result"], each["details"] or "") for each in shown}

    return check


def add_service(
    database: Database, binary: str, host: str, version: str, seconds_ago: float = 0.0, **more: Any
) -> None:
    now = utcnow()
    seen = now - timedelta(seconds=seconds_ago)
    row = models.Service(binary=binary, host=host, rpc_version=version, started_at=now, last_seen_at=seen, **more)
    database.write(lambda session: session.add(row))


def add_action(database: Database, action_id: str, step: str, status: ActionStatus = ActionStatus.RUNNING) -> None:
    now = utcnow()
    row = models.Action(
        id=action_id,
        verb=Verb.STOP,
        instance_uuid=action_id,
        status=status,
        step=step,
        owner="here/1",
        lease_expires_at=now,
        heard_at=now,
        previous_vm_state=VmState.ACTIVE,
        args={},
        data={},
        request_id="",
        user="",
        submitted_at=now,
    )
    database.write(lambda session: session.add(an_instance(action_id)))
    database.write(lambda session: session.add(row))


def test_all_is_well(database: Database, check: Callable[..., Any]) -> None:
    for host in ("host1", "host2"):
        add_service(database, COMPUTE, host, "1.2")
    add_service(database, CONDUCTOR, "c1", "1.2")
    add_service(database, COMPUTE, "fenced", "1.0", forced_down=True)
    add_action(database, "known", "power_off")
    code, found = check()
    assert code == SUCCESS
    assert set(found.values()) == {(SUCCESS, "")}
    assert list(found) == [
        "Configuration",
        "Database",
        "Open actions",
        "Queues",
        "Silent services",
        "Versions: compute",
        "Pin: compute",
        "Versions: conductor",
        "Pin: conductor",
    ]


def test_configuration_that_this_release_does_not_take(check: Callable[..., Any]) -> None:
    code, found = check(ConfigurationError(reason="no such option"))
    assert (code, found) == (FAILURE, {"Configuration": (FAILURE, "configuration: no such option")})


def test_level_that_this_release_does_not_have(configure: Callable[..., Any], check: Callable[..., Any]) -> None:
    configure("[upgrade_levels]\ncompute = 1.7\n")
    code, found = check()
    assert (code, list(found)) == (FAILURE, ["Configuration"])
    assert "[upgrade_levels] compute = 1.7: no such version" in found["Configuration"][1]


def test_database_that_cannot_be_read(configure: Callable[..., Any], check: Callable[..., Any], tmp_path: Path) -> None:
    configure(connection=f"sqlite:///{tmp_path}")
    code, found = check()
    assert (code, list(found)) == (FAILURE, ["Configuration", "Database"])
    assert found["Database"] == (FAILURE, f"database: sqlite:///{tmp_path}: unable to open database file")


def test_empty_database(check: Callable[..., Any]) -> None:
    code, found = check()
    assert (code, list(found)) == (FAILURE, ["Configuration", "Database"])
    assert found["Database"][1].endswith("run minova-manage db sync")


def test_database_that_is_behind(
    database: Database, check: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "newest", lambda: "0099")
    monkeypatch.setattr(migration, "contract_dependents", lambda _conf, _database: [])
    add_service(database, CONDUCTOR, "c1", "1.1")
    code, found = check()
    assert code == WARNING
    before = migration.current(database)
    told = f"it is at revision {before}, and this release needs 0099: run minova-manage db sync before its services are"
    assert found["Database"] == (WARNING, f"{told} started")
    assert found["Versions: conductor"][0] == WARNING


def test_database_that_cannot_be_migrated_yet(
    database: Database, check: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "contract_dependents", lambda _conf, _database: ["conductor c1 needs it"])
    assert check()[1]["Database"] == (FAILURE, "it cannot be migrated yet: conductor c1 needs it")


def test_newer_database_that_this_release_can_work_with(database: Database, check: Callable[..., Any]) -> None:
    database.write(lambda session: session.execute(text("update alembic_version set version_num = '9999'")))
    code, found = check()
    assert code == WARNING
    assert found["Database"] == (WARNING, "a newer release has migrated it to 9999; this one can work with that")


def test_newer_database_that_this_release_cannot_work_with(database: Database, check: Callable[..., Any]) -> None:
    database.write(lambda session: session.execute(text("update alembic_version set version_num = '9999'")))
    database.write(lambda session: session.execute(text("drop table instance_faults")))
    code, found = check()
    assert code == FAILURE
    assert "it has no table instance_faults: upgrade minova" in found["Database"][1]


def test_actions_that_this_release_does_not_know(database: Database, check: Callable[..., Any]) -> None:
    add_action(database, "strange", "step_of_tomorrow")
    add_action(database, "ended", "step_of_yesterday", ActionStatus.FAILED)
    code, found = check()
    assert code == FAILURE
    assert found["Open actions"] == (
        FAILURE,
        "action strange: a stop has no step 'step_of_tomorrow': let them end before the last conductor that knows them "
        "is stopped",
    )


def test_many_such_actions_are_counted(database: Database, check: Callable[..., Any]) -> None:
    for number in range(8):
        add_action(database, f"strange{number}", "step_of_tomorrow")
    details = check()[1]["Open actions"][1]
    assert details.count("step_of_tomorrow") == 5
    assert "; and 3 more: " in details


def test_services_that_are_silent(database: Database, check: Callable[..., Any]) -> None:
    add_service(database, COMPUTE, "host1", "1.2")
    add_service(database, COMPUTE, "host7", "1.1", seconds_ago=1000)
    code, found = check()
    assert code == WARNING
    told = "not heard from for 60 s, and of no account until they are: minova-compute on host7 (1.1)"
    assert found["Silent services"] == (WARNING, told)
    assert found["Versions: compute"][0] == SUCCESS


@pytest.mark.parametrize(("binary", "topic"), [(COMPUTE, "compute"), (CONDUCTOR, "conductor")])
def test_older_services_hold_the_pin_back(
    database: Database, check: Callable[..., Any], binary: str, topic: str
) -> None:
    for host, version in (("host1", "1.2"), ("host2", "1.1"), ("host3", "1.0")):
        add_service(database, binary, host, version)
    code, found = check()
    assert code == WARNING
    assert found[f"Versions: {topic}"] == (
        WARNING,
        "host3 holds the pin; older than 1.2 are host2 (1.1), host3 (1.0): until they are upgraded and SIGHUP is sent, "
        "what needs up to 1.2 is refused",
    )


def test_services_that_are_newer_than_this_release(database: Database, check: Callable[..., Any]) -> None:
    add_service(database, COMPUTE, "host1", "1.5")
    code, found = check()
    assert (code, found["Versions: compute"]) == (WARNING, (WARNING, "newer than this release, 1.2, are host1 (1.5)"))


@pytest.mark.parametrize("version", ["0.9", "2.0"])
def test_services_of_another_major_version(database: Database, check: Callable[..., Any], version: str) -> None:
    add_service(database, COMPUTE, "host1", version)
    add_service(database, COMPUTE, "host2", "1.2")
    code, found = check()
    assert code == FAILURE
    told = f"host1 ({version}) and this release, 1.2, do not understand each other"
    assert found["Versions: compute"] == (FAILURE, told)


@pytest.mark.parametrize(
    ("level", "lowest", "result", "told"),
    [
        ("auto", "1.0", SUCCESS, ""),
        ("1.1", "1.1", SUCCESS, ""),
        ("1.1", "1.2", WARNING, "[upgrade_levels] compute = 1.1 is less than all that live can do"),
        ("1.2", "1.1", FAILURE, "[upgrade_levels] compute = 1.2 is more than host2 understands"),
    ],
)
def test_level_that_is_set_by_hand(
    configure: Callable[..., Any],
    database: Database,
    check: Callable[..., Any],
    level: str,
    lowest: str,
    result: int,
    told: str,
) -> None:
    configure(f"[upgrade_levels]\ncompute = {level}\n")
    add_service(database, COMPUTE, "host1", "1.2")
    add_service(database, COMPUTE, "host2", lowest)
    code, details = check()[1]["Pin: compute"]
    assert code == result
    assert details.startswith(told)


def test_level_below_this_release_while_nobody_lives(configure: Callable[..., Any], check: Callable[..., Any]) -> None:
    with Database(configure("[upgrade_levels]\ncompute = 1.1\n")) as database:
        migration.upgrade(database)
    assert check()[1]["Pin: compute"][0] == WARNING


def test_services_of_an_embedded_cluster_are_of_no_account(
    database: Database, conf: cfg.ConfigOpts, check: Callable[..., Any]
) -> None:
    """They are silent between two commands, and always of the release that is installed."""
    add_service(database, COMPUTE, "host1", "1.2", seconds_ago=1000)
    conf.set_override("transport_url", "fake://")
    code, found = check()
    assert (code, list(found)) == (SUCCESS, ["Configuration", "Database", "Open actions"])


def test_queues_of_another_type_stop_an_upgrade(
    database: Database, check: Callable[..., Any], queues: list[Exception]
) -> None:
    queues.append(ConfigurationError(reason="they are classic"))
    code, found = check()
    assert (code, found["Queues"]) == (FAILURE, (FAILURE, "configuration: they are classic"))


def test_broker_that_is_away_is_worth_a_look(
    database: Database, check: Callable[..., Any], queues: list[Exception]
) -> None:
    queues.append(BrokerUnreachable(reason="ConnectionRefusedError", option="[DEFAULT] transport_url"))
    code, found = check()
    assert (code, found["Queues"][0]) == (WARNING, WARNING)
    assert "the queues could not be looked at: the broker cannot be reached" in found["Queues"][1]
