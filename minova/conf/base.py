"""Options that every process has."""

import socket

import platformdirs
from oslo_config import cfg

GROUP = None

OPTS: list[cfg.Opt] = [
    cfg.HostAddressOpt(
        "host",
        default=socket.gethostname(),
        sample_default="<this host's name>",
        help="Name of this host towards the other services. Must be unique among the hosts, and must not change.",
    ),
    cfg.StrOpt(
        "state_path",
        default=platformdirs.user_state_dir("minova"),
        sample_default="$XDG_STATE_HOME/minova",
        help="Folder for what must outlive a process: the SQLite database and the fake driver's guests. "
        "For daemons, /var/lib/minova is usual.",
    ),
    cfg.IntOpt(
        "report_interval",
        default=10,
        min=1,
        max=3600,
        help="Seconds between two reports of a service that it is alive (and, from a compute, of its guests).",
    ),
    cfg.IntOpt(
        "service_down_time",
        default=60,
        min=2,
        max=86400,
        help="Seconds after which a service that has not reported is no longer counted on: its state is unknown. "
        "Must be larger than report_interval. A compute that could not report for as long, by its own clock, begins no "
        "more work until it is heard again: set it alike on all hosts.",
    ),
]
