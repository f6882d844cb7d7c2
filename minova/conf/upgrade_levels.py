"""At which RPC versions peers are held."""

from oslo_config import cfg

GROUP = cfg.OptGroup("upgrade_levels", "At which RPC versions to hold the messages to a service during an upgrade")

_HELP = (
    "RPC version to which messages to the %s service are limited. auto: the lowest that any live one reports, "
    "resolved once, and again at SIGHUP. A version such as 1.0 holds it there."
)


def _level(service: str) -> cfg.Opt:
    return cfg.StrOpt(
        service,
        default="auto",
        regex=r"^(auto|\d+\.\d+)$",
        help=_HELP % service,
    )


OPTS: list[cfg.Opt] = [_level("conductor"), _level("compute")]
