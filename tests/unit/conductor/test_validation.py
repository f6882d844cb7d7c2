"""What a request may say."""

from typing import Any

import pytest

from minova.conductor.validation import check_boot, check_image, check_options, check_state
from minova.exception import InvalidInput
from minova.objects import BootRequest, Image, ImageFile, MigrationOptions, utcnow
from minova.states import DiskFormat, VmState

NAME_RULE = "an instance's name has 1 to 255 characters, no slashes or control characters, no blanks at its ends"


def boot(**more: Any) -> None:
    check_boot(BootRequest(**{"name": "web", "vcpus": 1, "memory_mb": 256, "disk_gb": 1, **more}))


@pytest.mark.parametrize("name", ["w", "web-1.example.org", "a b", "Übung 7", "7", "-", "'; --", "名", "x" * 255])
def test_name_is_accepted(name: str) -> None:
    boot(name=name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        " web",
        "web ",
        "web\n",
        "we\nb",
        "we\tb",
        "we\x00b",
        "we\x7fb",
        "we\x9bb",
        "web\x1f",
        "a/b",
        "/",
        "we\u2028b",
        "we\udcffb",
        "x" * 256,
    ],
)
def test_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        boot(name=name)
    assert refusal.value.message == NAME_RULE


@pytest.mark.parametrize("name", ["01234567-89ab-cdef-0123-456789abcdef", "01234567-89AB-CDEF-0123-456789ABCDEF"])
def test_name_that_looks_like_a_uuid_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="may not look like a UUID"):
        boot(name=name)
    boot(name=name[:-1])


@pytest.mark.parametrize(
    ("field", "low", "high", "what"),
    [
        ("vcpus", 1, 4096, "vCPUs"),
        ("memory_mb", 1, 64 * 2**20, "MiB of memory"),
        ("disk_gb", 0, 2**20, "GiB of disk"),
    ],
)
def test_size_has_bounds_which_are_told(field: str, low: int, high: int, what: str) -> None:
    for fits in (low, high):
        boot(**{field: fits})
    for absurd in (low - 1, high + 1, -(10**30), 10**30):
        with pytest.raises(InvalidInput) as refusal:
            boot(**{field: absurd})
        assert refusal.value.message == f"{absurd} {what} is not between {low} and {high}"


@pytest.mark.parametrize("bandwidth_mib", [None, 1, 2**20])
def test_bandwidth_is_accepted(bandwidth_mib: int | None) -> None:
    check_options(MigrationOptions(bandwidth_mib=bandwidth_mib))


@pytest.mark.parametrize("bandwidth_mib", [0, -1, 2**20 + 1])
def test_bandwidth_is_refused(bandwidth_mib: int) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_options(MigrationOptions(bandwidth_mib=bandwidth_mib))
    assert refusal.value.message == f"{bandwidth_mib} MiB/s of bandwidth is not between 1 and 1048576"


@pytest.mark.parametrize(
    ("field", "low", "high", "what"),
    [("max_downtime_ms", 1, 100_000, "ms of downtime"), ("timeout", 0, 30 * 24 * 3600, "s of time")],
)
def test_options_have_bounds_which_are_told(field: str, low: int, high: int, what: str) -> None:
    for fits in (None, low, high):
        check_options(MigrationOptions(**{field: fits}))
    for absurd in (low - 1, high + 1):
        with pytest.raises(InvalidInput) as refusal:
            check_options(MigrationOptions(**{field: absurd}))
        assert refusal.value.message == f"{absurd} {what} is not between {low} and {high}"


@pytest.mark.parametrize("state", [VmState.ACTIVE, VmState.STOPPED, VmState.PAUSED, VmState.ERROR])
def test_state_to_reset_to_is_accepted(state: VmState) -> None:
    assert check_state(state.value) is state


@pytest.mark.parametrize("state", ["deleted", "building", "Active", "", "nonsense"])
def test_state_to_reset_to_is_refused(state: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        check_state(state)
    assert refusal.value.message == (f"cannot reset to state {state}: choose one of active, paused, stopped, error")


def refusal(check: Any, **more: Any) -> str:
    with pytest.raises(InvalidInput) as refused:
        check(**more)
    assert "\n" not in refused.value.message
    return refused.value.message


@pytest.mark.parametrize("network", [None, "none", "default", "br0", "br-1.20", "my_lan", "eth0:1", "x" * 64])
def test_network_is_accepted(network: str | None) -> None:
    boot(network=network)


@pytest.mark.parametrize(
    "network", ["", ".", "..", "../x", "a/b", "a b", "-x", "br0\n", "brücke", "x" * 65, "<x>", "'"]
)
def test_network_is_refused(network: str) -> None:
    assert "the name of a libvirt network or a bridge, or none, expected" in refusal(boot, network=network)


def test_user_data_has_a_limit_in_bytes_and_is_never_quoted() -> None:
    boot(user_data="x" * 65535)
    boot(user_data="ü" * 32767)
    for too_much in ("x" * 65536, "ü" * 32768):
        assert refusal(boot, user_data=too_much) == "user data has up to 65535 bytes"
    for no_text in ("geheim\0", "geheim\udcff"):
        told = refusal(boot, user_data=no_text)
        assert told == "user data is text: no NUL in it, and nothing that UTF-8 lacks"


@pytest.mark.parametrize(
    "key",
    [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI me@home",
        "ssh-rsa AAAAB3Nza+/==",
        "ecdsa-sha2-nistp256 AAAA= Übung und mehr",
        "sk-ssh-ed25519@openssh.com AAAA key",
    ],
)
def test_ssh_key_is_accepted(key: str) -> None:
    boot(ssh_keys=(key, key))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "geheim",
        "-----BEGIN OPENSSH PRIVATE KEY-----\ngeheim\n-----END OPENSSH PRIVATE KEY-----",
        "ssh-rsa AAAA\nssh-rsa BBBB",
        "ssh-rsa AAAA\n",
        "ssh-rsa AAAA x\x1b[2J",
        "ssh-rsa",
        "ssh-rsa " + "A" * 17000,
    ],
)
def test_ssh_key_is_refused_and_not_quoted(key: str) -> None:
    told = refusal(boot, ssh_keys=("ssh-rsa AAAA", key))
    assert told == "SSH key 2 is no public key: one line as in a .pub file expected, such as ssh-ed25519 AAAA…"


def test_too_many_ssh_keys() -> None:
    boot(ssh_keys=("ssh-rsa AAAA",) * 100)
    assert "101 SSH keys are too many" in refusal(boot, ssh_keys=("ssh-rsa AAAA",) * 101)


FILE = ImageFile(location="https://user:geheim@example.org/a.qcow2", sha256="0" * 64)


def image(**more: Any) -> None:
    values = {"uuid": "0" * 8, "name": "cirros", "disk_format": DiskFormat.RAW, "disk": FILE, "created_at": utcnow()}
    check_image(Image(**{**values, **more}))


def test_image_is_accepted() -> None:
    image()
    image(name="Debian 12", disk=ImageFile(location="/srv/my images/ü.raw", sha256="f" * 64))
    image(kernel=FILE)
    image(kernel=FILE, initrd=FILE, cmdline="x" * 2047)


@pytest.mark.parametrize("name", ["", "a/b", " a", "a\nb", "x" * 256])
def test_name_of_an_image_is_as_an_instance_s(name: str) -> None:
    assert refusal(image, name=name) == NAME_RULE.replace("instance", "image")
    assert "may not look like a UUID" in refusal(image, name="01234567-89ab-cdef-0123-456789abcdef")


@pytest.mark.parametrize(
    "location",
    [
        "",
        "relative/disk",
        "ftp://user:geheim@example.org/disk",
        "file:///etc/passwd",
        "http://",
        "http:///disk",
        "https://user:geheim@example.org/a b",
        "/disk\n",
        "/disk\0",
        "/disk\x1b[2J",
        "/" + "x" * 4096,
        "json:{}",
    ],
)
def test_location_is_refused_wherever_it_stands_and_secrets_are_not_quoted(location: str) -> None:
    bad = ImageFile(location=location, sha256="0" * 64)
    for more in ({"disk": bad}, {"kernel": bad}, {"kernel": FILE, "initrd": bad}):
        told = refusal(image, **more)
        assert "an absolute path, or a URL of http or https, expected" in told
        assert "geheim" not in told
        assert "\x1b" not in told


@pytest.mark.parametrize("sha256", ["", "0" * 63, "A" * 64, "g" * 64, "0" * 64 + "\n", "../" * 20])
def test_digest_is_refused(sha256: str) -> None:
    bad = ImageFile(location="/disk", sha256=sha256)
    assert "is no SHA-256 digest: 64 lowercase hexadecimal digits expected" in refusal(image, disk=bad)


@pytest.mark.parametrize("more", [{"initrd": FILE}, {"cmdline": "quiet"}])
def test_what_is_a_kernel_s_needs_one(more: dict[str, Any]) -> None:
    assert refusal(image, **more) == "an initrd and a command line are a kernel's: give that too"


@pytest.mark.parametrize("cmdline", ["a\nb", "a\0", "ü", "x" * 2048])
def test_command_line_is_refused(cmdline: str) -> None:
    assert "is one line of up to 2047 ASCII characters" in refusal(image, kernel=FILE, cmdline=cmdline)
