"""minova-conductor: read the configuration, check what can be checked, serve."""

import sys

from minova.cmd import init_backend

init_backend()

import oslo_messaging  # noqa: E402
from oslo_config import cfg  # noqa: E402

from minova.cmd.daemon import run_daemon  # noqa: E402
from minova.compute.rpcapi import HISTORY, TOPIC  # noqa: E402
from minova.conductor.service import ConductorService  # noqa: E402
from minova.db import migration  # noqa: E402
from minova.db.session import Database  # noqa: E402
from minova.notifications.notifier import check as check_notifications  # noqa: E402
from minova.rpc.transport import get_transport  # noqa: E402
from minova.rpc.versions import check_level  # noqa: E402
from minova.service import Master  # noqa: E402

PROG = "minova-conductor"


def build(conf: cfg.ConfigOpts, master: Master) -> ConductorService:
    """Put a conductor together, one of the workers of ``master``."""
    transport: oslo_messaging.Transport = get_transport(conf)
    return ConductorService(conf, transport, Database(conf), master)


def check(conf: cfg.ConfigOpts) -> None:
    """Check that the database, the pins and the notifications fit. :raises MinovaError: they do not."""
    check_level(conf, TOPIC, HISTORY)
    check_notifications(conf)
    database = Database(conf)
    try:
        migration.require_usable(database)
    finally:
        database.close()


def main() -> int:
    """Run minova-conductor until it is told to stop; return its exit status."""
    return run_daemon(PROG, sys.argv[1:], build, check, lambda conf: int(conf.conductor.workers))


if __name__ == "__main__":
    sys.exit(main())
