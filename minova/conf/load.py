"""Reading the configuration: the one place that knows which options exist, of minova and of its libraries."""

import argparse
from collections.abc import Iterable
from importlib.metadata import version as installed_version
from pathlib import Path

import oslo_messaging
from oslo_config import cfg
from oslo_db import options as db_options
from oslo_log import _options as log_options
from oslo_log import log
from oslo_messaging import opts as messaging_opts
from oslo_messaging import transport as messaging_transport
from oslo_messaging._drivers import amqp, impl_rabbit
from oslo_messaging.notify import notifier as messaging_notifier
from oslo_reports import opts as report_opts
from oslo_service import service

from minova import conf as minova_conf
from minova.conf import check
from minova.conf.advice import DATABASE, RABBIT, advise
from minova.exception import ConfigurationError

PROJECT = "minova"

LOG_FORMAT = "%(asctime)s.%(msecs)03d %(process)d %(levelname)s %(name)s [%(request_id)s] %(message)s"

QUIET = (
    "alembic",
    "amqp",
    "futurist",
    "kombu",
    "oslo.messaging",
    "oslo_messaging",
    "sqlalchemy",
    "stevedore",
    "urllib3",
)
"""The libraries of whose logs only warnings are wanted."""

NOTIFICATION_LOG = "oslo.messaging.notification"
"""Where the driver ``log`` of the notifications logs."""

# Kafka cannot do RPC, and there is no eventlet to open a back door into.
_MEANINGLESS_SECTIONS = frozenset({"oslo_messaging_kafka"})
_MEANINGLESS_OPTIONS = frozenset({"backdoor_port", "backdoor_socket"})


def set_defaults() -> None:
    """Change the libraries' defaults to minova's, for this process and for oslo-config-generator."""
    # oslo.messaging has a function for its exchange, none for its URL.
    cfg.set_defaults(messaging_transport._transport_opts, transport_url="fake://")
    oslo_messaging.set_transport_defaults(PROJECT)
    cfg.set_defaults(impl_rabbit.rabbit_opts, rabbit_quorum_queue=True, kombu_missing_consumer_retry_timeout=5)
    advise((*impl_rabbit.rabbit_opts, *amqp.amqp_opts), RABBIT)
    # None at all means the same, but cannot be shown in the sample.
    cfg.set_defaults(messaging_notifier._notifier_opts, driver=["noop"])
    cfg.set_defaults(db_options.database_opts, connection=minova_conf.DEFAULT_CONNECTION)
    advise(db_options.database_opts, DATABASE)
    log.set_defaults(LOG_FORMAT, [*(f"{name}=WARNING" for name in QUIET), f"{NOTIFICATION_LOG}=INFO"])


def load(conf: cfg.ConfigOpts, args: list[str], prog: str) -> None:
    """Register every option, and read the command line and the configuration files.

    :param conf: what to fill; a second call fills it anew.
    :param args: the command line, without the program's name.
    :param prog: the program's name; ``<prog>.conf`` is read after ``minova.conf``.
    :raises ConfigurationError: a file cannot be read, or something in it is unknown or wrong.
    :raises SystemExit: the command line is wrong, or asks for help.
    """
    set_defaults()
    _register(conf)
    # Before oslo.config reads the files, for it exits with a message of its own at some of the mistakes.
    check.check_files(_files(args, prog), all_opts(), conf)
    _parse(conf, args, prog)
    check.check_values(conf)


def reload(conf: cfg.ConfigOpts) -> None:
    """Read the configuration files again.

    :raises ConfigurationError: as :func:`load`; the values stay as they were.
    """
    files = [Path(name) for name in conf.config_file] + _files_in(conf.config_dir)
    check.check_files(files, all_opts(), conf)
    candidate = cfg.ConfigOpts()
    _register(candidate)
    _parse(candidate, [f"--config-file={file}" for file in files], conf.prog or PROJECT)
    check.check_values(candidate)
    if not conf.reload_config_files():
        raise ConfigurationError(reason="the files changed while they were read again")


def setup_logging(conf: cfg.ConfigOpts, *, file: str | None, debug: bool) -> None:
    """Start to log.

    :param file: where to log to; None: where the options of oslo.log say.
    :param debug: log everything, whatever the configuration says.
    :raises ConfigurationError: the options of oslo.log name something that cannot be used.
    """
    if file is not None:
        conf.set_override("log_file", file)
        # What is set for daemons must not clutter the terminal of a command.
        for option in ("log_config_append", "log_dir", "use_stderr", "use_syslog", "use_journal"):
            conf.set_override(option, None if option.startswith("log") else False)
    if debug:
        conf.set_override("debug", True)
    try:
        log.setup(conf, PROJECT, installed_version(PROJECT))
    except (log.LogConfigError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigurationError(reason=f"cannot log: {check.one_line(str(error))}") from None


def list_library_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (section, options) of the libraries, as far as they mean anything here."""
    libraries = (db_options, log_options, messaging_opts, report_opts, service)
    opts = [(group or "DEFAULT", options) for library in libraries for group, options in library.list_opts()]
    return [
        (section, [option for option in options if option.dest not in _MEANINGLESS_OPTIONS])
        for section, options in opts
        if section not in _MEANINGLESS_SECTIONS
    ]


def all_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return (section, options) of minova and of its libraries: all that may be set."""
    return [(str(group), options) for group, options in minova_conf.list_opts()] + list_library_opts()


def _register(conf: cfg.ConfigOpts) -> None:
    conf.clear()
    minova_conf.register_opts(conf)
    log.register_options(conf)
    for section, options in all_opts():
        conf.register_opts(options, group=None if section == "DEFAULT" else section)


def _parse(conf: cfg.ConfigOpts, args: list[str], prog: str) -> None:
    try:
        conf(args, project=PROJECT, prog=prog, version=installed_version(PROJECT))
    except (cfg.Error, ValueError, OSError) as error:
        raise ConfigurationError(reason=check.one_line(str(error))) from None


def _files(args: list[str], prog: str) -> list[Path]:
    """Return the files that oslo.config will read, in its order."""
    parser = argparse.ArgumentParser(prog=prog, add_help=False)
    parser.add_argument("--config-file", action="append")
    parser.add_argument("--config-dir", action="append")
    given, _rest = parser.parse_known_args(args)
    files = cfg.find_config_files(PROJECT, prog) if given.config_file is None else given.config_file
    folders = cfg.find_config_dirs(PROJECT, prog) if given.config_dir is None else given.config_dir
    return [Path(name) for name in files] + _files_in(folders)


def _files_in(folders: Iterable[str]) -> list[Path]:
    return [file for folder in folders for file in sorted(Path(folder).expanduser().glob("*.conf"))]
