# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of new networks, from what a Debian host shows of its networks and routes."""

from __future__ import annotations

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.networks.document import read_network
from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.networks.prefixes import (
    check_addresses,
    free_prefix,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import InvalidInput

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
    assert free_prefix([read_network(text, False, False) for text in networks], routes) == prefix


def test_without_free_addresses_the_option_is_named() -> None:
    with pytest.raises(InvalidInput, match="vm_network_prefix"):
        free_prefix([], HEADER + ROUTE.format("0000", "0000FFFF"))


@pytest.mark.parametrize("prefix", [None, "192.168.100"])
def test_the_addresses_of_an_existing_network_may_be_asked_for(prefix: str | None) -> None:
    check_addresses(read_network(NETWORK.format("prefix='24'"), True, True), prefix)


@pytest.mark.parametrize("prefix", ["192.168.10", "192.168.101", "10.20.30"])
def test_other_addresses_of_an_existing_network_are_refused(prefix: str) -> None:
    with pytest.raises(InvalidInput, match=r"network a exists and has other addresses.*virsh net-undefine a"):
        check_addresses(read_network(NETWORK.format("prefix='24'"), True, True), prefix)
