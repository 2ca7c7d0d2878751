# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring one virtual network of libvirt to the wanted state."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Any

from .._domain.model import Options
from .._domain.networks.document import Network, network_xml, read_network
from .._domain.networks.prefixes import check_addresses, free_prefix
from .._domain.validation import check_network
from .._errors import GatewayError, InvalidInput
from .._host import lock, networks
from .._host.gateway import Gateway
from .._host.limits import Limits


class NetworkTask:
    """One task with one network, over the connection of a Controller."""

    def __init__(self, gateway: Gateway, limits: Limits, check_mode: bool) -> None:
        self._gateway = gateway
        self._limits = limits
        self._check_mode = check_mode

    def apply(self, options: Options) -> dict[str, Any]:
        """Bring the network to the wanted state; the module's return values."""
        check_network(options)
        with self._locked():
            observed = self._gateway.observe_networks()
            before = observed.get(options["name"])
            if options["state"] == "absent":
                after = self._remove(before, options["ignore_domains"] or []) if before else None
            elif before:
                after = self._bring_up(before, options)
            else:
                after = self._create(options, observed)
        facts = [network and network.facts() for network in (before, after)]
        return {
            "changed": before != after,
            "diff": {"before": facts[0] or {}, "after": facts[1] or {}},
            "network": facts[1],
        }

    def _locked(self) -> AbstractContextManager[None]:
        """Several tasks at once may each be the first that needs the network, or the last that removes it."""
        return nullcontext() if self._check_mode else lock.exclusive("networks")

    def _remove(self, network: Network, ignored: list[str]) -> Network | None:
        """What is left of the network: another tool's, and one that a domain uses, stays as it is."""
        if not network.managed or self._is_used(network.name, ignored):
            return network
        if not self._check_mode:
            self._gateway.remove_network(network.name)
        return None

    def _is_used(self, network: str, ignored: list[str]) -> bool:
        return any(
            interface["type"] == "network" and interface["source"] == network
            for name, domain in self._gateway.observe_all().items()
            if name not in ignored
            for document in domain.documents
            for interface in document.interfaces()
        )

    def _bring_up(self, network: Network, options: Options) -> Network:
        """Start a network that exists; an active one stays as it is."""
        check_addresses(network, options["prefix"])
        if network.active:
            return network
        self._limits.check_network(network.name, options["firewall"])
        if not self._check_mode:
            try:
                self._start(network)
            except GatewayError as error:
                with suppress(GatewayError):
                    self._gateway.set_network_autostart(network.name, network.autostart)
                raise _not_started(network, error, _fix_of_existing(network.name)) from error
        return replace(network, active=True, autostart=True)

    def _create(self, options: Options, observed: Mapping[str, Network]) -> Network:
        name, firewall = options["name"], options["firewall"]
        self._limits.check_network(name, firewall)
        if firewall:
            self._check_firewall(name)
        prefix = options["prefix"] or free_prefix(observed.values(), self._routes())
        text = network_xml(name, prefix, firewall)
        network = read_network(text, active=True, autostart=True)
        if not self._check_mode:
            self._gateway.define_network(name, text)
            try:
                self._start(network)
            except GatewayError as error:
                # A network that cannot start would fail again whenever the host boots.
                with suppress(GatewayError):
                    self._gateway.remove_network(name)
                raise _not_started(network, error, error.fix) from error
        return network

    def _start(self, network: Network) -> None:
        """A network is complete as soon as it is active, so nothing is left to do after a run that was killed."""
        self._gateway.set_network_autostart(network.name, True)
        self._gateway.start_network(network.name)

    def _routes(self) -> str:
        return "" if self._gateway.is_remote else networks.read_routes()

    def _check_firewall(self, name: str) -> None:
        # In check mode the role host has only predicted the firewall.
        if not (self._check_mode or networks.has_firewall()):
            raise InvalidInput(
                f"firewall: network {name} is not created, because the service keystone-firewall does not run",
                fix="Run the role keystone.virtiofs.host on the host, or set firewall (role variable"
                " vm_network_firewall) to false, which lets the guests reach the host's own services.",
            )


def _not_started(network: Network, error: GatewayError, fix: str) -> GatewayError:
    return GatewayError(
        f"network {network.name} ({', '.join(network.addresses)}) was not started: {error.libvirt_message}",
        code=error.code,
        libvirt_message=error.libvirt_message,
        fix=fix,
    )


def _fix_of_existing(name: str) -> str:
    return (
        f"Correct the network with virsh net-edit {name}, or remove it with virsh net-undefine {name}; the next run"
        " then creates the network with free addresses."
    )
