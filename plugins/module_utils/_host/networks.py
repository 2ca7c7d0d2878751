# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtual networks of a connection to libvirt: read, change."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from .. import _commands
from .._domain.networks.document import Network, read_network
from .._errors import HostError
from .connection import Connection, observe_each, translated
from .libvirt_fixes import NETWORK

NO_NETWORK = 43  # of virErrorNumber

_ROUTES = Path("/proc/net/route")


class Networks(Connection):
    """The virtual networks of one connection."""

    def networks(self) -> dict[str, bool]:
        """The virtual networks by name, and whether they are active."""
        with translated("cannot list networks"):
            return {network.name(): bool(network.isActive()) for network in self._connection.listAllNetworks()}

    def observe_networks(self) -> dict[str, Network]:
        """The virtual networks by name, as they are now."""
        with translated("cannot list networks", by_code=NETWORK):
            networks = self._connection.listAllNetworks()
        return observe_each(networks, self._observe_network, NO_NETWORK)

    @staticmethod
    def _observe_network(network: Any) -> Network:
        with translated(f"cannot read network {network.name()}", by_code=NETWORK):
            return read_network(network.XMLDesc(0), bool(network.isActive()), bool(network.autostart()))

    def define_network(self, name: str, text: str) -> None:
        with translated(f"cannot define network {name}", by_code=NETWORK):
            self._connection.networkDefineXML(text)

    def set_network_autostart(self, name: str, enabled: bool) -> None:
        with translated(f"cannot set autostart of network {name}", by_code=NETWORK):
            self._connection.networkLookupByName(name).setAutostart(int(enabled))

    def start_network(self, name: str) -> None:
        with translated(f"cannot start network {name}", by_code=NETWORK):
            self._connection.networkLookupByName(name).create()

    def remove_network(self, name: str) -> None:
        with translated(f"cannot remove network {name}", by_code=NETWORK):
            network = self._connection.networkLookupByName(name)
            is_persistent = network.isPersistent()
            if network.isActive():
                network.destroy()
            if is_persistent:
                network.undefine()


def read_routes() -> str:
    """The IPv4 routes of this machine; empty where the kernel shows none."""
    with suppress(OSError):
        return _ROUTES.read_text(encoding="ascii")
    return ""


def has_firewall() -> bool:
    """The service of the role host that keeps guests from the services of this machine runs."""
    with suppress(HostError):  # no systemd
        return _commands.run(["systemctl", "is-active", "keystone-firewall.service"]).status == 0
    return False
