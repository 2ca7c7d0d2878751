# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan would take from other domains: disks, addresses, ports, paths that their guests write to."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import Callable, NamedTuple

from .._domain import path_safety
from .._domain.model import Define, Observed, Options, Plan, RemoveDisk, RemoveState, Resolved, disk_key
from .._domain.schema import is_below
from .._domain.state_paths import domain_directory
from .._domain.xml.document import DomainXml
from .._errors import InvalidInput
from .._host import limits, ports
from .._host.files import disks, sources
from .._host.gateway import Gateway
from .disk_files import bases_of, file_of


class OtherDomains:
    """The definitions of a host's domains, those included that this task is going to define."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._documents: dict[str, DomainXml] | None = None

    def without(self, name: str) -> list[tuple[str, DomainXml]]:
        """All domains but one, by name."""
        if self._documents is None:
            found = {other: seen.persistent or seen.live for other, seen in self._gateway.observe_all().items()}
            self._documents = {other: document for other, document in found.items() if document is not None}
        return [(other, document) for other, document in self._documents.items() if other != name]

    def note(self, name: str, document: DomainXml) -> None:
        """Count a definition that this task is going to make."""
        if self._documents is not None:
            self._documents[name] = document


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
            for other, document in self._others.without(name)
            for interface in document.interfaces()
            for forward in interface["forwards"]
        }
        return (address, port) in promised or (self._local and ports.is_port_taken(address, port))

    def check_conflicts(self, plan: Plan) -> None:
        """Refuse to take, or to remove, what belongs to another domain; remember what this plan takes."""
        if RemoveState() in plan.actions:
            self._warn_of_clones(plan.name)
        define = next((action for action in plan.actions if isinstance(action, Define)), None)
        removed = {action.key for action in plan.actions if isinstance(action, RemoveDisk)}
        if define is None and not removed and not plan.new_paths:
            return
        before = define.expected if define else None
        macs = set(define.document.macs()) - set(before.macs() if before else ()) if define else set()
        taken = _disks(define.document).items() - _disks(before).items() if define else set()
        self._check_limits(plan, removed | {key for key, _disk in taken})
        files = {file_of(self._gateway, key): Disk(key) for key in removed}
        files.update({file_of(self._gateway, key): disk for key, disk in taken})
        for name, other in self._others.without(plan.name):
            theirs = {file_of(self._gateway, key): disk for key, disk in _disks(other).items()}
            problems = [f"MAC address {mac} belongs to domain {name}" for mac in macs & set(other.macs())]
            problems += [
                f"disk {files[file].key} belongs to domain {name}"
                for file in files.keys() & theirs.keys()
                if not (files[file].is_shared and theirs[file].is_shared)
            ]
            if plan.new_paths and not plan.unsafe_paths_allowed:
                path_safety.check_path_safety(plan.new_paths, path_safety.uses(name, other, self._resolve))
            if removed:
                bases = files.keys() & self._backing_images(theirs)
                problems += [f"disk {files[file].key} is the base of a disk of domain {name}" for file in bases]
            if problems:
                raise InvalidInput(
                    min(problems), fix="Choose another MAC address or disk for this domain.", domain=plan.name
                )
        if define is not None:
            self._others.note(plan.name, define.document)

    def _warn_of_clones(self, name: str) -> None:
        """A clone starts from its original's mounts and wrappers until a task has given it some of its own."""
        for other, document in self._others.without(name):
            paths = (path for paths in document.share_paths().values() for path in paths)
            if any(is_below(path, domain_directory(self._state, name)) for path in paths):
                self.warnings.append(
                    f"domain {other} has shares with mounts or wrappers of domain {name}, which are removed; a task of"
                    f" keystone.virtiofs.domain on {other} gives it some of its own"
                )

    def _check_limits(self, plan: Plan, disks_touched: Iterable[str]) -> None:
        """Refuse what the host's administrator does not allow: new paths, volumes of a pool, files to be removed."""
        if self._local and self._limits().exist:
            files = {key: file_of(self._gateway, key) for key in disks_touched}
            touched = [path_safety.PathUse(plan.name, "disk", key, file) for key, file in files.items()]
            self._limits().check_paths(plan.new_paths, plan.unsafe_paths_allowed)
            self._limits().check_paths(touched)

    def _backing_images(self, theirs: Mapping[str, Disk]) -> set[str]:
        if not self._local:
            return set()
        chains = (disks.backing_chain(file, disk.format) for file, disk in theirs.items())
        return {image for chain in chains for image in chain}

    def check_overlays(self, wanted: Options, observed: Observed) -> None:
        """Raise when a disk that is to be removed has got an overlay, which would be left without its base."""
        definition = observed.persistent or observed.live
        removed = {file_of(self._gateway, key): key for key in wanted.get("remove_storage") or ()}
        for disk in definition.disks() if definition and removed else ():
            key = disk_key(disk)
            bases = [removed[file] for file in bases_of(self._gateway, disk) if file in removed]
            if bases and file_of(self._gateway, key) not in removed:
                raise InvalidInput(
                    f"disk {bases[0]} has got the overlay {key} (an external snapshot), which is useless without it",
                    fix=f"Add {key} to remove_storage, or merge it first: virsh blockcommit {wanted['name']}"
                    f" {disk['target']} --active --pivot.",
                    domain=wanted["name"],
                )

    def _resolve(self, path: str) -> Resolved:
        if not self._local:
            return Resolved(posixpath.normpath(path))
        return Resolved(sources.real_path(path), sources.way_to(path))


class Disk(NamedTuple):
    """A disk of a domain: its key, its format as the definition says, whether several domains may have it."""

    key: str
    format: str = "raw"
    is_shared: bool = False


def _disks(document: DomainXml | None) -> dict[str, Disk]:
    """The disks of a domain by key."""
    found = document.disks() if document else []
    return {
        disk_key(disk): Disk(disk_key(disk), disk["format"] or "raw", disk["shareable"] or disk["read_only"])
        for disk in found
        if disk["path"] or disk["volume"]
    }
