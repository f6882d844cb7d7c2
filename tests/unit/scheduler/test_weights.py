"""Which of the hosts with room is best."""

import pytest
from oslo_config import cfg

from minova.db.models import ComputeNode
from minova.scheduler.weights import rank


def node(host: str, *, vcpus_used: int = 0, memory_mb_used: int = 0) -> ComputeNode:
    return ComputeNode(host=host, vcpus=8, vcpus_used=vcpus_used, memory_mb=8192, memory_mb_used=memory_mb_used)


def order(conf: cfg.ConfigOpts, *nodes: ComputeNode) -> list[str]:
    return [each.host for each in rank(conf, nodes)]


@pytest.fixture
def indifferent(conf: cfg.ConfigOpts) -> cfg.ConfigOpts:
    """A configuration in which nothing counts."""
    conf.set_override("ram_weight_multiplier", 0.0, "scheduler")
    conf.set_override("cpu_weight_multiplier", 0.0, "scheduler")
    return conf


def test_emptiest_host_comes_first(conf: cfg.ConfigOpts) -> None:
    nodes = (node("full", vcpus_used=8, memory_mb_used=8192), node("empty"), node("half", vcpus_used=4))
    assert order(conf, *nodes) == ["empty", "half", "full"]


@pytest.mark.parametrize("multiplier", ["ram_weight_multiplier", "cpu_weight_multiplier"])
def test_negative_multiplier_stacks(indifferent: cfg.ConfigOpts, multiplier: str) -> None:
    nodes = (node("empty"), node("full", vcpus_used=8, memory_mb_used=8192))
    indifferent.set_override(multiplier, -1.0, "scheduler")
    assert order(indifferent, *nodes) == ["full", "empty"]
    indifferent.set_override(multiplier, 1.0, "scheduler")
    assert order(indifferent, *nodes) == ["empty", "full"]


def test_multipliers_weigh_memory_against_cpus(indifferent: cfg.ConfigOpts) -> None:
    nodes = (node("cpus", memory_mb_used=8192), node("memory", vcpus_used=8))
    indifferent.set_override("ram_weight_multiplier", 1.0, "scheduler")
    indifferent.set_override("cpu_weight_multiplier", 2.0, "scheduler")
    assert order(indifferent, *nodes) == ["cpus", "memory"]
    indifferent.set_override("ram_weight_multiplier", 3.0, "scheduler")
    assert order(indifferent, *nodes) == ["memory", "cpus"]


def test_equal_hosts_come_in_the_order_of_their_names(conf: cfg.ConfigOpts) -> None:
    assert order(conf, node("b"), node("c"), node("a")) == ["a", "b", "c"]


def test_what_counts_for_nothing_changes_nothing(indifferent: cfg.ConfigOpts) -> None:
    assert order(indifferent, node("b"), node("a", vcpus_used=8, memory_mb_used=8192)) == ["a", "b"]


def test_nothing_is_ranked_as_nothing(conf: cfg.ConfigOpts) -> None:
    assert rank(conf, []) == []
