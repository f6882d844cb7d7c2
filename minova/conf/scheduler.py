"""How a host is chosen."""

from oslo_config import cfg

GROUP = cfg.OptGroup("scheduler", "How a host is chosen for an instance")

OPTS: list[cfg.Opt] = [
    cfg.IntOpt(
        "max_attempts",
        default=3,
        min=1,
        max=100,
        help="Number of hosts that are tried when hosts refuse an instance that was scheduled to them.",
    ),
    cfg.IntOpt(
        "max_candidates",
        default=50,
        min=1,
        max=10000,
        help="Number of hosts with room that are weighed; more cost time and gain little.",
    ),
    cfg.FloatOpt(
        "ram_weight_multiplier",
        default=1.0,
        help="How much free memory counts. Positive spreads instances over hosts, negative stacks them.",
    ),
    cfg.FloatOpt(
        "cpu_weight_multiplier",
        default=1.0,
        help="How much free virtual CPUs count. Positive spreads instances over hosts, negative stacks them.",
    ),
]
