"""How a compute treats its guests."""

from oslo_config import cfg

from minova.states import TimeoutAction

MAX_DOWNTIME_MS = 100_000

GROUP = cfg.OptGroup("compute", "How a compute treats its guests")

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "driver",
        default="fake",
        choices=[
            ("fake", "guests that are files: for tests, demonstrations and learning"),
            ("libvirt", "QEMU/KVM guests, see [libvirt]; needs libvirt-python: pip install 'minova[libvirt]'"),
        ],
        help="The virt driver: which hypervisor runs the guests.",
    ),
    cfg.IntOpt(
        "max_concurrent_operations",
        default=8,
        min=1,
        max=1024,
        help="Number of guests that are worked on at the same time, and of those that are being made besides: they may "
        "have to wait for images. Operations on one guest always run one by one.",
    ),
    cfg.IntOpt(
        "max_concurrent_live_migrations",
        default=1,
        min=1,
        max=1024,
        help="Number of live migrations that leave this host at the same time; the rest are queued.",
    ),
    cfg.FloatOpt(
        "live_migration_progress_interval",
        default=0.5,
        min=0.05,
        max=60,
        help="Seconds between two reports of the progress of a live migration.",
    ),
    cfg.IntOpt(
        "live_migration_completion_timeout",
        default=800,
        min=0,
        max=1_000_000,
        help="Seconds that a live migration may take for each GiB of memory, and of disk if that is copied too (at "
        "least 2 GiB are counted, as in Nova), before live_migration_timeout_action is taken. 0: no limit.",
    ),
    cfg.StrOpt(
        "live_migration_timeout_action",
        default=TimeoutAction.ABORT.value,
        choices=[
            (TimeoutAction.ABORT.value, "the guest stays where it is"),
            (
                TimeoutAction.FORCE_COMPLETE.value,
                "it goes on at the destination by post-copy, if that is permitted, or else is paused until it is there",
            ),
        ],
        help="What is done with a live migration whose time is over.",
    ),
    cfg.IntOpt(
        "live_migration_downtime",
        default=500,
        min=1,
        max=MAX_DOWNTIME_MS,
        deprecated_name="migration_max_downtime",
        deprecated_group="fake",
        help="Milliseconds for which a guest may stand still at the switch-over: once what remains can be copied in "
        "this time, it is switched over.",
    ),
    cfg.BoolOpt(
        "live_migration_permit_auto_converge",
        default=False,
        help="Whether a guest that changes its memory faster than that can be copied is slowed down, more and more. "
        "Not used where post-copy is.",
    ),
    cfg.BoolOpt(
        "live_migration_permit_post_copy",
        default=False,
        help="Whether the guest of a migration that does not converge, or is forced to its end, goes on at the "
        "destination while its memory follows. Should the network or a host fail before that is over, the guest is "
        "lost.",
    ),
    cfg.FloatOpt(
        "report_retry_interval",
        default=2.0,
        min=0.05,
        max=600,
        help="Seconds between two attempts to deliver the outcome of an order, until a conductor has stored it.",
    ),
    cfg.FloatOpt(
        "cpu_allocation_ratio",
        default=4.0,
        min=0.1,
        max=1000,
        help="Virtual CPUs given out for each CPU of the host.",
    ),
    cfg.FloatOpt(
        "ram_allocation_ratio",
        default=1.0,
        min=0.1,
        max=1000,
        help="Guest memory given out for each MiB of the host's memory.",
    ),
    cfg.FloatOpt(
        "disk_allocation_ratio",
        default=1.0,
        min=0.1,
        max=1000,
        help="Guest disk given out for each GiB of the host's disk.",
    ),
]
