# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of new networks, from what a Debian host shows of its networks and routes."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.keystone.virtiofs.plugins.filter.free_prefix import free_prefix

HEADER = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
DEFAULT_ROUTE = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
ROUTE = "virbr1\t{}A8C0\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0\n"
NETWORK = "<network><name>a</name><ip address='192.168.100.1' {}><dhcp/></ip></network>"


@pytest.mark.parametrize(
    ("networks", "routes", "prefix"),
    [
        ([], "", "192.168.100"),
        ([], HEADER + DEFAULT_ROUTE, "192.168.100"),
        ([], HEADER + DEFAULT_ROUTE + ROUTE.format("0064", "00FFFFFF"), "192.168.101"),
        ([NETWORK.format("netmask='255.255.255.0'")], HEADER, "192.168.101"),
        ([NETWORK.format("prefix='22'")], HEADER, "192.168.104"),
        ([NETWORK.format("netmask='255.255.255.0'")], HEADER + ROUTE.format("0065", "00FFFFFF"), "192.168.102"),
        ([], HEADER + ROUTE.format("0060", "00F0FFFF"), "192.168.112"),  # 192.168.96.0/20
        ([], HEADER + ROUTE.format("0564", "FFFFFFFF"), "192.168.101"),  # a single address
        (["<network><ip family='ipv6' address='fd00::1' prefix='64'/></network>", "<network/>"], HEADER, "192.168.100"),
    ],
)
def test_a_new_network_gets_free_addresses(networks: list[str], routes: str, prefix: str) -> None:
    assert free_prefix(networks, routes) == prefix


def test_without_free_addresses_the_option_is_named() -> None:
    with pytest.raises(AnsibleFilterError, match="vm_network_prefix"):
        free_prefix([], HEADER + ROUTE.format("0000", "0000FFFF"))
