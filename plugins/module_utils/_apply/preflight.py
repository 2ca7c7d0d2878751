# SPDX-License-Identifier: GPL-3.0-or-later
"""What the planner must know of the host, and what must be refused because of it, before anything is touched.

One Preflight serves one task: what it has read of the host and of other domains is read once.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator

from .._domain.model import (
    BindReadOnly,
    CreateDisk,
    Define,
    DiskImage,
    Host,
    MountNosuid,
    Observed,
    Options,
    Plan,
    Start,
    disk_key,
)
from .._domain.values import CPU_MODES, check_known_name
from .._errors import InvalidInput, Unsupported, VirtiofsError
from .._features import Virtiofsd
from .._host import kvm, limits, probe
from .._host.files import bind_mounts, disks, leftovers, mount_table, nosuid, sources, state, wrappers
from .._host.findings import VSOCK_FIX
from .._host.gateway import Gateway
from .conflicts import OtherDomains
from .describe import dead_shares, stale_shares
from .disk_files import resolve

# Without these files a domain does not start.
_NEEDED = ("source", "disk", "iso", "kernel", "initrd")
# Options of a domain, a share or a disk that name a file or directory of the host.
_PATH_OPTIONS = ("source", "path", "backing", "iso", "kernel", "initrd", "serial_log")


class Preflight:
    """The host, as far as plans depend on it."""

    def __init__(self, gateway: Gateway, state: str, others: OtherDomains, check_mode: bool) -> None:
        self._gateway = gateway
        self._others = others
        self._check_mode = check_mode
        self._state = state
        self._local = not gateway.is_remote
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
        named = {path: resolve(self._gateway, path) for path in self._named_paths(options, observed)}
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
            owners=sources.other_owners(self._sources(options)),
            dead_shares=frozenset(dead_shares(observed, self._gateway)) if observed else frozenset(),
            stale_shares=frozenset(stale_shares(observed, self._gateway)) if observed else frozenset(),
            wrappers=wrappers.list_wrappers(self._state, name, virtiofsd.path) if self._local and virtiofsd else {},
            real_paths={path: place.path for path, place in named.items()},
            ways={path: place.way for path, place in named.items()},
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
        return "" if any(other.name == former for other in self._others.without(name)) else former

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
                self._virtiofsd = Virtiofsd("virtiofsd", None)  # out of reach: libvirt itself reports errors
        return self._virtiofsd

    def _named_paths(self, options: Options, observed: Observed | None) -> set[str]:
        """What the task and the definition name, where this host can be asked about it."""
        if not self._local:
            return set()
        named = {file.path for document in observed.documents for file in document.files()} if observed else set()
        named |= {disk_key(disk) for disk in options.get("disks") or ()}
        for item in (options, *(options.get("shares") or ()), *(options.get("disks") or ())):
            named |= {item[option] for option in _PATH_OPTIONS if item.get(option)}
        return named

    def _ignores_setuid(self, options: Options) -> frozenset[str]:
        """The task's sources on file systems that the host's administrator has mounted with nosuid and nodev."""
        return frozenset(path for path in self._sources(options) if nosuid.is_nosuid_by_itself(path))

    def _sources(self, options: Options) -> set[str]:
        """The real paths of the task's sources, where this host can be asked about them."""
        named = {share["source"] for share in (options, *(options.get("shares") or ())) if share.get("source")}
        return {sources.real_path(path) for path in named} if self._local else set()

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
        listed, removed = options.get("disks") or (), options.get("remove_storage") or ()
        based = [disk for disk in listed if disk.get("backing")]
        formats: dict[str, str | None] = dict.fromkeys(removed, "raw")  # only its presence
        formats.update({disk["backing"]: disk.get("backing_format") for disk in based})
        formats.update({disk_key(disk): disk.get("format") for disk in listed})
        named = {
            **dict.fromkeys(removed, "remove_storage"),
            **{disk["backing"]: "backing" for disk in based},
            **{disk_key(disk): "disks" for disk in listed},
        }
        for disk in observed.persistent.disks() if observed and observed.persistent else ():
            if disk_key(disk) in formats and not formats[disk_key(disk)]:
                formats[disk_key(disk)] = disk["format"]
        images = {key: self._named_image(named[key], key, known) for key, known in formats.items()}
        return {key: image for key, image in images.items() if image is not None}

    def _leftovers(self, name: str, options: Options, observed: Observed | None) -> tuple[str, ...]:
        """What killed runs have left of this domain, next to its disks as well."""
        if not self._local:
            return ()
        keys = {disk_key(disk) for disk in options.get("disks") or ()} | set(options.get("remove_storage") or ())
        if observed and observed.persistent:
            keys |= set(observed.persistent.created_disks())
        return tuple(leftovers.find_leftovers(self._state, name, (key for key in keys if key.startswith("/"))))

    def _named_image(self, option: str, key: str, known: str | None) -> DiskImage | None:
        try:
            return self._image(key, known)
        except VirtiofsError as error:
            error.problem = f"{option}: {error.problem}"
            raise

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
        self._check_cpu(options)
        if options["state"] == "running":
            self._check_networks(options)
        self.check_shares(options.get("shares") or (), name)
        if not self._local:
            return
        self.limits().check_options(options)
        for option in ("kernel", "initrd", "iso"):
            if options.get(option) and not sources.is_file(options[option]):
                raise InvalidInput(f"{option}: {options[option]} is not a file", fix="Correct the path.", domain=name)
        for disk in options.get("disks") or ():
            if disk.get("path") and disk.get("format") == "raw" and disk.get("size"):
                disks.require_size(disk["path"], disk["size"])
        if options.get("serial_log"):
            sources.require_log(options["serial_log"])
        if options.get("tpm") and not probe.has_swtpm():
            from .._packages import install_fix  # only this needs it

            fix = install_fix(probe.os_release(), "swtpm")
            raise Unsupported("tpm: swtpm is not installed", fix=fix, domain=name)
        if options.get("vsock") and not probe.has_vsock():
            raise Unsupported(
                "vsock: the host has no /dev/vhost-vsock", fix=f"{VSOCK_FIX}, or omit vsock.", domain=name
            )

    def limits(self) -> limits.Limits:
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

    def _check_cpu(self, options: Options) -> None:
        cpu = options.get("cpu")
        if not cpu or cpu in CPU_MODES or self._gateway.architecture() != "x86_64":  # others' lists have gaps
            return
        models = self._gateway.cpu_models()
        if models and cpu not in models:
            raise InvalidInput(
                f"cpu: libvirt knows no CPU model {cpu}",
                fix="Set cpu to a model that virsh cpu-models x86_64 lists, or to a mode such as host-passthrough.",
                domain=options["name"],
            )

    def _check_networks(self, options: Options) -> None:
        """Refuse to start a domain without the networks and bridges of its interfaces."""
        interfaces = options.get("interfaces") or ()
        for found, fix in (*self._network_problems(interfaces), *self._bridge_problems(interfaces)):
            if self._check_mode:  # an earlier task of the play may only have predicted it
                self.warnings.append(f"domain {options['name']}: {found}, unless an earlier task changes that")
                continue
            raise InvalidInput(found, fix=f"{fix}, or change source of the interface.", domain=options["name"])

    def _network_problems(self, interfaces: Iterable[Options]) -> Iterator[tuple[str, str]]:
        """Each problem with its fix."""
        wanted = {interface.get("source") or "default" for interface in interfaces if interface["type"] == "network"}
        networks = self._gateway.networks() if wanted else {}
        for name in sorted(wanted):
            if name not in networks:
                yield f"interfaces: network {name} does not exist", "Create the network"
            elif not networks[name]:
                start = f"virsh net-start {name}; virsh net-autostart {name}"
                yield f"interfaces: network {name} is not active", f"Start the network: {start}"

    def _bridge_problems(self, interfaces: Iterable[Options]) -> Iterator[tuple[str, str]]:
        """Each problem with its fix."""
        for interface in interfaces if self._local else ():
            if interface["type"] == "bridge" and not sources.has_interface(interface["source"]):
                yield f"interfaces: bridge {interface['source']} does not exist", "Create the bridge"

    def check_shares(self, shares: Iterable[Options], name: str) -> None:
        """Raise when a share cannot be given to a guest: libvirt would find out only at the start."""
        if not self._local:
            return
        shares = list(shares)
        self.limits().check_shares(shares, name)
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

    def check_start(self, plan: Plan, observed: Observed) -> None:
        """Refuse to start a domain without the files that its definition names; libvirt would find out too late."""
        if not self._local or not any(isinstance(action, Start) for action in plan.actions):
            return
        define = next((action.document for action in plan.actions if isinstance(action, Define)), observed.persistent)
        made = {disk_key(action.disk) for action in plan.actions if isinstance(action, CreateDisk)}
        for document in filter(None, (define, observed.saved)):
            for file in document.files():
                if file.kind not in _NEEDED or not file.path.startswith("/") or file.path in made:
                    continue
                if sources.is_missing(file.path, directory=file.share in document.shares()):
                    raise InvalidInput(
                        f"{file.kind} {file.path} of the domain does not exist, so the domain cannot start",
                        fix=f"Restore {file.path}, or remove the {file.kind} from the domain's definition.",
                        domain=plan.name,
                        share=file.share,
                    )

    def check_mounts(self, plan: Plan) -> None:
        """Refuse mounts that the host would lose at its next boot."""
        if not any(isinstance(action, (BindReadOnly, MountNosuid)) for action in plan.actions):
            return
        try:
            mount_table.require_program()
        except VirtiofsError as error:
            error.domain = plan.name
            if not self._check_mode:
                raise
            self.warnings.append(f"{error}, unless an earlier task installs the program")


def _check_open_files(count: int) -> None:
    most = probe.most_open_files()
    if count > most:
        raise InvalidInput(
            f"open_files: {count} is more than the host allows ({most})",
            fix="Decrease open_files, or raise the host's limit: sysctl fs.nr_open.",
        )
