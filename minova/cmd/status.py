"""``minova-status upgrade check``: whether an upgrade may go on. Statuses: 0 yes, 1 with a warning, 2 no, 255 unknown.

It reads the database itself: the conductors that would be asked are those of the release before, if they run at all.
"""

import logging
import sys
from argparse import Namespace

from minova.cmd import init_backend

init_backend()

from oslo_config import cfg  # noqa: E402
from oslo_upgradecheck import upgradecheck  # noqa: E402

from minova.conductor.upgrade_checks import UpgradeChecks, add_commands  # noqa: E402
from minova.conf import load  # noqa: E402
from minova.exception import ConfigurationError  # noqa: E402

PROG = "minova-status"
UNKNOWN = 255


def main() -> int:
    """Run the checks, print what they found, and return the exit status."""
    # What libraries log, the checks say better.
    logging.getLogger().addHandler(logging.NullHandler())
    checks = UpgradeChecks(cfg.CONF)
    cfg.CONF.register_cli_opt(cfg.SubCommandOpt("command", handler=add_commands))
    # Where the library looks; its own main() would read the configuration without checking it.
    upgradecheck.CONF = Namespace(command=Namespace(json="--json" in sys.argv))  # type: ignore[assignment]
    try:
        load.load(cfg.CONF, sys.argv[1:], PROG)
    except ConfigurationError as error:
        checks.mistake = error
    try:
        return int(checks.check())
    except Exception as error:
        sys.stderr.write(f"{PROG}: error: unexpected {type(error).__name__}: {' '.join(str(error).split())}\n")
        return UNKNOWN


if __name__ == "__main__":
    sys.exit(main())
