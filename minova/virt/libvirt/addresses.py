"""The IP addresses of guests, as far as their host knows them."""

from contextlib import suppress
from pathlib import Path

import libvirt

from minova.objects import mac_address

_COMPLETE = 0x2
"""Of an entry of the kernel's table: somebody has answered."""


class Addresses:
    """Asks who leased addresses to a guest, and whom the host has talked to."""

    def __init__(self, neighbours: Path = Path("/proc/net/arp")) -> None:
        """``neighbours`` is the kernel's table of IPv4 neighbours; libvirt reads it too, and fails at some kernels'."""
        self._neighbours = neighbours

    def of(self, domain: libvirt.virDomain) -> tuple[str, ...]:
        """Return the addresses of a guest that runs."""
        mac = mac_address(domain.UUIDString())
        return tuple(dict.fromkeys([*_leased(domain), *self._met(mac)]))

    def _met(self, mac: str) -> list[str]:
        try:
            lines = self._neighbours.read_text().splitlines()[1:]
        except OSError:
            return []
        entries = [line.split() for line in lines]
        return [entry[0] for entry in entries if entry[3].lower() == mac and int(entry[2], 16) & _COMPLETE]


def _leased(domain: libvirt.virDomain) -> list[str]:
    found: list[str] = []
    with suppress(libvirt.libvirtError):
        interfaces = domain.interfaceAddresses(libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE)
        for interface in interfaces.values():
            found += [address["addr"] for address in interface["addrs"] or ()]
    return found
