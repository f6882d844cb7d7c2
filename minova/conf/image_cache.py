"""How a compute keeps the images that its guests are made from."""

from oslo_config import cfg

GROUP = cfg.OptGroup("image_cache", "How a compute keeps the images that its guests are made from")

OPTS: list[cfg.Opt] = [
    cfg.IntOpt(
        "manager_interval",
        default=2400,
        min=1,
        max=86400,
        help="Seconds between two looks for images that no guest uses any more, read when the compute starts.",
    ),
    cfg.BoolOpt(
        "remove_unused_base_images",
        default=True,
        help="Whether images that no guest uses any more are removed.",
    ),
    cfg.IntOpt(
        "remove_unused_original_minimum_age_seconds",
        default=86400,
        min=600,
        max=31_536_000,
        help="Seconds for which an image is kept that no guest uses. At least ten minutes: a guest that is being made "
        "does not use its image yet.",
    ),
    cfg.IntOpt(
        "reserved_disk_mb",
        default=1024,
        min=0,
        max=2**40,
        help="MiB that an image has to leave free on the disk to which it is fetched. A host that has less refuses the "
        "guest, and another is tried.",
    ),
    cfg.IntOpt(
        "fetch_timeout",
        default=60,
        min=1,
        max=3600,
        help="Seconds for which a server from which an image is fetched may be silent before it is given up.",
    ),
    cfg.IntOpt(
        "fetch_time_limit",
        default=3600,
        min=1,
        max=604_800,
        help="Seconds that the fetching of one file of an image may take in all, however much comes: all guests that "
        "are to be made from it wait meanwhile.",
    ),
]
