"""What the fake hypervisor pretends."""

from oslo_config import cfg

GROUP = cfg.OptGroup("fake", "What the fake virt driver pretends")

OPTS: list[cfg.Opt] = [
    cfg.IntOpt("vcpus", default=8, min=1, max=100_000, help="Physical CPUs of the host."),
    cfg.IntOpt("memory_mb", default=16384, min=1, max=2**40, help="Memory of the host in MiB."),
    cfg.IntOpt("disk_gb", default=500, min=1, max=2**40, help="Disk of the host in GiB."),
    cfg.FloatOpt(
        "operation_time",
        default=0.0,
        min=0.0,
        max=3600,
        help="Seconds that each operation on a guest takes, a live migration aside.",
    ),
    cfg.IntOpt(
        "migration_memory_mb",
        default=0,
        min=0,
        max=2**40,
        help="Memory in MiB that a live migration copies; 0: the memory of the guest.",
    ),
    cfg.FloatOpt(
        "migration_dirty_rate",
        default=64.0,
        min=0.0,
        max=1_000_000,
        help="MiB of memory that a guest changes in a second. A migration whose bandwidth is not larger never "
        "converges by itself.",
    ),
    cfg.FloatOpt(
        "migration_bandwidth",
        default=1024.0,
        min=0.001,
        max=1_000_000,
        help="MiB of memory that a live migration copies in a second.",
    ),
    cfg.ListOpt(
        "failures",
        default=[],
        help="Operations that fail, as names of the driver's methods, each for all hosts or for one: "
        "spawn, host2:live_migration. A spawn fails as on a host that has no room; so another host is tried.",
    ),
]
