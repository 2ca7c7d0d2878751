# SPDX-License-Identifier: GPL-3.0-or-later
"""What the administrator of a hypervisor lets domains use, kept on the hypervisor, where no inventory can lift it."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from .._domain.model import Options
from .._domain.path_safety import PathUse
from .._domain.schema import URI, is_below
from .._domain.state_paths import STATE, domain_directory
from .._errors import HostError, InvalidInput

FILE = Path("/etc/keystone-virtiofs/limits.json")

Allowed = Optional[tuple[str, ...]]
"""What may be used; None where there is no limit."""


@dataclass(frozen=True)
class Limits:
    """``sources`` of shares, directories of ``images`` (disks, media, kernels) and ``logs``, ``networks``, ``bridges``.

    A guest decides what is in its log, which QEMU writes as root has opened it, so logs are never without a limit where
    others have one. "user" among the networks is user networking, in which a guest reaches what its host reaches.
    """

    sources: Allowed = None
    images: Allowed = None
    logs: Allowed = ("/var/log/libvirt/qemu",)
    networks: Allowed = None
    bridges: Allowed = None

    @property
    def exist(self) -> bool:
        return self != Limits()

    def check_paths(self, uses: Iterable[PathUse], unsafe_paths_allowed: bool = False) -> None:
        """Raise InvalidInput for a new path that leads outside the allowed directories, or may come to."""
        for use in uses:
            if self.exist and unsafe_paths_allowed:
                raise InvalidInput(
                    f"allow_unsafe_paths: {FILE} on this host limits what domains may use, and a guest could lead"
                    f" {use.what} {use.stated} to another place",
                    fix="Omit allow_unsafe_paths.",
                    domain=use.domain,
                    share=use.share,
                )
            option = {"source": "sources", "serial_log": "logs"}.get(use.what, "images")
            allowed = getattr(self, option) if self.exist else None
            if allowed is not None and option == "images":
                allowed += (f"{domain_directory(STATE, use.domain)}/seed",)  # another domain's seed may hold secrets
            if allowed is not None and not any(is_below(use.path, directory) for directory in allowed):
                raise _refusal(f"{use.what} {use.stated}", option, use.domain, use.share)

    def check_uri(self, uri: str) -> None:
        """Raise InvalidInput for a libvirt that these limits would not reach."""
        if self.exist and uri != URI.default and not uri.startswith("test:"):
            raise InvalidInput(
                f"uri: {FILE} on this host limits what domains may use, and does not reach {uri}",
                fix=f"Omit uri, or set it to {URI.default}.",
            )

    def check_shares(self, shares: Iterable[Options], domain: str) -> None:
        """Raise InvalidInput for a share that would be no directory of ``sources``, or would let setuid programs in."""
        for share in shares if self.exist else ():
            if share.get("socket"):
                option, danger = "socket", "the daemon behind a socket"
            elif share.get("nosuid") is False:
                option, danger = "nosuid", "setuid programs of a guest"
            else:
                continue
            raise InvalidInput(
                f"{option}: {FILE} on this host limits what domains may use, and {danger} could be anything",
                fix=f"Omit {option}.",
                domain=domain,
                share=share["tag"],
            )

    def check_network(self, name: str, firewall: bool) -> None:
        """Raise InvalidInput for a network that the limits exclude, or whose guests would reach the host's services."""
        if self.networks is not None and name not in self.networks:
            raise _refusal(f"network {name}", "networks")
        if self.exist and not firewall:
            raise InvalidInput(
                f"firewall: network {name} is not brought up, because {FILE} on this host limits what domains may use,"
                " and guests would reach the services of the host",
                fix="Omit firewall (role variable vm_network_firewall).",
            )

    def check_options(self, options: Options) -> None:
        """Raise InvalidInput for a network, a bridge or an XML document that the limits exclude."""
        name = options["name"]
        if options.get("xml") and self.exist:
            raise InvalidInput(
                f"xml: {FILE} on this host limits what domains may use, and an XML document could name anything",
                fix="Use the module's other options.",
                domain=name,
            )
        for interface in options.get("interfaces") or ():
            kind = interface["type"]
            source = "user" if kind == "user" else interface.get("source") or "default"
            option, allowed = ("bridges", self.bridges) if kind == "bridge" else ("networks", self.networks)
            if allowed is not None and source not in allowed:
                raise _refusal(f"network {source}" if kind == "user" else f"{kind} {source}", option, name)


def read_limits() -> Limits:
    """The limits of this host. Raises HostError for a file that users other than root may have written."""
    try:
        status = FILE.stat()
        content = json.loads(FILE.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Limits()
    except (OSError, ValueError) as error:
        raise HostError(f"cannot read {FILE}: {error}", fix="Correct the file.") from None
    if status.st_uid != 0 or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise HostError(f"{FILE} can be changed by users other than root", fix=f"chown root {FILE}; chmod 0644 {FILE}")
    return _parse(content)


def _parse(content: Any) -> Limits:
    names = set(Limits.__dataclass_fields__)
    if not isinstance(content, dict) or content.keys() - names:
        raise HostError(f"{FILE} must be an object with the keys {', '.join(sorted(names))}", fix="Correct the file.")
    for key, values in content.items():
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise HostError(f"{FILE}: {key} must be a list of texts", fix="Correct the file.")
    return Limits(**{key: tuple(values) for key, values in content.items()})


def _refusal(what: str, option: str, domain: str | None = None, share: str | None = None) -> InvalidInput:
    return InvalidInput(
        f"{what} is not among the {option} that {FILE} on this host allows",
        fix=f"Use an allowed one, or have the host's administrator add it to {option} of that file.",
        domain=domain,
        share=share,
    )
