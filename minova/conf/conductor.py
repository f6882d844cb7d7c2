"""How conductors run actions."""

from oslo_config import cfg

GROUP = cfg.OptGroup("conductor", "How conductors run actions")

OPTS: list[cfg.Opt] = [
    cfg.IntOpt(
        "workers",
        default=1,
        min=1,
        max=256,
        help="Number of processes of one minova-conductor, read when it starts. Each is a conductor of its own behind "
        "the one queue; one that dies is started again.",
    ),
    cfg.IntOpt(
        "lease",
        default=15,
        min=1,
        max=3600,
        help="Seconds for which an action belongs to whoever works on it. The lease is renewed while the work goes on; "
        "when it runs out, another conductor takes the action over. Computes renew the leases of the orders that they "
        "hold, and pace themselves by it too: set it alike on all hosts.",
    ),
    cfg.FloatOpt(
        "sweep_interval",
        default=5.0,
        min=0.1,
        max=3600,
        help="Seconds between two looks for actions whose lease has run out.",
    ),
    cfg.IntOpt(
        "unresponsive_timeout",
        default=300,
        min=1,
        max=86400,
        help="Seconds for which an action waits for a compute from which nothing is heard. After that the step fails "
        "and the action is undone as far as the other hosts can do it.",
    ),
    cfg.IntOpt(
        "threads",
        default=16,
        min=1,
        max=1024,
        help="Number of steps that one conductor process works on at the same time. A step that waits for a compute "
        "takes no thread.",
    ),
]
