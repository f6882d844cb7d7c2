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
        default=0.5,
        min=0.1,
        max=3600,
        help="Seconds between two looks for actions whose lease has run out, that a conductor that stops has handed "
        "over, or whose orders a compute that returns does not hold any more. Each is a short query.",
    ),
    cfg.IntOpt(
        "unresponsive_timeout",
        default=300,
        min=1,
        max=86400,
        help="Seconds for which an action waits for a compute from which nothing is heard, or whose hypervisor hangs. "
        "After that the step fails and the action is undone as far as the other hosts can do it. Time in which the "
        "conductor could not reach the broker or the database does not count.",
    ),
    cfg.IntOpt(
        "threads",
        default=16,
        min=1,
        max=1024,
        help="Number of orders that one conductor process sends at the same time. A step that waits for the outcome of "
        "one takes no thread, and one that asks a compute a question takes another.",
    ),
    cfg.IntOpt(
        "retention_days",
        default=90,
        min=0,
        max=36500,
        help="Days for which what is over is kept: actions that have ended, with their traces and migrations, faults, "
        "and deleted instances. After that conductors purge it, but for what a host that is away may still need to be "
        "told when it returns. 0: nothing is ever purged.",
    ),
    cfg.IntOpt(
        "purge_interval",
        default=3600,
        min=1,
        max=86400,
        help="Seconds between two purges of one conductor, read when it starts. A purge takes up to five minutes, and "
        "leaves the rest to the next: if more than that comes together, have them more often.",
    ),
    cfg.IntOpt(
        "purge_batch_size",
        default=20,
        min=1,
        max=1000,
        help="How many actions, faults or instances are purged in one transaction. SQLite, which has only one writer, "
        "makes everybody wait for it.",
    ),
]
