# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtual networks of libvirt: what is known of one, and the XML of a new one."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..xml.mark import NAMESPACE
from ..xml.parsing import parse
from ..xml.places import Element, ensure, etree, put

# Only a network with this mark may be removed.
_MARK = f"{{{NAMESPACE}}}network"
# The rules of the role host apply to bridges of this name; libvirt replaces %d by the next free number.
_FIREWALL_BRIDGE = "virbr-ks%d"


@dataclass(frozen=True)
class Network:
    """A virtual network as libvirt has it now."""

    name: str
    active: bool
    autostart: bool
    managed: bool
    addresses: tuple[str, ...]  # of the host in the network, with the size of the network, as in 192.168.100.1/24

    def facts(self) -> dict[str, Any]:
        return {**asdict(self), "addresses": list(self.addresses)}


def read_network(text: str, active: bool, autostart: bool) -> Network:
    """The network that an XML document of libvirt describes."""
    root = parse(text, "libvirt")
    is_managed = root.find(f"metadata/{_MARK}") is not None
    return Network(root.findtext("name") or "", active, autostart, is_managed, tuple(_addresses(root)))


def _addresses(root: Element) -> Iterator[str]:
    for ip in root.findall("ip[@address]"):
        size = ip.get("prefix") or ip.get("netmask") or ("64" if ip.get("family") == "ipv6" else "24")
        yield ipaddress.ip_interface(f"{ip.get('address')}/{size}").with_prefixlen


def network_xml(name: str, prefix: str, firewall: bool) -> str:
    """A new network with NAT and DHCP, whose addresses begin with the three bytes of the prefix."""
    root = etree.Element("network")
    put(root, "name", name)
    etree.SubElement(ensure(root, "metadata"), _MARK, nsmap={"keystone": NAMESPACE})
    put(root, "bridge/@name", _FIREWALL_BRIDGE if firewall else None)
    put(root, "forward/@mode", "nat")
    put(root, "ip/@address", f"{prefix}.1")
    put(root, "ip/@netmask", "255.255.255.0")
    put(root, "ip/dhcp/range/@start", f"{prefix}.2")
    put(root, "ip/dhcp/range/@end", f"{prefix}.254")
    return str(etree.tostring(root, encoding="unicode"))
