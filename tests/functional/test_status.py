"""``minova-status`` as a program: its exit statuses, and what it prints."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from oslo_config import cfg
from sqlalchemy import text

from minova.db import migration
from minova.db.session import Database


def run(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minova.cmd.status", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def file(conf: cfg.ConfigOpts) -> str:
    """A sound configuration, and a database that is up to date."""
    migration.sync(conf)
    return str(conf.config_file[0])


def test_nothing_in_the_way(file: str) -> None:
    done = run("--config-file", file, "upgrade", "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "| Check: Database" in done.stdout
    assert "Failure" not in done.stdout


def test_mistake_in_the_configuration_is_a_check_that_failed(tmp_path: Path) -> None:
    file = tmp_path / "wrong.conf"
    file.write_text("[conductor]\nleases = 3\n")
    done = run("--config-file", str(file), "upgrade", "check", "--json")
    assert (done.returncode, done.stderr) == (2, "")
    [check] = json.loads(done.stdout)["checks"]
    assert (check["check"], check["result"]) == ("Configuration", 2)
    assert "leases: no such option" in check["details"]


@pytest.mark.parametrize("words", [["upgrade"], ["upgrade", "chek"], ["check"], ["upgrade", "check", "--jsn"]])
def test_word_that_means_nothing_is_refused(words: list[str]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert "| Check" not in done.stdout
    assert "error:" in done.stderr.splitlines()[-1]


def test_accident_is_neither_a_yes_nor_a_no(file: str, conf: cfg.ConfigOpts) -> None:
    with Database(conf) as database:
        database.write(lambda session: session.execute(text("alter table actions rename to somewhere_else")))
    done = run("--config-file", file, "upgrade", "check")
    assert done.returncode == 255
    [line] = done.stderr.splitlines()
    assert line.startswith("minova-status: error: unexpected DBNonExistentTable: ")
