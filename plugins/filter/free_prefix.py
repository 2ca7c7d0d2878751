# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Choose the addresses of a new libvirt network."""

from __future__ import annotations

DOCUMENTATION = r"""
name: free_prefix
short_description: Find addresses for a new libvirt network
version_added: 1.0.0
description:
  - Returns the first three bytes of addresses that neither a network of libvirt nor a route of the host covers, from
    V(192.168.100) to V(192.168.199).
  - Made for the role P(keystone.virtiofs.vm#role).
author:
  - keystone contributors (@ncrmro)
positional: _input, routes
options:
  _input:
    description:
      - The XML of the networks that the host has.
    type: list
    elements: str
    required: true
  routes:
    description:
      - The host's routes, as in C(/proc/net/route), where libvirt looks for collisions as well.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show the prefix for a new network
  ansible.builtin.debug:
    msg: "{{ [] | keystone.virtiofs.free_prefix(routes.content | b64decode) }}"
"""

RETURN = r"""
_value:
  description: The first three bytes, for example V(192.168.100).
  type: str
"""

import ipaddress
import re
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CANDIDATES = range(100, 200)
_IP = re.compile(r"<ip\s[^>]*>")
_ATTRIBUTE = re.compile(r"""\b(address|netmask|prefix)=['"]([0-9.]+)['"]""")


def free_prefix(networks: Iterable[str], routes: str) -> str:
    used = [*_routed(routes), *(network for text in networks for network in _of_libvirt(text))]
    for number in _CANDIDATES:
        prefix = f"192.168.{number}"
        if not any(ipaddress.IPv4Network(f"{prefix}.0/24").overlaps(network) for network in used):
            return prefix
    raise AnsibleFilterError("192.168.100 to 192.168.199 are all in use on the host; set vm_network_prefix")


def _routed(routes: str) -> Iterator[ipaddress.IPv4Network]:
    """Destinations and masks are hexadecimal numbers in the byte order of the machine."""
    for line in routes.splitlines()[1:]:
        fields = line.split()
        destination, mask = (_address(fields[place]) for place in (1, 7))
        if int(mask):  # not the default route
            yield ipaddress.IPv4Network(f"{destination}/{mask}", strict=False)


def _address(number: str) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(bytes.fromhex(number)[::-1])


def _of_libvirt(text: str) -> Iterator[ipaddress.IPv4Network]:
    for element in _IP.findall(text):
        values = dict(_ATTRIBUTE.findall(element))
        if "address" in values:
            size = values.get("netmask") or values.get("prefix") or "24"
            yield ipaddress.IPv4Network(f"{values['address']}/{size}", strict=False)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"free_prefix": free_prefix}
