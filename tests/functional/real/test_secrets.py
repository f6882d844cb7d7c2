"""No password in a URL gets into a log, an output or an error, whatever goes wrong."""

import base64
import itertools
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from minova.exception import OperationRefused
from tests.fixtures.services.database import PASSWORD
from tests.fixtures.site import BIN, Site

WRONG = "hunter2"


def logged(site: Site) -> str:
    """Return everything that daemons and commands have logged."""
    files = itertools.chain(site.folder.glob("*.log"), (site.folder / "xdg").rglob("*.log"))
    return "".join(file.read_text() for file in files)


def test_debug_logs_hold_no_password(make_site: Callable[..., Site]) -> None:
    site = make_site("[DEFAULT]\ndebug = true\n")
    site.add_conductor()
    site.add_compute("host1")
    site.wait_until_up()
    shown = [site.manage("instance", "boot", "vm"), site.manage("rpc", "ping", "--all"), site.manage("rpc", "versions")]
    assert PASSWORD not in str(shown)
    assert " DEBUG " in logged(site)
    assert PASSWORD not in logged(site)


def test_debug_logs_hold_no_user_data_and_no_secret_of_an_image(make_site: Callable[..., Site]) -> None:
    site = make_site("[DEFAULT]\ndebug = true\n[database]\nconnection_debug = 50\n")
    site.add_conductor()
    site.add_compute("host1")
    site.wait_until_up()
    data = site.folder / "user-data"
    data.write_text(f"#cloud-config\npassword: {WRONG}\n")
    url = f"https://user:{WRONG}@images.example.org/disk?token={WRONG}"
    shown = [
        site.manage("image", "add", "disk", url, "--format", "raw", "--sha256", "0" * 64),
        site.manage("image", "list"),
        site.manage("instance", "boot", "vm", "--image", "disk", "--user-data", str(data)),
        site.manage("instance", "rebuild", "vm"),
        site.manage("instance", "list"),
        site.manage("instance", "explain", "vm"),
    ]
    assert WRONG not in str(shown)
    told = logged(site)
    assert "INSERT INTO images" in told
    for secret in (WRONG, base64.b64encode(data.read_bytes()).decode()[:24]):
        assert secret not in told


def test_debug_logs_do_not_hold_what_is_written_to_consoles(make_site: Callable[..., Site]) -> None:
    site = make_site("[DEFAULT]\ndebug = true\n[database]\nconnection_debug = 50\n")
    site.add_conductor()
    site.add_compute("host1")
    site.wait_until_up()
    site.manage("instance", "boot", "vm")
    with site.connect() as connection, pytest.raises(OperationRefused, match="its guests have no console") as caught:
        connection.conductor.send_console_input(connection.ctxt, "vm", WRONG)
    assert WRONG not in repr(caught.value)
    told = logged(site)
    assert told.count("send_console_input") >= 2
    assert WRONG not in told


def run(binary: str, config: Path) -> subprocess.CompletedProcess[str]:
    args = {"minova-manage": ["service", "list"]}.get(binary, [])
    command = [BIN / binary, "--config-file", config, *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("binary", "section", "option", "port"),
    [
        ("minova-manage", "DEFAULT", "transport_url", ""),
        ("minova-manage", "DEFAULT", "transport_url", "1"),
        ("minova-conductor", "database", "connection", "1"),
        ("minova-conductor", "DEFAULT", "transport_url", ""),
        ("minova-compute", "DEFAULT", "transport_url", ""),
    ],
)
def test_refusals_hold_no_password(site: Site, binary: str, section: str, option: str, port: str) -> None:
    """The broker refuses a password, nobody listens on the broker's or on the database's port."""
    text = site.config.read_text()
    right = next(line.partition(" = ")[2] for line in text.splitlines() if line.startswith(f"{option} ="))
    wrong = right.replace(PASSWORD, WRONG)
    if port:
        address, _colon, rest = wrong.rpartition(":")
        wrong = f"{address}:{port}/{rest.partition('/')[2]}"
    config = site.folder / "wrong.conf"
    config.write_text(text.replace(right, wrong) + "[DEFAULT]\ndebug = true\nhost = other\n")
    ended = run(binary, config)
    assert ended.returncode == 1
    assert WRONG not in ended.stdout + ended.stderr
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(f"{binary}: error: ")
    assert "Traceback" not in ended.stderr
