# SPDX-License-Identifier: GPL-3.0-or-later
"""A domain as return value; the same for every module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._domain.model import Observed, given_options
from .._host.files import daemons, logs
from .._host.gateway import Gateway
from .disk_files import created_disks

SSH_PORT = 22
SSH_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"


def describe(gateway: Gateway, observed: Observed) -> dict[str, Any]:
    """The facts of a domain; of one that does not exist only its name and state."""
    document = observed.live or observed.persistent
    if document is None:
        return {"name": observed.name, "state": observed.run_state}
    defined = observed.persistent or document
    interfaces = document.interfaces()
    leased = gateway.addresses(observed.name) if observed.is_active else []
    forward = _ssh_forward(interfaces)
    forwarded = [forward["address"]] if forward and observed.is_active else []
    return {
        "name": observed.name,
        "state": observed.run_state,
        **document.options(),
        "uuid": document.uuid,
        "autostart": observed.autostart,
        "persistent": observed.persistent is not None,
        "managed_save": observed.managed_save,
        "managed": defined.is_managed,
        "created_disks": created_disks(gateway, defined),
        "shared_memory": document.has_shared_memory(),
        "free_ports": document.free_ports(),
        "shares": [given_options(share) for share in document.shares().values()],
        "persistent_shares": [given_options(share) for share in defined.shares().values()],
        "disks": document.disks(),
        "nvram": document.nvram(),
        "interfaces": interfaces,
        "addresses": leased or forwarded,
        "ssh": _ssh(forward, leased),
        "dead_shares": dead_shares(observed, gateway),
        "stale_shares": stale_shares(observed, gateway),
        "running_for": running_for(observed, gateway),
        "virtiofsd_logs": [] if gateway.is_remote else logs.virtiofsd_logs(observed.name, gateway.is_session),
    }


def dead_shares(observed: Observed, gateway: Gateway) -> list[str]:
    """The tags of a running domain whose virtiofsd has ended, where this host can be asked."""
    return daemons.dead_shares(*_running_shares(observed, gateway), gateway.is_session)


def stale_shares(observed: Observed, gateway: Gateway) -> list[str]:
    """The tags of a running domain whose virtiofsd serves what the source was, where this host can be asked."""
    return daemons.stale_shares(*_running_shares(observed, gateway), gateway.is_session)


def running_for(observed: Observed, gateway: Gateway) -> int | None:
    """For how many seconds a domain with shares has run, where this host can be asked."""
    domain_id, shares = _running_shares(observed, gateway)
    return daemons.running_for(domain_id, shares.values(), gateway.is_session)


def _running_shares(observed: Observed, gateway: Gateway) -> tuple[str | None, dict[str, daemons.Share]]:
    live = observed.live
    if live is None or gateway.is_remote:
        return None, {}
    sources = live.share_paths()
    return live.id, {tag: daemons.Share(alias, sources[tag][0]) for tag, alias in live.share_aliases().items()}


def _ssh_forward(interfaces: list[dict[str, Any]]) -> dict[str, Any] | None:
    forwards = [forward for interface in interfaces for forward in interface["forwards"]]
    return next((forward for forward in forwards if forward["guest_port"] == SSH_PORT), None)


def _ssh(forward: Mapping[str, Any] | None, addresses: list[str]) -> dict[str, Any] | None:
    """Where the guest's ssh server is reached from its hypervisor."""
    if forward:
        return {"host": forward["address"], "port": forward["host_port"]}
    return {"host": addresses[0], "port": SSH_PORT} if addresses else None
