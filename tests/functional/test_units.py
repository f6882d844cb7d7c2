"""The unit files for systemd: they are valid, and in step with the options and programs."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from oslo_service import _options

UNITS = sorted((Path(__file__).parents[2] / "etc/systemd").glob("*.service"))

every_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)


def service(unit: Path) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return parser["Service"]


def test_each_daemon_has_one() -> None:
    assert [unit.name for unit in UNITS] == ["minova-compute.service", "minova-conductor.service"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@every_unit
def test_unit_is_valid(unit: Path, tmp_path: Path) -> None:
    installed = tmp_path / unit.name
    installed.write_text(unit.read_text().replace("/usr/local/bin", str(Path(sys.executable).parent)))
    command = ["systemd-analyze", "verify", "--recursive-errors=no", str(installed)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if unit.name in line]) == (0, [])


@every_unit
def test_unit_runs_the_program_that_it_is_named_after(unit: Path) -> None:
    assert Path(service(unit)["ExecStart"]).name == unit.stem
    assert (Path(sys.executable).parent / unit.stem).exists()


@every_unit
def test_unit_lets_the_service_drain(unit: Path) -> None:
    [option] = [each for each in _options.service_opts if each.dest == "graceful_shutdown_timeout"]
    assert int(service(unit)["TimeoutStopSec"]) > option.default


@every_unit
def test_unit_waits_for_readiness_that_the_master_tells(unit: Path) -> None:
    assert (service(unit)["Type"], service(unit)["NotifyAccess"]) == ("notify", "main")


@every_unit
def test_worker_that_hangs_is_not_left_beside_its_successor(unit: Path) -> None:
    assert service(unit)["KillMode"] == "mixed"
