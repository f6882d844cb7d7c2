"""``minova-manage``: what an operator types."""

import sys
from typing import TYPE_CHECKING

from minova.cli.app import App
from minova.cli.connection import log_folder
from minova.cmd import init_backend

if TYPE_CHECKING:
    from oslo_config import cfg

_ANSWERS_KEPT = 60
"""Seconds for which the broker keeps a command's queue of answers once nobody listens to it: it may be reconnecting."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line, without the program's name, and return the exit status."""
    return App(init_backend, _configure).run(sys.argv[1:] if argv is None else argv)


def _configure(args: list[str], debug: bool) -> "tuple[cfg.ConfigOpts, str | None]":
    # Here, for --help does without them.
    from oslo_config import cfg

    from minova.conf.load import load, setup_logging

    load(cfg.CONF, args, App.NAME)
    # Each command leaves such a queue behind. Those of daemons last, and may wait longer for them to be back.
    cfg.CONF.set_default("rabbit_transient_queues_ttl", _ANSWERS_KEPT, "oslo_messaging_rabbit")
    log = None if debug else str(log_folder(cfg.CONF) / f"{App.NAME}.log")
    setup_logging(cfg.CONF, file=log, debug=debug)
    return cfg.CONF, log


if __name__ == "__main__":
    sys.exit(main())
