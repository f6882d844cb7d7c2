"""What the daemons' entry points have in common."""

import sys
from collections.abc import Callable, Sequence

from oslo_config import cfg

from minova import failpoints, meditation
from minova.conf import load
from minova.exception import ConfigurationError, MinovaError
from minova.launcher import Build, serve
from minova.rpc.transport import get_transport, is_fake


def run_daemon(
    prog: str,
    args: Sequence[str],
    build: Build,
    check: Callable[[cfg.ConfigOpts], None],
    workers: Callable[[cfg.ConfigOpts], int] = lambda _conf: 1,
) -> int:
    """Run a service until it is told to stop.

    :param check: raises a MinovaError for what would keep the service from working.
    :param workers: says how many processes serve.
    :returns: the exit status; 1, and one line on standard error, for a mistake of the operator's.
    """
    try:
        load.load(cfg.CONF, list(args), prog)
        load.setup_logging(cfg.CONF, file=None, debug=cfg.CONF.debug)
        failpoints.activate(prog, cfg.CONF.host)
        _require_broker(prog, cfg.CONF)
        meditation.answer(cfg.CONF, prog)  # before the checks, which may wait for the database and the broker
        check(cfg.CONF)
    except MinovaError as error:
        sys.stderr.write(f"{prog}: error: {error.message}\n")
        return 1
    serve(cfg.CONF, prog, build, workers(cfg.CONF))
    return 0


def _require_broker(prog: str, conf: cfg.ConfigOpts) -> None:
    if is_fake(conf):
        reason = (
            f"transport_url is {conf.transport_url}, which cannot leave its process, so nobody could reach {prog}: "
            "set [DEFAULT] transport_url = rabbit://user:password@host:5672/ (minova-manage needs no daemons with fake)"
        )
        raise ConfigurationError(reason=reason)
    get_transport(conf).cleanup()
