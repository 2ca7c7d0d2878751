# SPDX-License-Identifier: GPL-3.0-or-later
"""What the planner must know of the host, and what must be refused because of it, before anything is touched.

One Preflight serves one task: what it has read of the host and of other domains is read once.
"""

from __future__ import annotations

from collections.abc import Iterable

from .._domain.model import Define, DiskImage, Host, Observed, Options, Plan, RemoveDisk, disk_key
from .._domain.xml.document import DomainXml
from .._errors import InvalidInput, Unsupported, VirtiofsError
from .._features import Virtiofsd
from .._host import kvm, ports, probe
from .._host.files import bind_mounts, disks, sources, state, wrappers
from .._host.gateway import Gateway
from .._packages import install_fix


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
        self.warnings: list[str] = []

    # What the planner must know.

    def host(self, name: str, options: Options | None = None, observed: Observed | None = None) -> Host:
        """The host as far as the plan for this domain needs it."""
        options = options or {}
        virtiofsd = self._find_virtiofsd()
        return Host(
            libvirt=self._gateway.libvirt_version(),
            virtiofsd=virtiofsd,
            local=self._local,
            session=self._gateway.is_session,
            state=self._state,
            has_state=self._local and state.has_state(self._state, name),
            binds=bind_mounts.list_binds(self._state, name) if self._local else {},
            wrappers=wrappers.list_wrappers(self._state, name, virtiofsd.path) if self._local and virtiofsd else {},
            real_paths=self._real_paths(options, observed),
            images=self._images(options),
            virt_type=self._virt_type(options, observed),
            architecture=self._gateway.architecture(),
        )

    def _find_virtiofsd(self) -> Virtiofsd | None:
        if not self._virtiofsd_sought:
            self._virtiofsd_sought = True
            if self._local:
                self._virtiofsd = probe.find_virtiofsd(probe.descriptor_dirs("vhost-user", self._gateway.is_session))
            else:
                self._virtiofsd = Virtiofsd("virtiofsd", None)  # out of reach: libvirt itself will tell
        return self._virtiofsd

    def _real_paths(self, options: Options, observed: Observed | None) -> dict[str, str]:
        if not self._local:
            return {}
        there = observed.persistent.shares().values() if observed and observed.persistent else ()
        shares = [*(options.get("shares") or ()), *there, options]
        named = {share["source"] for share in shares if share.get("source")}
        return {source: sources.real_path(source) for source in named}

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

    def _images(self, options: Options) -> dict[str, DiskImage]:
        keys = [disk_key(disk) for disk in options.get("disks") or ()]
        keys += [disk["backing"] for disk in options.get("disks") or () if disk.get("backing")]
        keys += options.get("remove_storage") or ()
        images = {key: self._image(key) for key in keys}
        return {key: image for key, image in images.items() if image is not None}

    def _image(self, key: str) -> DiskImage | None:
        pool, _slash, volume = key.partition("/")
        if pool:
            return self._gateway.volume(pool, volume)
        # Files of another machine cannot be looked at: QEMU there will tell when one is missing.
        return disks.read_image(key) if self._local else DiskImage(0, "qcow2")

    # What must be refused.

    def check_domain(self, options: Options) -> None:
        """Raise when the host cannot give the domain what it asks for."""
        name = options["name"]
        self._check_size(options)
        self.check_shares(options.get("shares") or (), name)
        if not self._local:
            return
        for option in ("kernel", "initrd", "iso"):
            if options.get(option) and not sources.is_file(options[option]):
                raise InvalidInput(f"{option}: {options[option]} is not a file", fix="Correct the path.", domain=name)
        if options.get("tpm") and not probe.has_swtpm():
            fix = install_fix(probe.os_release(), "swtpm")
            raise Unsupported("tpm: swtpm is not installed", fix=fix, domain=name)

    def _check_size(self, options: Options) -> None:
        limits = {
            "memory": (self._gateway.memory(), "MiB is more than the host has"),
            "vcpus": (self._gateway.max_vcpus(), "is more than QEMU gives a guest here"),
        }
        for option, (limit, problem) in limits.items():
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
                    sources.check_source(share["source"])
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
        defined = next((action.document for action in plan.actions if isinstance(action, Define)), None)
        removed = {action.key for action in plan.actions if isinstance(action, RemoveDisk)}
        if defined is None and not removed:
            return
        macs = set(defined.macs()) if defined else set()
        disks = {self._file(key): key for key in removed | (_disk_keys(defined) if defined else set())}
        for name, other in self._other_domains(plan.name):
            theirs = {self._file(key) for key in _disk_keys(other)}
            problems = [f"MAC address {mac} belongs to domain {name}" for mac in macs & set(other.macs())]
            problems += [f"disk {disks[file]} belongs to domain {name}" for file in disks.keys() & theirs]
            if removed:
                bases = disks.keys() & self._backing_images(theirs)
                problems += [f"disk {disks[file]} is the base of a disk of domain {name}" for file in bases]
            if problems:
                raise InvalidInput(
                    min(problems), fix="Choose another MAC address or disk for this domain.", domain=plan.name
                )
        if defined is not None and self._others is not None:
            self._others[plan.name] = defined

    def _backing_images(self, files: Iterable[str]) -> set[str]:
        return {image for file in files for image in disks.backing_chain(file)} if self._local else set()

    def _other_domains(self, name: str) -> list[tuple[str, DomainXml]]:
        """All other domains, those included that this task is going to define."""
        if self._others is None:
            found = {other: seen.persistent or seen.live for other, seen in self._gateway.observe_all().items()}
            self._others = {other: document for other, document in found.items() if document is not None}
        return [(other, document) for other, document in self._others.items() if other != name]

    def _file(self, key: str) -> str:
        """The file behind a disk's key; many paths lead to one file, and so may a pool and a volume."""
        pool, _slash, volume = key.partition("/")
        path = self._gateway.volume_path(pool, volume) if pool else key
        return sources.real_path(path) if path and self._local else path or key


def _disk_keys(document: DomainXml) -> set[str]:
    return {disk_key(disk) for disk in document.disks() if disk["path"] or disk["volume"]}
