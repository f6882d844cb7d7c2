"""How long a caller waits, and what it may send."""

from oslo_config import cfg

GROUP = cfg.OptGroup("rpc", "How long a caller waits for an answer, and how much it may send")

OPTS: list[cfg.Opt] = [
    cfg.FloatOpt(
        "ping_timeout",
        default=2.0,
        min=0.1,
        max=60,
        help="Seconds to wait for the answer to a ping, or to news of what is underway that newer ones follow. "
        "Keep it below [conductor] lease.",
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
        help="Seconds to wait for an answer that needs work in the database: the submission of an operation.",
    ),
    cfg.FloatOpt(
        "long_timeout",
        default=600.0,
        min=2.0,
        max=86400,
        help="Seconds to wait for an answer that needs a hypervisor, while whoever is asked says that it works on it.",
    ),
    cfg.IntOpt(
        "monitor_timeout",
        default=10,
        min=2,
        max=3600,
        help="Seconds of silence after which a call with long_timeout is given up: while a peer works on one, it says "
        "so twice in this time (oslo.messaging's call_monitor_timeout).",
    ),
    cfg.IntOpt(
        "max_message_size",
        default=4 * 2**20,
        min=2**16,
        max=2**30,
        help="Bytes of JSON that a request may have; a service refuses larger ones. A report of a host needs about 200 "
        "for each guest. The broker has a limit of its own (max_message_size in rabbitmq.conf).",
    ),
]
