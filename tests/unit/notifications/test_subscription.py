"""Who listens is told why there would be nothing to hear."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from oslo_config import cfg
from oslo_messaging.notify.notifier import _notifier_opts
from oslo_messaging.transport import _transport_opts

from minova.exception import ConfigurationError
from minova.notifications.notifier import GROUP
from minova.notifications.subscription import Subscription, require_on


@pytest.fixture
def conf(conf: cfg.ConfigOpts) -> cfg.ConfigOpts:
    conf.register_opts(_transport_opts)
    conf.register_opts(_notifier_opts, GROUP)
    conf.set_override("transport_url", "rabbit://me:pa55word@host/")
    conf.set_override("driver", ["log", "messagingv2"], GROUP)
    return conf


def refusal(conf: cfg.ConfigOpts) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Subscription(conf, lambda _: None)
    return str(caught.value)


def test_notifications_that_go_to_a_broker_can_be_heard(conf: cfg.ConfigOpts) -> None:
    require_on(conf)


@pytest.mark.parametrize(
    ("drivers", "told"), [([], "driver = nothing"), (["noop"], "driver = noop"), (["log"], "driver = log")]
)
def test_notifications_that_are_off(conf: cfg.ConfigOpts, drivers: list[str], told: str) -> None:
    conf.set_override("driver", drivers, GROUP)
    reason = refusal(conf)
    assert told in reason
    assert "set [oslo_messaging_notifications] driver = messagingv2" in reason


@pytest.mark.parametrize(("group", "url"), [(None, "fake://"), (GROUP, "fake://")])
def test_notifications_that_stay_in_their_process(conf: cfg.ConfigOpts, group: Any, url: str) -> None:
    conf.set_override("transport_url", url, group)
    assert "cannot leave the process" in refusal(conf)


def test_mistakes_in_the_configuration_are_told_too(conf: cfg.ConfigOpts) -> None:
    conf.set_override("driver", ["nosuch"], GROUP)
    assert "driver = nosuch" in refusal(conf)


@pytest.fixture
def subscription(conf: cfg.ConfigOpts, monkeypatch: pytest.MonkeyPatch) -> Subscription:
    broker = SimpleNamespace(
        connection=SimpleNamespace(connection_errors=(ConnectionError,), channel_errors=()),
        exchange=SimpleNamespace(name="minova"),
    )
    monkeypatch.setattr("minova.notifications.subscription._reach", lambda _conf: broker)
    return Subscription(conf, lambda _: None)


def test_ctrl_c_waits_until_the_broker_was_read(subscription: Subscription, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    def consume() -> Iterator[None]:
        subscription.on_consume_ready()
        subscription.interrupt()
        ended.append("what was being read")
        while not subscription.should_stop:
            yield
        ended.append("the farewell")

    monkeypatch.setattr(subscription, "consume", consume)
    assert list(subscription) == []
    assert ended == ["what was being read", "the farewell"]


def test_ctrl_c_does_not_wait_for_a_broker_that_is_away(
    subscription: Subscription, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def consume() -> Iterator[None]:
        attempts.append("connect")
        if len(attempts) > 1:
            subscription.interrupt()
        subscription.on_consume_ready()
        raise ConnectionError
        yield

    monkeypatch.setattr(subscription, "consume", consume)
    with pytest.raises(KeyboardInterrupt):
        list(subscription)
    assert len(attempts) == 2


def test_ctrl_c_for_the_second_time_waits_for_nothing(subscription: Subscription) -> None:
    subscription.on_consume_ready()
    subscription.interrupt()
    with pytest.raises(KeyboardInterrupt):
        subscription.interrupt()
