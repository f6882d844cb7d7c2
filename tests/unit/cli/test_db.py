"""``minova-manage db purge``, on a database of its own."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from minova.db import migration
from minova.db.session import Database
from minova.objects import utcnow
from minova.states import VmState
from tests.unit.cli.rig import Manage
from tests.unit.cli.test_connection import make_conf
from tests.unit.rows import an_instance, open_database


@pytest.fixture
def conf(manage: Manage, tmp_path: Path) -> Any:
    """Configure an empty database."""
    manage.conf = make_conf("rabbit://broker/")
    open_database(manage.conf, f"sqlite:///{tmp_path}/minova.sqlite").close()
    return manage.conf


def test_purge_tells_how_much_went(manage: Manage, conf: Any) -> None:
    migration.sync(conf)
    old = utcnow() - timedelta(days=8)
    with Database(conf) as database:
        gone = an_instance(vm_state=VmState.DELETED, created_at=old, deleted_at=old)
        database.write(lambda session: session.add(gone))
    assert manage("db", "purge", "--older-than", "9", "-c", "instances", "-f", "value").out == "0\n"
    purged = manage("db", "purge", "--older-than", "7", "-f", "json")
    assert purged.json == {"actions": 0, "faults": 0, "instances": 1}


def test_purge_needs_tables(manage: Manage, conf: Any) -> None:
    ended = manage("db", "purge", "--older-than", "7")
    told = f"it is at revision empty, but {migration.newest()} is needed: run minova-manage db sync"
    assert (ended.status, ended.err) == (1, f"minova-manage: error: database: {told}\n")


@pytest.mark.parametrize("days", ["0", "-1", "36501", str(10**30)])
def test_purge_spares_what_may_still_be_asked_for(manage: Manage, conf: Any, days: str) -> None:
    ended = manage("db", "purge", "--older-than", days)
    assert (ended.status, ended.err) == (1, f"minova-manage: error: --older-than {days}: 1 to 36500 days expected\n")
