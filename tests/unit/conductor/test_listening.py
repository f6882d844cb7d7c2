"""Gaps in what a conductor hears."""

from collections.abc import Callable

import pytest
from oslo_config import cfg

from minova.conductor.listening import Listening
from tests.unit.clock import Clock

WAYS: list[Callable[[Listening], None]] = [Listening.heard, Listening.stored]


@pytest.mark.parametrize("way", WAYS)
def test_a_gap_of_more_than_a_lease_begins_it_anew(conf: cfg.ConfigOpts, way: Callable[[Listening], None]) -> None:
    clock = Clock()
    listening = Listening(conf, clock)
    began = listening.since
    for _ in range(5):
        clock.go_on(conf.conductor.lease)
        way(listening)
    assert listening.since == began
    clock.go_on(conf.conductor.lease + 1)
    assert listening.since == began, "it is not over"
    way(listening)
    assert listening.since > began


def test_who_hears_nothing_for_longer_than_a_lease_is_deaf(conf: cfg.ConfigOpts) -> None:
    clock = Clock()
    listening = Listening(conf, clock)
    clock.go_on(conf.conductor.lease)
    assert not listening.is_deaf()
    clock.go_on(1)
    listening.stored()
    assert listening.is_deaf(), "the database does not hear for it"
    listening.heard()
    assert not listening.is_deaf()


def test_who_cannot_write_down_what_it_hears_is_cut_off_as_well(conf: cfg.ConfigOpts) -> None:
    clock = Clock()
    listening = Listening(conf, clock)
    clock.go_on(conf.conductor.lease + 1)
    assert listening.is_cut_off()
    listening.heard()
    assert (listening.is_deaf(), listening.is_cut_off()) == (False, True)
    listening.stored()
    assert not listening.is_cut_off()
