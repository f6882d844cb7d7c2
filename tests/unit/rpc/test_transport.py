"""The one way to the broker."""

import pytest
from oslo_config import cfg

from minova.conf.load import load
from minova.exception import ConfigurationError
from minova.rpc.transport import get_transport, is_fake


@pytest.fixture
def loaded() -> cfg.ConfigOpts:
    conf = cfg.ConfigOpts()
    load(conf, [], "minova-compute")
    return conf


@pytest.mark.parametrize(
    ("url", "fake"),
    [("fake://", True), ("fake:/", True), ("fake:///vhost", True), ("rabbit://host:5672/", False), ("faker://", False)],
)
def test_is_fake(loaded: cfg.ConfigOpts, url: str, fake: bool) -> None:
    loaded.set_override("transport_url", url)
    assert is_fake(loaded) is fake


def test_default_is_fake(loaded: cfg.ConfigOpts) -> None:
    assert is_fake(loaded)
    get_transport(loaded).cleanup()


def test_library_finds_its_options_as_it_wants_them(loaded: cfg.ConfigOpts) -> None:
    """It registers them once more, and refuses any that differ."""
    loaded.set_override("transport_url", "rabbit://user:secret@127.0.0.1:5672/")
    get_transport(loaded).cleanup()


@pytest.mark.parametrize(
    "url",
    ["nonsense", "nosuch://user:secret@host/", "rabbit://user:secret@host:port/", "rabbit://user:secret@[::1/"],
)
def test_bad_url_is_one_line_without_its_password(loaded: cfg.ConfigOpts, url: str) -> None:
    loaded.set_override("transport_url", url)
    with pytest.raises(ConfigurationError, match="transport_url") as caught:
        get_transport(loaded)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__
