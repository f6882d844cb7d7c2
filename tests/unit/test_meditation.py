"""The report that a process writes at SIGUSR2; that each does, tests/functional/test_launcher.py shows."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg
from oslo_reports import opts

from minova.exception import ConfigurationError
from minova.meditation import Meditation, answer


@pytest.fixture(autouse=True)
def options(conf: cfg.ConfigOpts) -> Iterator[None]:
    """The options of oslo.reports, and the signal's handler as it was."""
    for group, options in opts.list_opts():
        conf.register_opts(options, group)
    before = signal.getsignal(signal.SIGUSR2)
    yield
    signal.signal(signal.SIGUSR2, before)


def report(conf: cfg.ConfigOpts, capsys: pytest.CaptureFixture[str]) -> str:
    signal.raise_signal(signal.SIGUSR2)
    return capsys.readouterr().err


def test_report_tells_what_the_service_does(conf: cfg.ConfigOpts, capsys: pytest.CaptureFixture[str]) -> None:
    answer(conf, "minova-some", lambda: {"doing": ["this"], "pools": {"steps": "1 of 2"}})
    text = report(conf, capsys)
    section = text.partition("Service")[2]
    assert "doing = \n  this" in section
    assert "pools = \n  steps = 1 of 2" in section
    assert "product = minova" in text


def test_process_that_serves_nothing_has_no_such_section(
    conf: cfg.ConfigOpts, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(conf, "minova-some", lambda: {"doing": ["this"]})
    answer(conf, "minova-some")
    assert "doing" not in report(conf, capsys).partition("Configuration")[2]


def test_passwords_in_urls_are_left_out(conf: cfg.ConfigOpts, capsys: pytest.CaptureFixture[str]) -> None:
    answer(conf, "minova-some", lambda: {"urls": ["rabbit://me:hush@a,me:hush@b/", "http://host/x"]})
    text = report(conf, capsys)
    assert "hush" not in text
    assert "rabbit://***@b/" in text
    assert "http://host/x" in text


def test_report_goes_to_a_file_of_the_processs_own(
    conf: cfg.ConfigOpts, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    conf.set_override("log_dir", str(tmp_path), "oslo_reports")
    answer(conf, "minova-some")
    assert report(conf, capsys) == ""
    [file] = tmp_path.glob("minova-some-*_gurumeditation_*")
    assert "Guru Meditation" in file.read_text()


def test_file_to_watch_that_is_not_there(conf: cfg.ConfigOpts, tmp_path: Path) -> None:
    conf.set_override("file_event_handler", str(tmp_path / "nosuch"), "oslo_reports")
    with pytest.raises(ConfigurationError, match=r"\[oslo_reports\] file_event_handler = .*nosuch: No such file"):
        answer(conf, "minova-some")
    assert Meditation.persistent_sections == []
