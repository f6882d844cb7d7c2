"""Which events are told to the world."""

from oslo_config import cfg

GROUP = cfg.OptGroup("notifications", "Which events are told to the world; how is in [oslo_messaging_notifications]")

OPTS: list[cfg.Opt] = [
    cfg.ListOpt(
        "event_types",
        default=["*"],
        help="Types of the events that are sent, with * and ? as in file names: *.error, for example, for only what "
        "went wrong, or instance.*,migration.*. docs/notifications.md has all of them. Nothing is sent at all unless "
        "[oslo_messaging_notifications] driver is messagingv2 or log.",
    ),
    cfg.IntOpt(
        "queue_size",
        default=10000,
        min=1,
        max=1000000,
        help="Number of notifications that wait in a conductor while the broker cannot be reached. What does not fit "
        "is dropped, and the log tells how many were: no operation ever waits for a notification.",
    ),
    cfg.FloatOpt(
        "drain_timeout",
        default=5.0,
        min=0,
        max=300,
        help="Seconds for which a conductor that stops goes on sending the notifications that wait.",
    ),
]
