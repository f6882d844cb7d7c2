"""The program ``minova-manage``: global options, and what becomes of errors."""

import logging
import os
import time
import traceback
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from cliff.app import App as CliffApp

from minova.cli.commands import Commands, UnknownCommand
from minova.cli.connection import Connection, Notify, connect
from minova.cli.help import Help
from minova.exception import MinovaError

if TYPE_CHECKING:
    from oslo_config import cfg

    from minova.cli.waiting import Waiter

LOG = logging.getLogger(__name__)

FAILURE, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141
"""Exit statuses; the last two are what shells report of SIGINT and SIGPIPE."""

Configure = Callable[[list[str], bool], "tuple[cfg.ConfigOpts, str | None]"]
"""Given oslo.config's arguments and whether to debug: load the configuration and begin to log; returns the log's path.

:raises ConfigurationError: the configuration is wrong.
"""

Connect = Callable[["cfg.ConfigOpts", Notify], AbstractContextManager[Connection]]


class App(CliffApp):
    """Operate a minova cluster: its instances, hosts and services.

    Instances are named by name or UUID, actions by id, migrations by UUID.
    """

    NAME = "minova-manage"

    def __init__(
        self,
        init_backend: Callable[[], None],
        configure: Configure,
        connect: Connect = connect,
        sleep: Callable[[float], None] = time.sleep,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        stdin: TextIO | None = None,
    ) -> None:
        """Make the program; neither ``init_backend`` nor ``configure`` is called before a command needs it."""
        # Deferred, so that --help may stand behind a noun or a whole command.
        super().__init__(self.__doc__, None, Commands(), stdin, stdout, stderr, deferred_help=True)
        self.command_manager.add_command("help", Help)
        self.init_backend = init_backend
        self._configure = configure
        self._connect = connect
        self.sleep = sleep
        self._log_file: str | None = None

    def build_option_parser(
        self, description: str | None, version: str | None, argparse_kwargs: dict[str, Any] | None = None
    ) -> ArgumentParser:
        """Return the parser of the global options."""
        # Without abbreviations: what is not meant for this parser is the command's.
        parser = ArgumentParser(prog=self.NAME, description=description, add_help=False, allow_abbrev=False)
        add = parser.add_argument
        add("-h", "--help", action="store_true", dest="deferred_help", help="show help, on a command if one is given")
        add("--version", action="store_true", help="show the version")
        add("--config-file", action="append", default=[], metavar="FILE", help="read it; can be repeated")
        add("--config-dir", action="append", default=[], metavar="DIR", help="read the *.conf files in it")
        add("--debug", action="store_true", help="log everything to standard error, and show tracebacks")
        return parser

    def configure_logging(self) -> None:
        """Leave the log alone: what is logged is not what a user is told."""

    def run(self, argv: list[str]) -> int:
        """Run the command line and return the exit status."""
        try:
            status = self._run(argv)
            self.stdout.flush()
            return status
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else 0
        except UnknownCommand as error:
            return self._fail(str(error), USAGE)
        except MinovaError as error:
            return self._fail(error.message)
        except KeyboardInterrupt:
            return INTERRUPTED
        except BrokenPipeError:
            self._give_up_stdout()
            return BROKEN_PIPE
        except Exception as error:
            return self._crash(error)

    def _run(self, argv: list[str]) -> int:
        self.options, words = self.parser.parse_known_args(argv)
        if self.options.version:
            self.stdout.write(f"{self.NAME} {version('minova')}\n")
            return 0
        if self.options.deferred_help or not words:
            words.insert(0, "help")
        if words[0].startswith("-"):
            self.parser.error(f"no such option: {words[0]}")
        return self.run_subcommand(words)

    def run_subcommand(self, argv: list[str]) -> int:
        """Run one command and return its exit status; errors are the caller's."""
        factory, name, arguments = self.command_manager.find_command(argv)
        command = factory(self, self.options)
        parser = command.get_parser(f"{self.NAME} {name}")
        return command.run(parser.parse_args(arguments))

    @cached_property
    def conf(self) -> "cfg.ConfigOpts":
        """The configuration, which is loaded when it is first needed.

        :raises ConfigurationError: it is wrong.
        """
        files = [f"--config-file={name}" for name in self.options.config_file]
        folders = [f"--config-dir={name}" for name in self.options.config_dir]
        return self.configure(files + folders)

    def configure(self, args: list[str]) -> "cfg.ConfigOpts":
        """Load the configuration that oslo.config's ``args`` name, and begin to log. :raises ConfigurationError:"""
        conf, self._log_file = self._configure(args, self.options.debug)
        return conf

    def connect(self) -> AbstractContextManager[Connection]:
        """Return the way to the cluster, as a context."""
        return self._connect(self.conf, self.notify)

    def waiter(self, connection: Connection) -> "Waiter":
        """Return what waits for actions, and shows on a terminal how far they are."""
        from minova.cli.waiting import Silence, Waiter

        if not self.stderr.isatty():
            return Waiter(connection, Silence(self.notify), self.sleep)
        from minova.cli.progress import ProgressLine

        return Waiter(connection, ProgressLine(self.stderr), self.sleep)

    def notify(self, message: str) -> None:
        """Tell the user something that is no result."""
        print(message, file=self.stderr, flush=True)

    def _fail(self, reason: str, status: int = FAILURE) -> int:
        self.notify(f"{self.NAME}: error: {reason}")
        return status

    def _crash(self, error: Exception) -> int:
        if self.options.debug:
            traceback.print_exception(error, file=self.stderr)
        where = "run it again with --debug to see where"
        if self._log_file:
            LOG.error("minova-manage failed", exc_info=error)
            where = f"the log has more: {self._log_file}"
        reason = " ".join(str(error).split())
        return self._fail(f"unexpected {type(error).__name__}: {reason} ({where})")

    def _give_up_stdout(self) -> None:
        # Python flushes it once more at exit, and would complain.
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), self.stdout.fileno())
