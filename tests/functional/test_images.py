"""Images are registered, instances are made from them and keep that; and what else a boot may say."""

import base64
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from oslo_config import cfg
from sqlalchemy import text

from minova.conductor.rpcapi import TOPIC
from minova.exception import GuestNotFound, InvalidInput, NoGuest, PeerTooOld, ServiceFault
from minova.exception_images import ImageExists, ImageNotFound
from minova.objects import ConsoleOutput, Guest, Image, ImageFile, Instance, utcnow
from minova.states import DiskFormat
from minova.virt.fake import FakeDriver
from tests.fixtures.lab import Lab, wait_until

SECRET = "#cloud-config\npassword: gehêim 名\n"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@home"


def a_file(name: str) -> ImageFile:
    return ImageFile(location=f"https://user:geheim@example.org/{name}?token=geheim", sha256="0123456789abcdef" * 4)


def an_image(name: str = "cirros", **more: Any) -> Image:
    values = {"uuid": str(uuid4()), "disk_format": DiskFormat.QCOW2, "disk": a_file("disk"), "created_at": utcnow()}
    return Image(**{**values, "name": name, **more})


def add(lab: Lab, name: str = "cirros", **more: Any) -> Image:
    return lab.api.add_image(lab.ctxt, an_image(name, **more))


@pytest.mark.every_database
def test_image_is_kept_as_it_was_given(lab: Lab) -> None:
    asked = an_image(kernel=a_file("kernel"), initrd=a_file("initrd"), cmdline="console=ttyS0 quiet")
    added = lab.api.add_image(lab.ctxt, asked)
    assert replace(added, created_at=asked.created_at) == asked
    assert lab.api.get_image(lab.ctxt, "cirros") == lab.api.get_image(lab.ctxt, asked.uuid) == added
    other = add(lab, "alpine", disk_format=DiskFormat.RAW)
    assert lab.api.list_images(lab.ctxt) == [other, added]


@pytest.mark.every_database
def test_image_that_is_added_twice_by_one_request_is_one(lab: Lab) -> None:
    asked = an_image()
    assert lab.api.add_image(lab.ctxt, asked) == lab.api.add_image(lab.ctxt, asked)
    assert len(lab.api.list_images(lab.ctxt)) == 1


@pytest.mark.every_database
def test_of_those_who_want_a_name_at_once_one_gets_it(lab: Lab) -> None:
    together = threading.Barrier(5)

    def ask(_number: int) -> bool:
        together.wait()
        try:
            add(lab)
        except ImageExists as refusal:
            return refusal.name != "cirros"
        return True

    with ThreadPoolExecutor(5) as pool:
        assert sorted(pool.map(ask, range(5))) == [False] * 4 + [True]
    assert len(lab.api.list_images(lab.ctxt)) == 1


@pytest.mark.every_database
def test_instance_keeps_what_it_was_made_from(lab: Lab) -> None:
    image = add(lab)
    booted = lab.boot("one", image="cirros", network="lan", ssh_keys=(KEY,))
    assert (booted.image, booted.network, booted.user_data, booted.ssh_keys) == (image, "lan", "", (KEY,))
    lab.boot("two", image=image.uuid)
    lab.boot("gone", image="cirros")
    lab.succeed(lab.api.delete_instance(lab.ctxt, "gone"))
    lab.boot("without")
    other = add(lab, "other")
    lab.boot("of another", image="other")
    assert lab.api.remove_image(lab.ctxt, "cirros") == 2
    assert lab.api.list_images(lab.ctxt) == [other]
    assert add(lab).uuid != image.uuid
    assert lab.instance("one").image == lab.instance("two").image == image
    without = lab.instance("without")
    assert (without.image, without.network, without.user_data, without.ssh_keys) == (None, None, "", ())
    lab.succeed(lab.api.rebuild_instance(lab.ctxt, "one"))
    assert lab.instance("one").image == image


@pytest.mark.every_database
@pytest.mark.parametrize("user_data", [SECRET, "名" * 21845], ids=["secret", "largest"])
def test_user_data_is_for_hosts_alone(lab: Lab, monkeypatch: pytest.MonkeyPatch, user_data: str) -> None:
    spawned: list[Instance] = []
    spawn: Callable[..., None] = FakeDriver.spawn

    def note(driver: FakeDriver, instance: Instance, **more: Any) -> None:
        spawned.append(instance)
        spawn(driver, instance, **more)

    monkeypatch.setattr(FakeDriver, "spawn", note)
    booted = lab.boot(user_data=user_data, ssh_keys=(KEY,) * 100)
    lab.succeed(lab.api.rebuild_instance(lab.ctxt, "vm"))
    assert {(each.user_data, each.ssh_keys) for each in spawned} == {(user_data, (KEY,) * 100)}
    [listed] = lab.api.list_instances(lab.ctxt)
    assert booted.user_data == listed.user_data == lab.instance().user_data == "***"


def test_image_that_is_not_there(lab: Lab) -> None:
    for ask in (lab.api.get_image, lab.api.remove_image):
        with pytest.raises(ImageNotFound, match="no such image: none"):
            ask(lab.ctxt, "none")
    with pytest.raises(ImageNotFound, match="no such image: none"):
        lab.boot(image="none")
    assert lab.api.list_instances(lab.ctxt) == []


def test_senseless_image_is_refused(lab: Lab) -> None:
    with pytest.raises(InvalidInput, match="an absolute path, or a URL of http or https, expected"):
        add(lab, disk=ImageFile(location="disk", sha256="0" * 64))
    with pytest.raises(InvalidInput, match="is no public key"):
        lab.boot(ssh_keys=("geheim",))
    assert lab.api.list_images(lab.ctxt) == []


@pytest.mark.every_database
@pytest.mark.meets_errors
def test_error_of_the_database_quotes_no_secret(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.database.write(lambda session: session.execute(text("alter table instances drop column network")))
    with pytest.raises(ServiceFault) as fault:
        lab.boot(user_data=SECRET, ssh_keys=(KEY,))
    lab.database.write(lambda session: session.execute(text("alter table instances add column network varchar(255)")))
    assert "network" in fault.value.message
    coded = base64.b64encode(SECRET.encode()).decode()
    for told in (fault.value.message, caplog.text):
        assert "gehêim" not in told
        assert coded[:20] not in told


def test_no_secret_gets_into_a_log(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    add(lab)
    lab.boot(image="cirros", user_data=SECRET)
    lab.report(str(lab.instance().host))
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("minova")]
    assert ours
    assert not [message for message in ours if "gehêim" in message or "geheim" in message]
    assert "geheim" not in repr(lab.instance())


def test_older_conductor_is_not_asked_for_what_it_would_leave_out(conf: cfg.ConfigOpts, lab: Lab) -> None:
    conf.set_override(TOPIC, "1.2", "upgrade_levels")
    lab.api._pins.reset()  # type: ignore[union-attr]
    for ask in (
        lambda: add(lab),
        lambda: lab.boot(network="lan"),
        lambda: lab.api.get_console_output(lab.ctxt, "x", 0),
    ):
        with pytest.raises(PeerTooOld, match=r"needs RPC version 1.3, but .* holds it at 1.2"):
            ask()
    lab.boot()


@pytest.mark.every_database
def test_addresses_are_shown_once_the_host_has_seen_them(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = ["192.0.2.7", "2001:db8::7"]
    seen: Callable[[FakeDriver], tuple[Guest, ...]] = FakeDriver.list_guests

    def list_guests(driver: FakeDriver) -> tuple[Guest, ...]:
        return tuple(replace(guest, addresses=tuple(addresses)) for guest in seen(driver))

    monkeypatch.setattr(FakeDriver, "list_guests", list_guests)
    booted = lab.boot()
    lab.report(str(booted.host))
    now = lab.instance()
    assert (now.addresses, now.updated_at) == (tuple(addresses), booted.updated_at)
    addresses.clear()
    lab.report(str(booted.host))
    assert lab.instance().addresses == ()


def test_console_is_read_from_the_host(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    written = "one\ntwo \x1b[31mübel\n"

    def console_output(driver: FakeDriver, uuid: str, offset: int) -> ConsoleOutput:
        if driver.get_guest(uuid) is None:
            raise GuestNotFound(uuid=uuid, host="host2")
        return ConsoleOutput(text=written[offset:], next_offset=len(written))

    lab.boot(host="host2")
    assert lab.api.get_console_output(lab.ctxt, "vm", 0) == ConsoleOutput(text="", next_offset=0, host="host2")
    monkeypatch.setattr(FakeDriver, "console_output", console_output)
    assert lab.api.get_console_output(lab.ctxt, "vm", 4).text == "two \x1b[31mübel\n"
    lab.guest_file("host2", lab.instance().uuid).unlink()
    with pytest.raises(GuestNotFound, match="host host2 has no guest"):
        lab.api.get_console_output(lab.ctxt, "vm", 0)
    lab.succeed(lab.api.delete_instance(lab.ctxt, "vm"))


def test_console_of_an_older_host(conf: cfg.ConfigOpts, lab: Lab) -> None:
    lab.boot()
    conf.set_override("compute", "1.3", "upgrade_levels")
    lab.cluster.conductors[0].reset()
    with pytest.raises(PeerTooOld, match=r"compute.get_console_output needs RPC version 1.4, but .* holds it at 1.3"):
        lab.api.get_console_output(lab.ctxt, "vm", 0)


def test_console_of_an_instance_without_a_guest(lab: Lab) -> None:
    lab.set("fake", failures=["spawn"])
    lab.fail(lab.api.boot_instance(lab.ctxt, lab.request()))
    with pytest.raises(NoGuest, match="instance vm has no guest on any host"):
        lab.api.get_console_output(lab.ctxt, "vm", 0)


def test_images_are_cleaned_up_again_and_again(
    conf: cfg.ConfigOpts, make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned: list[FakeDriver] = []
    monkeypatch.setattr(FakeDriver, "manage_image_cache", lambda driver: cleaned.append(driver), raising=False)
    conf.set_override("manager_interval", 1, "image_cache")
    make_lab("host1")
    wait_until(lambda: len(cleaned) > 1, "a second look at the images")
