# SPDX-License-Identifier: GPL-3.0-or-later
"""What the planner must know of the host, and what must be refused because of it, before anything is touched.

One Preflight serves one task: what it has read of the host and of other domains is read once.
"""

from __future__ import annotations

import posixpath
import uuid
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .._domain import path_safety
from .._domain.model import (
    Define,
    DiskImage,
    Host,
    Observed,
    Options,
    Plan,
    RemoveDisk,
    RemoveState,
    Resolved,
    disk_key,
)
from .._domain.schema import is_below
from .._domain.state_paths import domain_directory
from .._domain.values import check_known_name
from .._domain.xml.document import DomainXml
from .._errors import InvalidInput, Unsupported, VirtiofsError
from .._features import Virtiofsd
from .._host import kvm, limits, ports, probe
from .._host.files import bind_mounts, disks, leftovers, nosuid, sources, state, wrappers
from .._host.gateway import Gateway
from .describe import dead_shares, stale_shares
from .disk_files import bases_of, file_of

# Options of a domain, a share or a disk that name a file or directory of the host.
_PATH_OPTIONS = ("source", "path", "backing", "iso", "kernel", "initrd", "serial_log")


class Preflight:
    """The host and the other domains, as far as plans depend on them."""

    def __init__(self, gateway: Gateway, state: str) -> None:
        self._gateway = gateway
        self._state = state
        self._local = not gateway.is_remote
        self._others: dict[str, DomainXml] | None = None
        self._kvm: kvm.KvmProbe | None = None
        self._virtiofsd: Virtiofsd | None = None
        self._virtiofsd_sought = False
        self._host_limits: limits.Limits | None = None
        self.warnings: list[str] = []

    # What the planner must know.

    def host(self, name: str, options: Options | None = None, observed: Observed | None = None) -> Host:
        """The host as far as the plan for this domain needs it."""
        options = options or {}
        virtiofsd = self._find_virtiofsd()
        former = self._former_state(name, observed)
        named = self._named_paths(options, observed)
        return Host(
            libvirt=self._gateway.libvirt_version(),
            virtiofsd=virtiofsd,
            local=self._local,
            session=self._gateway.is_session,
            state=self._state,
            has_state=self._local and state.has_state(self._state, name),
            leftovers=self._leftovers(name, options, observed),
            binds=bind_mounts.list_binds(self._state, name) if self._local else {},
            nosuid=self._nosuid(name, former),
            ignores_setuid=self._ignores_setuid(options),
            dead_shares=frozenset(dead_shares(observed, self._gateway)) if observed else frozenset(),
            stale_shares=frozenset(stale_shares(observed, self._gateway)) if observed else frozenset(),
            wrappers=wrappers.list_wrappers(self._state, name, virtiofsd.path) if self._local and virtiofsd else {},
            real_paths={path: sources.real_path(path) for path in named},
            ways={path: sources.way_to(path) for path in named},
            images=self._images(options, observed),
            virt_type=self._virt_type(options, observed),
            architecture=self._gateway.architecture(),
            new_uuid=str(uuid.uuid4()),
            former_state=former,
        )

    def _former_state(self, name: str, observed: Observed | None) -> str:
        """The earlier name of a renamed domain while state of that name is left and no other domain has the name."""
        former = observed and observed.persistent and observed.persistent.former_name
        if not former or check_known_name(former) or not self._local:
            return ""
        if not state.has_share_state(self._state, former):
            return ""
        return "" if any(other == former for other, _document in self._other_domains(name)) else former

    def _nosuid(self, name: str, former: str) -> dict[str, bool]:
        """The sources that the domain has mounted with nosuid, also those from before it was renamed."""
        if not self._local:
            return {}
        left = nosuid.list_nosuid(self._state, former) if former else ()
        return {**dict.fromkeys(left, False), **nosuid.list_nosuid(self._state, name)}

    def _find_virtiofsd(self) -> Virtiofsd | None:
        if not self._virtiofsd_sought:
            self._virtiofsd_sought = True
            if self._local:
                self._virtiofsd = probe.find_virtiofsd(probe.descriptor_dirs("vhost-user", self._gateway.is_session))
            else:
                self._virtiofsd = Virtiofsd("virtiofsd", None)  # out of reach: libvirt itself will tell
        return self._virtiofsd

    def _named_paths(self, options: Options, observed: Observed | None) -> set[str]:
        """What the task and the definition name, where this host can be asked about it."""
        if not self._local:
            return set()
        domain = observed and (observed.persistent or observed.live)
        named = {use.path for use in path_safety.uses("", domain, Resolved)} if domain else set()
        for item in (options, *(options.get("shares") or ()), *(options.get("disks") or ())):
            named |= {item[option] for option in _PATH_OPTIONS if item.get(option)}
        return named

    def _ignores_setuid(self, options: Options) -> frozenset[str]:
        """The task's sources on file systems that the host's administrator has mounted with nosuid and nodev."""
        if not self._local:
            return frozenset()
        named = [share["source"] for share in (options, *(options.get("shares") or ())) if share.get("source")]
        return frozenset(path for path in map(sources.real_path, named) if nosuid.is_nosuid_by_itself(path))

    def _virt_type(self, options: Options, observed: Observed | None) -> str:
        """What virt_type auto means for a new domain: KVM where a QEMU really runs with it."""
        asked = options.get("virt_type", "qemu")  # a share has no such option
        is_open = asked == "auto" or (asked is None and not options.get("xml"))
        is_new = observed is not None and observed.persistent is None and options.get("state") != "absent"
        if not (is_open and is_new):
            return "qemu"  # not used by this plan
        if not self._local:
            return "kvm"
        unfit = self._unfit_kvm(needs_smm=options.get("secure_boot") not in (None, "off"))
        if unfit:
            self.warnings.append(
                f"domain {options['name']}: KVM is not usable ({unfit}), the guest is emulated (TCG) and slow"
            )
        return "qemu" if unfit else "kvm"

    def _unfit_kvm(self, needs_smm: bool) -> str:
        """Why KVM does not do; empty when it does."""
        if self._kvm is None:
            self._kvm = kvm.probe_kvm(probe.find_emulator())
        if self._kvm.usable and needs_smm and not self._kvm.smm:
            return "it lacks the System Management Mode that Secure Boot needs"
        return self._kvm.reason

    def _images(self, options: Options, observed: Observed | None) -> dict[str, DiskImage]:
        """The images that exist, by key, each read in the format that is known."""
        listed = options.get("disks") or ()
        formats: dict[str, str | None] = dict.fromkeys(options.get("remove_storage") or (), "raw")  # only its presence
        formats.update({disk["backing"]: disk.get("backing_format") for disk in listed if disk.get("backing")})
        formats.update({disk_key(disk): disk.get("format") for disk in listed})
        for disk in observed.persistent.disks() if observed and observed.persistent else ():
            if disk_key(disk) in formats and not formats[disk_key(disk)]:
                formats[disk_key(disk)] = disk["format"]
        images = {key: self._image(key, known) for key, known in formats.items()}
        return {key: image for key, image in images.items() if image is not None}

    def _leftovers(self, name: str, options: Options, observed: Observed | None) -> tuple[str, ...]:
        """What killed runs have left of this domain, next to its disks as well."""
        if not self._local:
            return ()
        keys = {disk_key(disk) for disk in options.get("disks") or ()} | set(options.get("remove_storage") or ())
        if observed and observed.persistent:
            keys |= set(observed.persistent.created_disks())
        return tuple(leftovers.find_leftovers(self._state, name, (key for key in keys if key.startswith("/"))))

    def _image(self, key: str, known: str | None) -> DiskImage | None:
        pool, _slash, volume = key.partition("/")
        if pool:
            return self._volume(pool, volume, known)
        # Files of another machine cannot be read: QEMU there will report when one is missing.
        return disks.read_image(key, known) if self._local else DiskImage(0, known or "qcow2")

    def _volume(self, pool: str, name: str, known: str | None) -> DiskImage | None:
        """libvirt guesses the format of a volume, so a file is read here where that is possible."""
        found = self._gateway.volume(pool, name)
        if found is None:
            return None
        path = self._gateway.volume_path(pool, name)
        if self._local and path and sources.is_file(path):
            return disks.read_image(path, known)
        size, looks_like_qcow2 = found
        return DiskImage(size, known or ("" if looks_like_qcow2 else "raw"))

    # What must be refused.

    def check_domain(self, options: Options) -> None:
        """Raise when the host cannot give the domain what it asks for."""
        name = options["name"]
        self._check_size(options)
        self.check_shares(options.get("shares") or (), name)
        if not self._local:
            return
        self._limits().check_options(options)
        for option in ("kernel", "initrd", "iso"):
            if options.get(option) and not sources.is_file(options[option]):
                raise InvalidInput(f"{option}: {options[option]} is not a file", fix="Correct the path.", domain=name)
        if options.get("tpm") and not probe.has_swtpm():
            from .._packages import install_fix  # only this needs it

            fix = install_fix(probe.os_release(), "swtpm")
            raise Unsupported("tpm: swtpm is not installed", fix=fix, domain=name)

    def _limits(self) -> limits.Limits:
        if self._host_limits is None:
            self._host_limits = limits.read_limits()
        return self._host_limits

    def _check_size(self, options: Options) -> None:
        most = {
            "memory": (self._gateway.memory(), "MiB is more than the host has"),
            "vcpus": (self._gateway.max_vcpus(), "is more than QEMU gives a guest here"),
        }
        for option, (limit, problem) in most.items():
            value = options.get(option)
            if value and limit and value > limit:
                raise InvalidInput(f"{option}: {value} {problem} ({limit})", fix="Give less.", domain=options["name"])

    def check_shares(self, shares: Iterable[Options], name: str) -> None:
        """Raise when a share cannot be given to a guest: libvirt would find out only at the start."""
        if not self._local:
            return
        for share in shares:
            try:
                if not probe.supports_memfd():
                    raise Unsupported("the kernel has no memfd", fix="Use a kernel built with CONFIG_MEMFD_CREATE.")
                if share.get("source"):
                    sources.require_directory(share["source"])
                if share.get("open_files"):
                    _check_open_files(share["open_files"])
            except VirtiofsError as error:
                error.domain, error.share = name, share["tag"]
                raise

    def is_port_taken(self, name: str, address: str, port: int) -> bool:
        """Whether a port of the host is in use, or promised to another domain."""
        promised = {
            (forward["address"], forward["host_port"])
            for other, document in self._other_domains(name)
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
        for name, other in self._other_domains(plan.name):
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
        if define is not None and self._others is not None:
            self._others[plan.name] = define.document

    def _warn_of_clones(self, name: str) -> None:
        """A clone starts from its original's mounts and wrappers until a task has given it some of its own."""
        for other, document in self._other_domains(name):
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

    def _other_domains(self, name: str) -> list[tuple[str, DomainXml]]:
        """All other domains, those included that this task is going to define."""
        if self._others is None:
            found = {other: seen.persistent or seen.live for other, seen in self._gateway.observe_all().items()}
            self._others = {other: document for other, document in found.items() if document is not None}
        return [(other, document) for other, document in self._others.items() if other != name]

    def _resolve(self, path: str) -> Resolved:
        if not self._local:
            return Resolved(posixpath.normpath(path))
        return Resolved(sources.real_path(path), sources.way_to(path))


def _check_open_files(count: int) -> None:
    most = probe.most_open_files()
    if count > most:
        raise InvalidInput(
            f"open_files: {count} is more than the host allows ({most})",
            fix="Decrease open_files, or raise the host's limit: sysctl fs.nr_open.",
        )


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
