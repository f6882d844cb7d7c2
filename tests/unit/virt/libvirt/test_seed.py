"""The CD for cloud-init: what is on it, and that it is the same wherever it is made."""

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from pycdlib import PyCdlib

from minova.objects import Instance
from minova.virt.libvirt.seed import local_hostname, make_seed, wants_seed
from tests.contract.rig import make_instance

KEYS = ("ssh-ed25519 AAAAC3 me@home", "ssh-rsa AAAAB3 Übung")


def an_instance(**more: Any) -> Instance:
    return make_instance(**{"user_data": "#cloud-config\npassword: gehêim\n", "ssh_keys": KEYS, **more})


def content(path: Path, name: str, **by: str) -> str:
    disc, read = PyCdlib(), io.BytesIO()
    disc.open(str(path))
    disc.get_file_from_iso_fp(read, **(by or {"joliet_path": f"/{name}"}))
    disc.close()
    return read.getvalue().decode()


def test_it_has_what_cloud_init_looks_for(tmp_path: Path) -> None:
    instance, path = an_instance(), tmp_path / "seed.iso"
    make_seed(instance, path)
    for by in ({"joliet_path": "/user-data"}, {"rr_path": "/user-data"}):
        assert content(path, "", **by) == instance.user_data
    assert json.loads(content(path, "meta-data")) == {
        "instance-id": instance.uuid,
        "local-hostname": local_hostname(instance),
        "public-keys": list(KEYS),
    }
    disc = PyCdlib()
    disc.open(str(path))
    assert disc.pvd.volume_identifier.decode().strip() == "cidata"
    disc.close()


def test_without_user_data_there_is_a_file_that_says_nothing(tmp_path: Path) -> None:
    make_seed(an_instance(user_data=""), tmp_path / "seed.iso")
    assert content(tmp_path / "seed.iso", "user-data") == "#cloud-config\n{}\n"


def test_same_instance_gives_the_same_bytes_at_any_time_and_in_any_zone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_seed(an_instance(), tmp_path / "one")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setattr(time, "time", lambda: 10**9 + 7.5)
    make_seed(an_instance(), tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    make_seed(an_instance(user_data="other"), tmp_path / "three")
    assert (tmp_path / "one").read_bytes() != (tmp_path / "three").read_bytes()


def test_only_its_owner_may_read_it_whatever_was_left(tmp_path: Path) -> None:
    path = tmp_path / "seed.iso"
    (tmp_path / "seed.iso.part").write_text("left by one that was killed")
    path.write_text("old")
    path.chmod(0o644)
    make_seed(an_instance(), path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["seed.iso"]


def test_large_user_data(tmp_path: Path) -> None:
    data = "#!/bin/sh\n" + "x" * 65000
    make_seed(an_instance(user_data=data), tmp_path / "seed.iso")
    assert content(tmp_path / "seed.iso", "user-data") == data


@pytest.mark.parametrize(
    ("more", "wanted"), [({"user_data": "x"}, True), ({"ssh_keys": KEYS}, True), ({}, False)], ids=["data", "keys", "-"]
)
def test_it_is_wanted_if_there_is_something_to_say(more: dict[str, Any], wanted: bool) -> None:
    assert wants_seed(make_instance(**more)) is wanted


@pytest.mark.parametrize(
    ("name", "hostname"),
    [
        ("web", "web"),
        ("Web 1", "web-1"),
        ("web-1.example.org", "web-1-example-org"),
        ("Übung_7", "ubung-7"),
        ("--a--b--", "a-b"),
        ("'; --", "instance-12345678"),
        ("名", "instance-12345678"),
        ("x" * 255, "x" * 63),
        ("x" * 62 + "-y", "x" * 62),
    ],
)
def test_host_name_is_valid_and_resembles_the_name(name: str, hostname: str) -> None:
    assert local_hostname(make_instance(name=name, uuid="12345678-90ab-cdef-1234-567890abcdef")) == hostname
