"""The cluster that lives in one process."""

from oslo_config import cfg

GROUP = cfg.OptGroup("embedded", "The cluster that minova-manage holds in its own process with transport_url = fake://")

OPTS: list[cfg.Opt] = [
    cfg.IntOpt(
        "hosts",
        default=2,
        min=1,
        max=100,
        help="Number of compute hosts; they are called host1, host2, and so on.",
    ),
]
