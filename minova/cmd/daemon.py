"""What the daemons' entry points have in common."""

import sys
from collections.abc import Callable, Sequence

from oslo_config import cfg

from minova.conf import load
from minova.exception import ConfigurationError, MinovaError
from minova.rpc.transport import get_transport, is_fake
from minova.service import Service, serve


def run_daemon(
    prog: str,
    args: Sequence[str],
    build: Callable[[cfg.ConfigOpts], Service],
    check: Callable[[cfg.ConfigOpts], None],
) -> int:
    """Run a service until it is told to stop.

    :param check: raises a MinovaError for what would keep the service from working.
    :returns: the exit status; 1 with one line on standard error for a mistake of the operator's.
    """
    try:
        load.load(cfg.CONF, list(args), prog)
        load.setup_logging(cfg.CONF, file=None, debug=cfg.CONF.debug)
        _require_broker(prog, cfg.CONF)
        check(cfg.CONF)
    except MinovaError as error:
        sys.stderr.write(f"{prog}: error: {error.message}\n")
        return 1
    serve(cfg.CONF, build)
    return 0


def _require_broker(prog: str, conf: cfg.ConfigOpts) -> None:
    if is_fake(conf):
        reason = (
            f"transport_url is {conf.transport_url}, which cannot leave its process, so nobody could reach {prog}: "
            "set [DEFAULT] transport_url = rabbit://user:password@host:5672/ (minova-manage needs no daemons with fake)"
        )
        raise ConfigurationError(reason=reason)
    get_transport(conf).cleanup()
