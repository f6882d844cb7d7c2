"""Domains that are gone from one look to the next: who sees that a guest was handed over forgets its own of it."""

from pathlib import Path
from typing import NoReturn

import pytest

libvirt = pytest.importorskip("libvirt")

from tests.contract.rig import UUID  # noqa: E402
from tests.unit.virt.libvirt.rig import OFF, Domain, Host, Refusal  # noqa: E402


class Vanishing(Domain):
    """One that is found, and gone when it is asked anything."""

    def _vanish(self) -> NoReturn:
        self._libvirtd.domain = None
        raise Refusal(libvirt.VIR_ERR_NO_DOMAIN)

    def state(self) -> NoReturn:
        self._vanish()

    def isActive(self) -> NoReturn:
        self._vanish()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path, "host1", "instances", monkeypatch)
    host.libvirtd.domain = Vanishing(host.libvirtd, OFF)
    return host


def test_it_is_stopped_all_the_same(host: Host) -> None:
    host.driver._guests.stop(UUID, 0.1)


def test_it_is_forgotten_all_the_same(host: Host) -> None:
    host.driver._guests.forget(UUID)
    assert host.libvirtd.domain is None
