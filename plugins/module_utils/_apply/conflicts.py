# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan would take from other domains: files, addresses, ports, paths that their guests write to."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable

from .._domain import path_safety
from .._domain.model import (
    Action,
    AttachShare,
    Define,
    Observed,
    Options,
    Plan,
    RemoveDisk,
    RemoveState,
    Start,
    disk_key,
)
from .._domain.path_safety import PathUse
from .._domain.schema import is_below
from .._domain.state_paths import domain_directory
from .._domain.xml.document import DomainXml
from .._errors import InvalidInput
from .._host import limits, ports
from .._host.gateway import Gateway
from .disk_files import bases_of, file_of, resolve, uses_of


class OtherDomains:
    """The definitions of a host's domains, those included that this task is going to define."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._domains: dict[str, Observed] | None = None
        self._uses: dict[str, list[PathUse]] = {}

    def without(self, name: str) -> list[Observed]:
        """All domains but one."""
        if self._domains is None:
            self._domains = self._gateway.observe_all()
        return [domain for other, domain in self._domains.items() if other != name]

    def uses_without(self, name: str) -> list[PathUse]:
        """Every file that another domain than this one uses."""
        for domain in self.without(name):
            if domain.name not in self._uses:
                self._uses[domain.name] = uses_of(self._gateway, domain)
        return [use for domain in self.without(name) for use in self._uses[domain.name]]

    def note(self, name: str, document: DomainXml) -> None:
        """Count a definition that this task is going to make."""
        if self._domains is not None:
            self._domains[name] = replace(self._domains.get(name, Observed(name)), persistent=document)
            self._uses.pop(name, None)


class Conflicts:
    """What a plan must leave alone."""

    def __init__(
        self, gateway: Gateway, state: str, others: OtherDomains, read_limits: Callable[[], limits.Limits]
    ) -> None:
        self._gateway = gateway
        self._state = state
        self._limits = read_limits
        self._local = not gateway.is_remote
        self._others = others
        self.warnings: list[str] = []

    def is_port_taken(self, name: str, address: str, port: int) -> bool:
        """Whether a port of the host is in use, or promised to another domain."""
        promised = {
            (forward["address"], forward["host_port"])
            for other in self._others.without(name)
            for document in other.documents
            for interface in document.interfaces()
            for forward in interface["forwards"]
        }
        return (address, port) in promised or (self._local and ports.is_port_taken(address, port))

    def check_conflicts(self, plan: Plan, observed: Observed) -> None:
        """Refuse to take, or to remove, what belongs to another domain; remember what this plan takes."""
        if RemoveState() in plan.actions:
            self._warn_of_clones(plan.name)
        define = next((action for action in plan.actions if isinstance(action, Define)), None)
        removed = [self._removal(plan.name, action.key) for action in plan.actions if isinstance(action, RemoveDisk)]
        if define is not None or removed or plan.new_paths:
            self._check_macs(plan.name, define)
            self._check_new_paths(plan, removed, observed)
        if define is not None:
            self._others.note(plan.name, define.document)
        defined = replace(observed, persistent=define.document) if define else observed
        for action in plan.actions:
            self._check_start(plan, action, defined)

    def check_start(self, plan: Plan, action: Action) -> None:
        """Refuse a start, or a share to attach, right before libvirt follows its paths: they may lead elsewhere now."""
        if isinstance(action, (Start, AttachShare)):
            self._check_start(plan, action, self._gateway.observe(plan.name))

    def _check_macs(self, name: str, define: Define | None) -> None:
        before = define.expected if define else None
        macs = set(define.document.macs()) - set(before.macs() if before else ()) if define else set()
        for other in self._others.without(name) if macs else ():
            theirs = {mac for document in other.documents for mac in document.macs()}
            for mac in sorted(macs & theirs):
                raise InvalidInput(
                    f"MAC address {mac} belongs to domain {other.name}",
                    fix="Choose another MAC address for this domain.",
                    domain=name,
                )

    def _removal(self, name: str, key: str) -> PathUse:
        path, way = resolve(self._gateway, key)
        return PathUse(name, "disk", key, path, is_writable=True, way=way)

    def _check_new_paths(self, plan: Plan, removed: list[PathUse], observed: Observed) -> None:
        others = self._others.uses_without(plan.name)
        if self._local:
            self._limits().check_paths([*plan.new_paths, *removed], plan.unsafe_paths_allowed)
        path_safety.check_files([*plan.new_paths, *removed], others)
        if not plan.unsafe_paths_allowed:
            path_safety.check_path_safety(plan.new_paths, others)
            path_safety.check_path_safety(removed, [*others, *uses_of(self._gateway, observed)])

    def _check_start(self, plan: Plan, action: Action, domain: Observed) -> None:
        """Resolve what a guest is about to get, and compare it with what guests may write to."""
        if isinstance(action, Start):
            used = uses_of(self._gateway, replace(domain, live=None))
        elif isinstance(action, AttachShare):
            document = DomainXml(f"<domain><devices>{action.xml}</devices></domain>")
            used = path_safety.uses(plan.name, document, lambda path: resolve(self._gateway, path))
        else:
            return
        named = [use for use in used if use.what in path_safety.OPTIONS]
        led = [use for use in named if use.is_led]
        if self._local:
            self._limits().check_paths(named if plan.unsafe_paths_allowed else led, plan.unsafe_paths_allowed)
        if plan.unsafe_paths_allowed:
            return
        exposed = [use for use in self._others.uses_without(plan.name) if use.is_writable]
        exposed += [use for use in uses_of(self._gateway, domain) if use.is_writable]
        for use in used:
            for other in exposed:
                path_safety.check_reach(use, other)
        for use in led:
            if use.what == "source":
                path_safety.refuse_system_directory(use)

    def _warn_of_clones(self, name: str) -> None:
        """A clone starts from its original's mounts and wrappers until a task has given it some of its own."""
        for other in self._others.without(name):
            shares = [paths for document in other.documents for paths in document.share_paths().values()]
            if any(is_below(path, domain_directory(self._state, name)) for paths in shares for path in paths):
                self.warnings.append(
                    f"domain {other.name} has shares with mounts or wrappers of domain {name}, which are removed; a"
                    f" task of keystone.virtiofs.domain on {other.name} gives it some of its own"
                )

    def check_overlays(self, wanted: Options, observed: Observed) -> None:
        """Raise when a disk that would be removed has an overlay, which would be left without its base."""
        definition = observed.persistent or observed.live
        removed = {file_of(self._gateway, key): key for key in wanted.get("remove_storage") or ()}
        for disk in definition.disks() if definition and removed else ():
            key = disk_key(disk)
            bases = [removed[file] for file in bases_of(self._gateway, disk) if file in removed]
            if bases and file_of(self._gateway, key) not in removed:
                raise InvalidInput(
                    f"disk {bases[0]} has the overlay {key} (an external snapshot), which is useless without it",
                    fix=f"Add {key} to remove_storage, or merge it first: virsh blockcommit {wanted['name']}"
                    f" {disk['target']} --active --pivot.",
                    domain=wanted["name"],
                )
