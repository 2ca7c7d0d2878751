# SPDX-License-Identifier: GPL-3.0-or-later
"""The XML of networks: what a new one gets, and what is read of one."""

from __future__ import annotations

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.networks.document import (
    network_xml,
    read_network,
)

NEW = (
    '<network><name>a &amp; b</name><metadata><keystone:network xmlns:keystone="https://github.com/ncrmro/keystone/virtiofs"/>'
    '</metadata>{}<forward mode="nat"/><ip address="10.20.30.1" netmask="255.255.255.0"><dhcp>'
    '<range start="10.20.30.2" end="10.20.30.254"/></dhcp></ip></network>'
)


@pytest.mark.parametrize(("firewall", "bridge"), [(True, '<bridge name="virbr-ks%d"/>'), (False, "")])
def test_a_new_network_has_nat_dhcp_and_the_mark(firewall: bool, bridge: str) -> None:
    text = network_xml("a & b", "10.20.30", firewall)
    assert text == NEW.format(bridge)
    assert read_network(text, True, False).facts() == {
        "name": "a & b",
        "active": True,
        "autostart": False,
        "managed": True,
        "addresses": ["10.20.30.1/24"],
    }


@pytest.mark.parametrize(
    ("ip", "addresses"),
    [
        ("", ()),
        ("<ip/>", ()),
        ("<ip address='192.168.122.1' netmask='255.255.255.0'/>", ("192.168.122.1/24",)),
        (
            "<ip address='10.0.0.1' prefix='8'/><ip family='ipv6' address='fd00::1' prefix='64'/>",
            ("10.0.0.1/8", "fd00::1/64"),
        ),
        ("<ip address='10.0.0.1'/><ip family='ipv6' address='fd00::1'/>", ("10.0.0.1/24", "fd00::1/64")),
    ],
)
def test_the_addresses_of_any_network_are_read(ip: str, addresses: tuple[str, ...]) -> None:
    network = read_network(f"<network><name>a</name><metadata><other/></metadata>{ip}</network>", False, False)
    assert (network.managed, network.addresses) == (False, addresses)
