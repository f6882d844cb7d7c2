"""minova-compute: read the configuration, check what can be checked, serve."""

import sys

from minova.cmd import init_backend

init_backend()

from oslo_config import cfg  # noqa: E402

from minova.cmd.daemon import run_daemon  # noqa: E402
from minova.compute.rpcapi import TOPIC as OWN_TOPIC  # noqa: E402
from minova.compute.service import ComputeService  # noqa: E402
from minova.conductor.rpcapi import HISTORY, TOPIC  # noqa: E402
from minova.rpc.queues import require_queues  # noqa: E402
from minova.rpc.transport import get_transport  # noqa: E402
from minova.rpc.versions import check_level  # noqa: E402
from minova.service import Master  # noqa: E402
from minova.virt.factory import make_driver  # noqa: E402

PROG = "minova-compute"


def build(conf: cfg.ConfigOpts, _master: Master) -> ComputeService:
    """Put the compute of this host together."""
    return ComputeService(conf, get_transport(conf), conf.host, make_driver(conf, conf.host))


def check(conf: cfg.ConfigOpts) -> None:
    """Check that the virt driver works, and pins and queues fit. :raises MinovaError: they do not, and why."""
    check_level(conf, TOPIC, HISTORY)
    make_driver(conf, conf.host).capacity()
    require_queues(conf, OWN_TOPIC, conf.host)


def main() -> int:
    """Run minova-compute until it is told to stop; return its exit status."""
    return run_daemon(PROG, sys.argv[1:], build, check)


if __name__ == "__main__":
    sys.exit(main())
