"""minova-conductor: read the configuration, check what can be checked, serve."""

import sys

from minova.cmd import init_backend

init_backend()

from oslo_config import cfg  # noqa: E402

from minova.cmd.daemon import run_daemon  # noqa: E402
from minova.compute.rpcapi import HISTORY, TOPIC  # noqa: E402
from minova.conductor.rpcapi import TOPIC as OWN_TOPIC  # noqa: E402
from minova.conductor.service import ConductorService  # noqa: E402
from minova.db import migration  # noqa: E402
from minova.db.session import Database  # noqa: E402
from minova.notifications.notifier import check as check_notifications  # noqa: E402
from minova.rpc.queues import require_queues  # noqa: E402
from minova.rpc.transport import get_transport  # noqa: E402
from minova.rpc.versions import check_level  # noqa: E402
from minova.service import Master  # noqa: E402

PROG = "minova-conductor"


def build(conf: cfg.ConfigOpts, master: Master) -> ConductorService:
    """Put a conductor together, one of the workers of ``master``."""
    return ConductorService(conf, get_transport(conf), Database(conf), master)


def check(conf: cfg.ConfigOpts) -> None:
    """Check that database, pins, notifications and queues fit. :raises MinovaError: they do not."""
    check_level(conf, TOPIC, HISTORY)
    check_notifications(conf)
    database = Database(conf)
    try:
        migration.require_usable(database)
    finally:
        database.close()
    require_queues(conf, OWN_TOPIC, conf.host)


def main() -> int:
    """Run minova-conductor until it is told to stop; return its exit status."""
    return run_daemon(PROG, sys.argv[1:], build, check, lambda conf: int(conf.conductor.workers))


if __name__ == "__main__":
    sys.exit(main())
