"""Images are added with digests, which are computed if need be, and no secret of a URL is shown."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from minova import location
from minova.objects import Image
from minova.states import DiskFormat
from tests.unit.cli.rig import IMAGE, Manage

DIGEST = "0123456789abcdef" * 4


def added(manage: Manage) -> Image:
    [(method, arguments)] = manage.asked
    assert method == "add_image"
    image = arguments["image"]
    assert isinstance(image, Image)
    return image


def test_disk_whose_digest_is_known_is_not_read(manage: Manage) -> None:
    ended = manage(*f"image add cirros /none --format raw --sha256 {DIGEST.upper()}".split())
    assert (ended.status, ended.err) == (0, "")
    image = added(manage)
    assert (image.name, image.disk_format) == ("cirros", DiskFormat.RAW)
    assert (image.disk.location, image.disk.sha256) == ("/none", DIGEST)
    assert (image.kernel, image.initrd, image.cmdline) == (None, None, "")


def test_digest_is_computed_and_that_is_said(manage: Manage, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("disk", "kernel", "initrd")}
    for name, path in files.items():
        path.write_text(name)
    ended = manage(
        "image", "add", "cirros", str(files["disk"]), "--format", "qcow2", "--kernel", str(files["kernel"]),
        "--initrd", str(files["initrd"]), "--cmdline", "console=ttyS0 quiet",
    )  # fmt: skip
    assert ended.status == 0
    assert ended.err.splitlines() == [f"reading {path} to compute its SHA-256 digest…" for path in files.values()]
    image = added(manage)
    for name, path in files.items():
        file = getattr(image, name)
        assert (file.location, file.sha256) == (str(path), hashlib.sha256(name.encode()).hexdigest())
    assert image.cmdline == "console=ttyS0 quiet"


def test_nobody_has_to_wait_while_a_digest_is_computed(
    manage: Manage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").write_text("content")
    connect, happened = Manage._connect, []

    def connected(*args: Any) -> Any:
        happened.append("connected")
        return connect(*args)

    monkeypatch.setattr(Manage, "_connect", connected)
    monkeypatch.setattr(location, "sha256", lambda *_args: happened.append("read") or DIGEST)
    assert manage("image", "add", "cirros", str(tmp_path / "disk"), "--format", "raw").status == 0
    assert happened == ["read", "connected"]


def test_disk_that_cannot_be_read_here_needs_its_digest(manage: Manage, tmp_path: Path) -> None:
    ended = manage("image", "add", "cirros", f"{tmp_path}/none", "--format", "raw")
    assert ended.status == 1
    assert ended.err.splitlines()[-1] == (
        f"minova-manage: error: {tmp_path}/none: No such file or directory "
        "(so its digest cannot be computed here: give --sha256)"
    )
    assert manage.asked == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("relative", "'relative': an absolute path, or a URL of http or https, expected"),
        ("ftp://user:geheim@example.org/", "'ftp://***@example.org/': an absolute path, or a URL of http or https,"),
        ("http://", "'http://': an absolute path, or a URL"),
        ("/disk --kernel relative", "'relative': an absolute path"),
        ("/disk --initrd /initrd", "--initrd and --cmdline are a kernel's: give --kernel too"),
        ("/disk --cmdline quiet", "--initrd and --cmdline are a kernel's: give --kernel too"),
        ("/disk --kernel-sha256 00", "--kernel-sha256 is the digest of a file: give --kernel too"),
        ("/disk --kernel /kernel --initrd-sha256 00", "--initrd-sha256 is the digest of a file: give --initrd too"),
    ],
)
def test_senseless_image_is_refused_before_anything_is_read(manage: Manage, arguments: str, told: str) -> None:
    ended = manage("image", "add", "cirros", "--format", "raw", *arguments.split())
    assert ended.status == 1
    assert f"minova-manage: error: {told}" in ended.err
    assert "geheim" not in ended.err
    assert manage.asked == []


@pytest.mark.parametrize("command", ["show cirros", "list", f"add cirros /disk --format raw --sha256 {DIGEST}"])
@pytest.mark.parametrize("kind", ["table", "json", "value"])
def test_no_secret_of_a_url_is_shown(manage: Manage, command: str, kind: str) -> None:
    ended = manage("image", *command.split(), "-f", kind)
    assert "https://***@example.org/cirros.qcow2?***" in ended.out
    assert "geheim" not in ended.out + ended.err


def test_image_as_json(manage: Manage) -> None:
    shown: dict[str, Any] = manage("image", "show", "cirros", "-f", "json").json
    assert shown == {
        "name": "cirros",
        "uuid": IMAGE.uuid,
        "format": "qcow2",
        "location": "https://***@example.org/cirros.qcow2?***",
        "created": "2024-02-29T12:00:00Z",
        "sha256": "a" * 64,
        "kernel": None,
        "kernel_sha256": None,
        "initrd": None,
        "initrd_sha256": None,
        "cmdline": None,
    }


@pytest.mark.parametrize(
    ("users", "told"), [(0, ""), (1, "1 instance stays that was made"), (2, "2 instances stay that were made")]
)
def test_removal_says_who_was_made_from_it(manage: Manage, users: int, told: str) -> None:
    manage.conductor.answers["remove_image"] = users
    ended = manage("image", "remove", "cirros")
    assert (ended.status, ended.out) == (0, "removed\n")
    assert ended.err.startswith(told)
    assert bool(ended.err) is bool(users)
