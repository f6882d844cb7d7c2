"""Weighers: which of the hosts with room is best."""

from collections.abc import Callable, Sequence

from oslo_config import cfg

from minova.db.models import ComputeNode

_Measure = Callable[[ComputeNode], float]


def rank(conf: cfg.ConfigOpts, nodes: Sequence[ComputeNode]) -> list[ComputeNode]:
    """Return the hosts, best first; equal ones in the order of their names.

    Each measure is scaled to 0..1 over the hosts, multiplied by its option in ``[scheduler]``, and summed, as Nova's
    weighers are.
    """
    weights: dict[str, float] = {node.host: 0.0 for node in nodes}
    measures: tuple[tuple[float, _Measure], ...] = (
        (conf.scheduler.ram_weight_multiplier, lambda node: node.memory_mb - node.memory_mb_used),
        (conf.scheduler.cpu_weight_multiplier, lambda node: node.vcpus - node.vcpus_used),
    )
    for multiplier, measure in measures:
        for host, scaled in _scaled(nodes, measure).items():
            weights[host] += multiplier * scaled
    return sorted(nodes, key=lambda node: (-weights[node.host], node.host))


def _scaled(nodes: Sequence[ComputeNode], measure: _Measure) -> dict[str, float]:
    values = {node.host: measure(node) for node in nodes}
    low, high = min(values.values(), default=0), max(values.values(), default=0)
    span = high - low
    return {host: (value - low) / span if span else 0.0 for host, value in values.items()}
