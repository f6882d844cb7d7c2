"""Versions compare as they should, and pins are resolved once."""

import pytest
from oslo_config import cfg

from minova.objects import Pin
from minova.rpc.versions import History, Pins, Release, parse, serves

HISTORY = History(
    (
        Release(version="1.0", summary="The first.", methods=("old", "grown")),
        Release(version="1.1", summary="More.", methods=("new",), arguments=(("grown", "extra"),)),
    )
)


class Lowest:
    """Stands in for what reads the services' rows, and counts how often it is asked."""

    def __init__(self, *answers: tuple[str, str] | None) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, topic: str) -> tuple[str, str] | None:
        self.asked.append(topic)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_parse() -> None:
    assert parse("1.10") > parse("1.9")
    assert parse("2.0") > parse("1.99")


@pytest.mark.parametrize(
    ("peer", "needed", "served"),
    [("1.0", "1.0", True), ("1.2", "1.1", True), ("1.10", "1.9", True), ("1.0", "1.1", False), ("2.0", "1.0", False)],
)
def test_serves(peer: str, needed: str, served: bool) -> None:
    assert serves(peer, needed) is served


def test_history_knows_since_when() -> None:
    assert HISTORY.since == {"old": "1.0", "grown": "1.0", "new": "1.1"}
    assert HISTORY.version == "1.1"


def test_explicit_level(conf: cfg.ConfigOpts) -> None:
    conf.set_override("compute", "1.0", "upgrade_levels")
    lowest = Lowest(("1.1", "host1"))
    pin = Pins(conf, lowest).pin("compute", "1.1")
    assert pin == Pin(topic="compute", version="1.0", reason="[upgrade_levels] compute = 1.0")
    assert not lowest.asked


def test_auto_takes_the_lowest_and_says_whose_it_is(conf: cfg.ConfigOpts) -> None:
    pin = Pins(conf, Lowest(("1.0", "host7"))).pin("compute", "1.1")
    assert (pin.version, pin.reason) == ("1.0", "host host7")


def test_auto_never_exceeds_what_is_known(conf: cfg.ConfigOpts) -> None:
    pin = Pins(conf, Lowest(("1.7", "host7"))).pin("compute", "1.1")
    assert pin.version == "1.1"
    assert "host7" not in pin.reason


def test_auto_is_resolved_once_for_each_topic(conf: cfg.ConfigOpts) -> None:
    lowest = Lowest(("1.0", "host1"))
    pins = Pins(conf, lowest)
    for topic in ("compute", "conductor", "compute", "conductor"):
        pins.pin(topic, "1.1")
    assert lowest.asked == ["compute", "conductor"]
    assert [pin.topic for pin in pins.in_force()] == ["compute", "conductor"]


def test_nobody_alive_is_asked_again(conf: cfg.ConfigOpts) -> None:
    pins = Pins(conf, Lowest(None, ("1.0", "host1")))
    assert pins.pin("compute", "1.1").version == "1.1"
    assert pins.in_force() == ()
    assert pins.pin("compute", "1.1").version == "1.0"


def test_reset_resolves_again(conf: cfg.ConfigOpts) -> None:
    pins = Pins(conf, Lowest(("1.0", "host1"), ("1.1", "host1")))
    assert pins.pin("compute", "1.1").version == "1.0"
    pins.reset()
    assert pins.pin("compute", "1.1").version == "1.1"


def test_older_peer_that_comes_later_lowers_the_pin_at_once(conf: cfg.ConfigOpts) -> None:
    """A host that was silent when the pin was resolved would be sent what it does not know."""
    lowest = Lowest(("1.2", "host1"), ("1.0", "host7"), ("1.1", "host7"))
    pins = Pins(conf, lowest)
    pins.expect("compute", "1.2")
    pins.pin("compute", "1.2")
    pins.sink()
    assert pins.pin("compute", "1.2") == Pin(topic="compute", version="1.0", reason="host host7")
    pins.sink()
    assert pins.pin("compute", "1.2").version == "1.0", "only a reset raises it"


def test_sinking_resolves_what_no_message_has_asked_for_yet(conf: cfg.ConfigOpts) -> None:
    pins = Pins(conf, Lowest(("1.0", "host7")))
    pins.expect("compute", "1.2")
    pins.sink()
    assert pins.in_force() == (Pin(topic="compute", version="1.0", reason="host host7"),)


@pytest.mark.parametrize("answer", [None, ("1.2", "host1"), ("1.7", "host1")])
def test_nothing_older_lowers_nothing(conf: cfg.ConfigOpts, answer: tuple[str, str] | None) -> None:
    pins = Pins(conf, Lowest(("1.2", "host1"), answer))
    pins.expect("compute", "1.2")
    before = pins.pin("compute", "1.2")
    pins.sink()
    assert pins.pin("compute", "1.2") == before


def test_explicit_level_does_not_sink(conf: cfg.ConfigOpts) -> None:
    conf.set_override("compute", "1.1", "upgrade_levels")
    pins = Pins(conf, Lowest(("1.0", "host1")))
    pins.expect("compute", "1.2")
    pins.sink()
    assert pins.pin("compute", "1.2").version == "1.1"
