# SPDX-License-Identifier: GPL-3.0-or-later
"""The addresses of a network: those that a new one gets, and those that a task asks for."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from ..._errors import InvalidInput
from .document import Network

_CANDIDATES = range(100, 200)


def check_addresses(network: Network, prefix: str | None) -> None:
    """Raise InvalidInput for a prefix that a network which exists does not have."""
    if prefix is not None and not any(address.startswith(f"{prefix}.") for address in network.addresses):
        raise InvalidInput(
            f"prefix: network {network.name} exists and has other addresses than {prefix}",
            fix="Omit prefix (role variable vm_network_prefix), or remove the network first, while no domain uses it:"
            f" virsh net-destroy {network.name}; virsh net-undefine {network.name}",
        )


def free_prefix(networks: Iterable[Network], routes: str) -> str:
    """The first three bytes of addresses that neither a network nor a route of the host covers.

    ``routes`` is the text of /proc/net/route, where libvirt looks for collisions as well. An inactive network counts,
    because two networks with common addresses cannot be active at the same time.
    """
    used = [*_routed(routes), *(address for network in networks for address in _of_network(network))]
    for number in _CANDIDATES:
        prefix = f"192.168.{number}"
        if not any(ipaddress.IPv4Network(f"{prefix}.0/24").overlaps(network) for network in used):
            return prefix
    raise InvalidInput(
        "prefix: 192.168.100 to 192.168.199 are all in use on the host",
        fix="Set prefix (role variable vm_network_prefix) to addresses that the host does not use, such as 10.20.30.",
    )


def _routed(routes: str) -> Iterator[ipaddress.IPv4Network]:
    """Destinations and masks are hexadecimal numbers in the byte order of the machine."""
    for line in routes.splitlines()[1:]:
        fields = line.split()
        destination, mask = (_address(fields[place]) for place in (1, 7))
        if int(mask):  # not the default route
            yield ipaddress.IPv4Network(f"{destination}/{mask}", strict=False)


def _address(number: str) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(bytes.fromhex(number)[::-1])


def _of_network(network: Network) -> Iterator[ipaddress.IPv4Network]:
    for address in map(ipaddress.ip_interface, network.addresses):
        if isinstance(address, ipaddress.IPv4Interface):
            yield address.network
