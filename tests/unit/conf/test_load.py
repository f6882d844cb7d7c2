"""A configuration is read whole or refused with one line."""

import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from minova.conf.check import mask
from minova.conf.load import load, reload, setup_logging
from minova.context import RequestContext
from minova.exception import ConfigurationError

PROG = "minova-compute"

Write = Callable[..., Path]


@pytest.fixture
def conf() -> cfg.ConfigOpts:
    return cfg.ConfigOpts()


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a configuration file, and returns its place."""

    def write(*lines: str, name: str = "some.conf") -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines) + "\n")
        return file

    return write


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """Return the root logger, and put everything back afterwards."""
    root = logging.getLogger()
    handlers, level, hook = list(root.handlers), root.level, sys.excepthook
    yield root
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook = hook


def refusal(conf: cfg.ConfigOpts, *files: Path) -> str:
    """Load the files, which must fail, and return the one line that says why."""
    with pytest.raises(ConfigurationError) as caught:
        load(conf, [f"--config-file={file}" for file in files], PROG)
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    text = str(caught.value)
    assert "\n" not in text
    return text.removeprefix("configuration: ")


def test_defaults(conf: cfg.ConfigOpts, tmp_path: Path) -> None:
    load(conf, [], PROG)
    assert conf.transport_url == "fake://"
    assert conf.control_exchange == "minova"
    assert conf.database.connection == f"sqlite:///{tmp_path}/state/minova.sqlite"
    assert conf.embedded.hosts == 2
    assert conf.oslo_messaging_rabbit.ssl is False
    assert conf.oslo_messaging_rabbit.kombu_missing_consumer_retry_timeout == 5
    assert conf.graceful_shutdown_timeout == 60


def test_values_of_a_file(conf: cfg.ConfigOpts, write: Write) -> None:
    file = write(
        "[DEFAULT]",
        "state_path = /srv/minova",
        "debug = true",
        "[Embedded]",
        "hosts = 3",
        "[upgrade_levels]",
        "compute = 1.0",
    )
    load(conf, ["--config-file", str(file)], PROG)
    assert (conf.debug, conf.embedded.hosts, conf.upgrade_levels.compute) == (True, 3, "1.0")
    assert conf.database.connection == "sqlite:////srv/minova/minova.sqlite"


def test_later_files_and_the_command_line_win(conf: cfg.ConfigOpts, write: Write) -> None:
    first = write("[embedded]", "hosts = 3", "[DEFAULT]", "log_file = from_file", name="first.conf")
    second = write("[embedded]", "hosts = 4", name="second.conf")
    load(conf, [f"--config-file={first}", f"--config-file={second}", "--log-file=from_args"], PROG)
    assert (conf.embedded.hosts, conf.log_file) == (4, "from_args")


def test_folder_of_files(conf: cfg.ConfigOpts, write: Write) -> None:
    write("[embedded]", "hosts = 3", name="parts/1.conf")
    write("[embedded]", "hosts = 4", name="parts/2.conf")
    write("nonsense", name="parts/README")
    load(conf, ["--config-dir", "parts"], PROG)
    assert conf.embedded.hosts == 4


def test_default_files(conf: cfg.ConfigOpts, write: Write) -> None:
    write("[embedded]", "hosts = 3", "[fake]", "vcpus = 3", name=".minova/minova.conf")
    write("[embedded]", "hosts = 4", name=f".minova/{PROG}.conf")
    load(conf, [], PROG)
    assert (conf.embedded.hosts, conf.fake.vcpus) == (4, 3)


def test_default_files_are_checked(conf: cfg.ConfigOpts, write: Write) -> None:
    file = write("[embedded]", "hots = 3", name=".minova/minova.conf")
    assert refusal(conf) == f"{file}: [embedded] hots: no such option; did you mean hosts?"


def test_files_of_a_folder_are_checked(conf: cfg.ConfigOpts, write: Write) -> None:
    write("[embedded]", "hosts = many", name="parts/1.conf")
    with pytest.raises(ConfigurationError, match=r"1\.conf: \[embedded\] hosts = many"):
        load(conf, ["--config-dir=parts"], PROG)


def test_environment(conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_EMBEDDED__HOSTS", "5")
    load(conf, [], PROG)
    assert conf.embedded.hosts == 5


def test_environment_is_checked(conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_EMBEDDED__HOSTS", "1000")
    assert refusal(conf) == "[embedded] hosts: Should be less than or equal to 100"


def test_second_load_starts_anew(conf: cfg.ConfigOpts, write: Write) -> None:
    load(conf, [f"--config-file={write('[embedded]', 'hosts = 3')}"], PROG)
    load(conf, [], PROG)
    assert conf.embedded.hosts == 2


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["[embeded]", "hosts = 3"], "[embeded] no such section; did you mean embedded?"),
        (["[zzz]"], "[zzz] no such section"),
        (["[embedded]", "hots = 3"], "[embedded] hots: no such option; did you mean hosts?"),
        (["[embedded]", "zzz = 3"], "[embedded] zzz: no such option"),
        (["[DEFAULT]", "hosts = 3"], "[DEFAULT] hosts: no such option; it belongs to [embedded]"),
        (
            ["[DEFAULT]", "report-interval = 3"],
            "[DEFAULT] report-interval: no such option; did you mean report_interval?",
        ),
        (["[embedded]", "hosts = many"], "[embedded] hosts = many: integer value expected"),
        (["[conductor]", "sweep_interval = nan"], "[conductor] sweep_interval = nan: a finite number expected"),
        (["[scheduler]", "ram_weight_multiplier = -inf"], "[scheduler] ram_weight_multiplier = -inf: a finite number"),
        (["[embedded]", "hosts ="], "[embedded] hosts has no value"),
        (["[embedded]", "hosts = 0"], "[embedded] hosts = 0: Should be greater than or equal to 1"),
        (["[embedded]", "hosts = 101"], "[embedded] hosts = 101: Should be less than or equal to 100"),
        (["[compute]", "driver = xen"], "[compute] driver = xen: Valid values are [fake, libvirt], but found 'xen'"),
        (["[DEFAULT]", "debug = maybe"], "[DEFAULT] debug = maybe: Unexpected boolean value 'maybe'"),
        (["[DEFAULT]", "host = no good"], "[DEFAULT] host = no good:"),
        (["[upgrade_levels]", "compute = new"], "[upgrade_levels] compute = new:"),
        (["[database]", "max_pool_size = big"], "[database] max_pool_size = big:"),
        (["[oslo_messaging_rabbit]", "ssl = perhaps"], "[oslo_messaging_rabbit] ssl = perhaps:"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_mistake_is_named_with_its_place(conf: cfg.ConfigOpts, write: Write, lines: list[str], reason: str) -> None:
    file = write(*lines)
    assert refusal(conf, file).startswith(f"{file}: {reason}")


def test_what_would_do_nothing_is_unknown(conf: cfg.ConfigOpts, write: Write) -> None:
    assert "[oslo_messaging_kafka] no such section" in refusal(conf, write("[oslo_messaging_kafka]"))


def test_notifications_that_are_logged_are_seen(
    conf: cfg.ConfigOpts, root_logger: logging.Logger, tmp_path: Path
) -> None:
    """The rest of oslo.messaging is quieter."""
    load(conf, [], PROG)
    setup_logging(conf, file=str(tmp_path / "some.log"), debug=False)
    logging.getLogger("oslo.messaging.notification.some.event").info("told")
    logging.getLogger("oslo.messaging.other").info("left out")
    [line] = (tmp_path / "some.log").read_text().splitlines()
    assert line.endswith("told")


def test_deprecated_name_is_understood(conf: cfg.ConfigOpts, write: Write) -> None:
    load(conf, [f"--config-file={write('[DEFAULT]', 'logfile = some.log')}"], PROG)
    assert conf.log_file == "some.log"


def test_unknown_reference(conf: cfg.ConfigOpts, write: Write) -> None:
    assert "state_path" in refusal(conf, write("[DEFAULT]", "state_path = $HOMME/minova"))


def test_reference_to_a_wrong_value(conf: cfg.ConfigOpts, write: Write) -> None:
    assert "[embedded] hosts" in refusal(conf, write("[embedded]", "hosts = $state_path"))


@pytest.mark.parametrize("seconds", [5, 4])
def test_down_time_must_be_longer_than_the_interval(conf: cfg.ConfigOpts, write: Write, seconds: int) -> None:
    file = write("[DEFAULT]", "report_interval = 5", f"service_down_time = {seconds}")
    reason = f"[DEFAULT] service_down_time = {seconds} must be larger than report_interval = 5"
    assert refusal(conf, file) == f"{file}: {reason}"


def test_down_time_against_a_default(conf: cfg.ConfigOpts, write: Write) -> None:
    file = write("[DEFAULT]", "report_interval = 61")
    assert refusal(conf, file).startswith(f"{file}: [DEFAULT] service_down_time = 60 must be larger")


def test_number_from_the_environment_is_finite(conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_CONDUCTOR__SWEEP_INTERVAL", "nan")
    assert refusal(conf) == "[conductor] sweep_interval: a finite number expected"


@pytest.mark.parametrize("place", ["folder", "some/folder", "~/folder"])
def test_state_path_must_be_absolute(conf: cfg.ConfigOpts, write: Write, place: str) -> None:
    file = write("[DEFAULT]", f"state_path = {place}")
    assert refusal(conf, file) == f"{file}: [DEFAULT] state_path = {place} is not an absolute path"


def test_missing_file(conf: cfg.ConfigOpts, tmp_path: Path) -> None:
    file = tmp_path / "missing.conf"
    assert refusal(conf, file) == f"{file}: cannot be read: No such file or directory"


def test_folder_for_a_file(conf: cfg.ConfigOpts, tmp_path: Path) -> None:
    assert refusal(conf, tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


def test_missing_folder(conf: cfg.ConfigOpts) -> None:
    with pytest.raises(ConfigurationError, match="nosuch"):
        load(conf, ["--config-dir=nosuch"], PROG)


def test_unreadable_file(conf: cfg.ConfigOpts, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything: so the system has to be told to refuse."""

    def refuse(_parser: cfg.ConfigParser) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    file = write("[DEFAULT]")
    monkeypatch.setattr(cfg.ConfigParser, "parse", refuse)
    assert refusal(conf, file) == f"{file}: cannot be read: Permission denied"


def test_binary_file(conf: cfg.ConfigOpts, tmp_path: Path) -> None:
    file = tmp_path / "binary.conf"
    file.write_bytes(b"\xff\xfe\x00")
    assert refusal(conf, file) == f"{file}: not a text file"


@pytest.mark.parametrize(
    ("lines", "number"),
    [(["[DEFAULT]", "transport_url pa55word"], 2), (["host = a"], 1), (["[DEFAULT", "host = a"], 1)],
    ids=["no assignment", "no section", "no bracket"],
)
def test_malformed_file(conf: cfg.ConfigOpts, write: Write, lines: list[str], number: int) -> None:
    file = write(*lines)
    reason = refusal(conf, file)
    assert reason.startswith(f"{file}: line {number}: ")
    assert "pa55word" not in reason


@pytest.mark.parametrize(
    "lines",
    [
        ["[DEFAULT]", "transport_ulr = rabbit://me:pa55word@host/"],
        ["[DEFAULT]", "report_interval = rabbit://me:pa55word@host/"],
        ["[database]", "conection = mysql+pymysql://me:pa55word@host/db"],
        ["[embedded]", "hosts = $transport_url", "[DEFAULT]", "transport_url = rabbit://me:pa55word@host/"],
    ],
    ids=lambda lines: lines[1].split(" ", maxsplit=1)[0],
)
def test_no_secret_is_told(conf: cfg.ConfigOpts, write: Write, lines: list[str]) -> None:
    assert "pa55word" not in refusal(conf, write(*lines))


def test_wrong_command_line_is_a_matter_of_argparse(conf: cfg.ConfigOpts, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load(conf, ["--nosuch"], PROG)
    assert caught.value.code == 2
    assert PROG in capsys.readouterr().err


def test_reload_takes_new_values(conf: cfg.ConfigOpts, write: Write) -> None:
    file = write("[upgrade_levels]", "compute = 1.0")
    load(conf, [f"--config-file={file}"], PROG)
    write("[upgrade_levels]", "compute = 1.1", "[DEFAULT]", "debug = true")
    reload(conf)
    assert (conf.upgrade_levels.compute, conf.debug) == ("1.1", True)


def test_reload_of_default_files(conf: cfg.ConfigOpts, write: Write) -> None:
    write("[embedded]", "hosts = 3", name=".minova/minova.conf")
    load(conf, [], PROG)
    write("[embedded]", "hosts = 4", name=".minova/minova.conf")
    reload(conf)
    assert conf.embedded.hosts == 4


def test_reload_of_a_folder(conf: cfg.ConfigOpts, write: Write) -> None:
    write("[embedded]", "hosts = 3", name="parts/1.conf")
    load(conf, ["--config-dir=parts"], PROG)
    write("[embedded]", "hosts = 4", name="parts/2.conf")
    reload(conf)
    assert conf.embedded.hosts == 4


def test_reload_keeps_what_the_command_line_said(conf: cfg.ConfigOpts, write: Write) -> None:
    load(conf, [f"--config-file={write('[DEFAULT]')}", "--log-file=some.log"], PROG)
    reload(conf)
    assert conf.log_file == "some.log"


@pytest.mark.parametrize(
    "mistake",
    [
        ["hosts = 1000"],
        ["[conductor]", "sweep_interval = nan"],
        ["hots = 3"],
        ["nonsense"],
        ["hosts = 3", "[DEFAULT]", "report_interval = 60"],
    ],
    ids=["value", "no number", "option", "line", "together"],
)
def test_reload_of_a_mistake_changes_nothing(conf: cfg.ConfigOpts, write: Write, mistake: list[str]) -> None:
    file = write("[embedded]", "hosts = 3", "[fake]", "vcpus = 3")
    load(conf, [f"--config-file={file}"], PROG)
    write("[fake]", "vcpus = 4", "[embedded]", *mistake)
    with pytest.raises(ConfigurationError, match=str(file) if "hosts = 3" not in mistake else "larger"):
        reload(conf)
    assert (conf.embedded.hosts, conf.fake.vcpus, conf.report_interval) == (3, 3, 10)


def test_reload_of_a_file_that_is_gone_changes_nothing(conf: cfg.ConfigOpts, write: Write) -> None:
    file = write("[embedded]", "hosts = 3")
    load(conf, [f"--config-file={file}"], PROG)
    file.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        reload(conf)
    assert conf.embedded.hosts == 3


def test_log_goes_to_the_file_with_its_request_id(
    conf: cfg.ConfigOpts, root_logger: logging.Logger, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    load(conf, [], PROG)
    setup_logging(conf, file=str(tmp_path / "some.log"), debug=False)
    ctxt = RequestContext()
    logging.getLogger("minova.some").info("done")
    logging.getLogger("minova.some").debug("left out")
    logging.getLogger("sqlalchemy.engine").info("left out")
    [line] = (tmp_path / "some.log").read_text().splitlines()
    assert line.endswith(f"INFO minova.some [{ctxt.request_id}] done")
    assert capfd.readouterr() == ("", "")


def test_log_with_debug(conf: cfg.ConfigOpts, root_logger: logging.Logger, tmp_path: Path) -> None:
    load(conf, [], PROG)
    setup_logging(conf, file=str(tmp_path / "some.log"), debug=True)
    logging.getLogger("minova.some").debug("details")
    assert "DEBUG minova.some" in (tmp_path / "some.log").read_text()


def test_log_of_a_command_stays_off_the_terminal(
    conf: cfg.ConfigOpts, root_logger: logging.Logger, tmp_path: Path, write: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever the file that it shares with the daemons says."""
    file = write("[DEFAULT]", "use_stderr = true", "log_dir = elsewhere", "log_config_append = nosuch")
    load(conf, [f"--config-file={file}"], PROG)
    setup_logging(conf, file=str(tmp_path / "some.log"), debug=False)
    logging.getLogger("minova.some").warning("hidden")
    assert capfd.readouterr() == ("", "")
    assert "hidden" in (tmp_path / "some.log").read_text()


def test_log_of_a_daemon_goes_where_the_options_say(
    conf: cfg.ConfigOpts, root_logger: logging.Logger, tmp_path: Path, write: Write
) -> None:
    file = write("[DEFAULT]", f"log_dir = {tmp_path}", "log_file = daemon.log", "debug = true")
    load(conf, [f"--config-file={file}"], PROG)
    setup_logging(conf, file=None, debug=False)
    logging.getLogger("minova.some").debug("details")
    assert "details" in (tmp_path / "daemon.log").read_text()


@pytest.mark.parametrize(
    "line",
    ["log_file = nosuch/some.log", "log_config_append = nosuch", "use_syslog = true\nsyslog_log_facility = nosuch"],
)
def test_log_that_cannot_be_written(conf: cfg.ConfigOpts, root_logger: logging.Logger, write: Write, line: str) -> None:
    load(conf, [f"--config-file={write('[DEFAULT]', line)}"], PROG)
    with pytest.raises(ConfigurationError, match=r"cannot log: .*(nosuch|facility)"):
        setup_logging(conf, file=None, debug=False)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("at rabbit://user:secret@b1:5672,user:secret@b2/ now", "at rabbit://***@b2/ now"),
        ("postgresql+psycopg2://minova:secret@db/minova", "postgresql+psycopg2://***@db/minova"),
        (
            "postgresql://minova@/minova?host=/run&password=secret&sslmode=require",
            "postgresql://***@/minova?host=/run&password=***&sslmode=require",
        ),
        ("mysql://db/minova?ssl_key_passphrase=secret", "mysql://db/minova?ssl_key_passphrase=***"),
        ("x://h/?sslPassword=secret, and more", "x://h/?sslPassword=*** and more"),
        ("no url, password=plain", "no url, password=plain"),
    ],
)
def test_urls_are_shown_without_their_secrets(text: str, masked: str) -> None:
    assert mask(text) == masked


def test_option_that_has_moved_still_counts(conf: cfg.ConfigOpts, write: Write) -> None:
    load(conf, [f"--config-file={write('[fake]', 'migration_max_downtime = 77')}"], PROG)
    assert conf.compute.live_migration_downtime == 77
