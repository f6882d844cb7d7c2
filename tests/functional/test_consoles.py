"""Consoles are written to by way of their hosts, and nothing of that is kept anywhere."""

import logging
from collections.abc import Callable

import pytest
from oslo_config import cfg

from minova.exception import GuestNotFound, InvalidInput, NoGuest, OperationRefused, PeerTooOld
from minova.objects import INPUT_LENGTH
from minova.virt.fake import FakeDriver
from tests.fixtures.lab import Lab

SECRET = "gehêim 名\r"


class Written:
    """What arrives at the consoles of fake guests, as (host, UUID, text)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pieces: list[tuple[str, str, str]] = []

        def console_input(driver: FakeDriver, uuid: str, text: str) -> None:
            self.pieces.append((driver._host, uuid, text))

        monkeypatch.setattr(FakeDriver, "console_input", console_input)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    return Written(monkeypatch)


def test_what_is_written_goes_where_the_instance_is(lab: Lab, written: Written) -> None:
    uuid = lab.boot(host="host1").uuid
    lab.api.send_console_input(lab.ctxt, "vm", SECRET)
    lab.succeed(lab.api.migrate_instance(lab.ctxt, "vm", "host2"))
    lab.api.send_console_input(lab.ctxt, uuid, "")
    assert written.pieces == [("host1", uuid, SECRET), ("host2", uuid, "")]


def test_nothing_of_it_is_kept(lab: Lab, written: Written, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    lab.boot()
    actions = lab.api.list_actions(lab.ctxt)
    lab.api.send_console_input(lab.ctxt, "vm", SECRET)
    assert [text for _host, _uuid, text in written.pieces] == [SECRET]
    assert "send_console_input" in caplog.text
    assert SECRET.strip() not in caplog.text
    assert lab.api.list_actions(lab.ctxt) == actions


def test_errors_do_not_quote_it(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    lab.boot()
    with pytest.raises(OperationRefused, match=r"console_input on host .*: its guests have no console") as caught:
        lab.api.send_console_input(lab.ctxt, "vm", SECRET)
    assert SECRET.strip() not in repr(caught.value) + caplog.text


@pytest.mark.meets_errors
def test_too_much_at_once_is_refused(lab: Lab, written: Written, caplog: pytest.LogCaptureFixture) -> None:
    lab.boot()
    lab.api.send_console_input(lab.ctxt, "vm", "名" * INPUT_LENGTH)
    with pytest.raises(InvalidInput, match="text: Expected `str` of length <= 1024"):
        lab.api.send_console_input(lab.ctxt, "vm", "名" * (INPUT_LENGTH + 1))
    assert len(written.pieces) == 1
    assert "名" not in caplog.text


def test_guest_that_is_not_there(lab: Lab) -> None:
    lab.boot(host="host2")
    lab.guest_file("host2", lab.instance().uuid).unlink()
    with pytest.raises(GuestNotFound, match="host host2 has no guest"):
        lab.api.send_console_input(lab.ctxt, "vm", "x")
    lab.succeed(lab.api.delete_instance(lab.ctxt, "vm"))


def test_instance_without_a_guest(lab: Lab) -> None:
    lab.set("fake", failures=["spawn"])
    lab.fail(lab.api.boot_instance(lab.ctxt, lab.request()))
    with pytest.raises(NoGuest, match="instance vm has no guest on any host"):
        lab.api.send_console_input(lab.ctxt, "vm", "x")


def test_older_host(conf: cfg.ConfigOpts, lab: Lab) -> None:
    lab.boot()
    conf.set_override("compute", "1.3", "upgrade_levels")
    lab.cluster.conductors[0].reset()
    with pytest.raises(PeerTooOld, match=r"compute.send_console_input needs RPC version 1.4, but .* holds it at 1.3"):
        lab.api.send_console_input(lab.ctxt, "vm", "x")


def test_drivers_are_closed_at_the_end(make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    monkeypatch.setattr(FakeDriver, "close", lambda driver: closed.append(driver._host), raising=False)
    lab = make_lab("host1", "host2")
    assert closed == []
    lab.stop_compute("host1")
    assert closed == ["host1"]
