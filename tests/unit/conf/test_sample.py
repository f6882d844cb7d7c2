"""The sample configuration is what oslo-config-generator makes of the options."""

import getpass
import io
import re
import socket
from pathlib import Path

import pytest
from oslo_config import cfg, generator

from minova import conf as minova_conf
from minova.conf.load import load

ROOT = Path(__file__).parents[3]
SAMPLE = ROOT / "etc/minova/minova.conf.sample"
GENERATOR = ROOT / "etc/minova/genconfig.conf"


def generate() -> str:
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf([], default_config_files=[str(GENERATOR)])
    output = io.StringIO()
    generator.generate(conf, output_file=output)
    return output.getvalue()


def options(text: str) -> dict[tuple[str, str], str]:
    """Return (section, option) to the lines that describe the option, with its default."""
    found: dict[tuple[str, str], str] = {}
    section = ""
    for block in re.split(r"\n\s*\n", text):
        header = re.search(r"^\[(\w+)\]$", block, re.MULTILINE)
        section = header[1] if header else section
        option = re.search(r"^#(\w+) =.*$", block, re.MULTILINE)
        if option:
            found[section, option[1]] = block
    return found


@pytest.fixture(scope="module")
def generated() -> dict[tuple[str, str], str]:
    return options(generate())


@pytest.fixture(scope="module")
def committed() -> dict[tuple[str, str], str]:
    return options(SAMPLE.read_text())


def test_minovas_options_are_current(
    committed: dict[tuple[str, str], str], generated: dict[tuple[str, str], str]
) -> None:
    ours = {(str(group), option.dest) for group, opts in minova_conf.list_opts() for option in opts}
    assert {key: committed.get(key) for key in ours} == {key: generated[key] for key in ours}, "run: tox -e genconfig"


def test_libraries_options_are_current(
    committed: dict[tuple[str, str], str], generated: dict[tuple[str, str], str]
) -> None:
    """A newer library may have more options, and other words for them; what the sample shows must be there."""
    assert set(committed) <= set(generated), "run: tox -e genconfig"


def test_sections_are_those_that_mean_something(committed: dict[tuple[str, str], str]) -> None:
    sections = {section for section, _option in committed}
    ours = {str(group) for group, _options in minova_conf.list_opts()}
    theirs = {"database", "oslo_messaging_notifications", "oslo_messaging_rabbit", "oslo_reports"}
    assert sections == ours | theirs


@pytest.mark.parametrize(
    ("section", "default"),
    [
        ("DEFAULT", "transport_url = fake://"),
        ("DEFAULT", "control_exchange = minova"),
        ("DEFAULT", "state_path = $XDG_STATE_HOME/minova"),
        ("oslo_messaging_notifications", "driver = noop"),
        ("database", "connection = sqlite:///$state_path/minova.sqlite"),
    ],
)
def test_defaults_of_minova_are_shown(
    committed: dict[tuple[str, str], str], generated: dict[tuple[str, str], str], section: str, default: str
) -> None:
    key = section, default.partition(" ")[0]
    assert f"#{default}" in committed[key].splitlines()
    assert f"#{default}" in generated[key].splitlines()


def test_nothing_of_this_machine_is_shown() -> None:
    text = generate()
    assert socket.gethostname() not in re.findall(r"[\w.-]+", text)
    assert getpass.getuser() not in re.findall(r"= .*\b(\w+)$", text, re.MULTILINE)
    assert str(Path.home()) not in text
    assert generate() == text


def test_every_line_can_be_taken_over(tmp_path: Path) -> None:
    """Remove the comment sign of each option that has a default, and load the file."""
    file = tmp_path / "minova.conf"
    text = re.sub(r"^#(\w+ = (?!<))", r"\1", SAMPLE.read_text(), flags=re.MULTILINE)
    file.write_text(text.replace("$XDG_STATE_HOME", str(tmp_path)))
    conf = cfg.ConfigOpts()
    load(conf, [f"--config-file={file}"], "minova-compute")
    assert conf.database.connection == f"sqlite:///{tmp_path}/minova/minova.sqlite"
