"""How a compute treats its guests."""

from oslo_config import cfg

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
        help="Number of guests that are worked on at the same time. Operations on one guest always run one by one.",
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
        help="Seconds that a live migration may take for each GiB of memory (at least 2 GiB are counted, as in Nova) "
        "before it is aborted. 0: no limit.",
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
