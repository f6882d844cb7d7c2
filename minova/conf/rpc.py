"""How long a caller waits."""

from oslo_config import cfg

GROUP = cfg.OptGroup("rpc", "How long a caller waits for an answer")

OPTS: list[cfg.Opt] = [
    cfg.FloatOpt(
        "ping_timeout",
        default=2.0,
        min=0.1,
        max=60,
        help="Seconds to wait for the answer to a ping.",
    ),
    cfg.FloatOpt(
        "quick_timeout",
        default=10.0,
        min=0.1,
        max=600,
        help="Seconds to wait for an answer that needs no work: a look-up, a ping, a report.",
    ),
    cfg.FloatOpt(
        "normal_timeout",
        default=60.0,
        min=0.1,
        max=3600,
        help="Seconds to wait for an answer that needs a hypervisor or a decision of the scheduler.",
    ),
]
