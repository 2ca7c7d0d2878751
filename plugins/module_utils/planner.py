# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide what has to be done. Pure: no Ansible, no libvirt, no clock, no files.

``plan_domain`` and ``plan_share`` take what is wanted, what was observed and what the host can do, and return a Plan:
the actions in order, before and after for the diff, and what only a restart can bring about. Check mode is a plan that
is not executed, so its prediction cannot differ from what a run does.
"""

from __future__ import annotations

import itertools
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable

from .domain_xml import STATE, DomainXml, Realisation, bound_source, mac_for, wrapper_flags, write_field
from .errors import InvalidInput, Unsupported
from .features import Virtiofsd, unavailable
from .schema import DOMAIN, OF_DOMAIN, OF_SHARE, PARTS, SHARE, Codec, is_below, normalised, problems

Wanted = Mapping[str, Any]
"""Module options; None means not given."""


@dataclass(frozen=True)
class Observed:
    """A domain as libvirt has it now. ``persistent`` and ``live`` are None where there is no such definition."""

    name: str
    persistent: DomainXml | None = None
    live: DomainXml | None = None
    run_state: str = "absent"  # absent, stopped, running, paused
    autostart: bool = False
    managed_save: bool = False

    @property
    def is_active(self) -> bool:
        return self.run_state in ("running", "paused")


@dataclass(frozen=True)
class DiskImage:
    """A disk image that exists; ``size`` is what the guest sees, in MiB."""

    size: int
    format: str
    backing: str | None = None
    is_block_device: bool = False


@dataclass(frozen=True)
class Host:
    """What the planner must know of the host. ``local`` is False where files cannot be reached (remote URI)."""

    libvirt: int
    virtiofsd: Virtiofsd | None
    local: bool = True
    session: bool = False
    state: str = STATE
    has_state: bool = False  # the domain has a directory below state
    binds: Mapping[str, bool] = field(default_factory=dict)  # target: mounted read-only and in fstab
    wrappers: Mapping[str, bool] = field(default_factory=dict)  # path: starts the virtiofsd that is there now
    real_paths: Mapping[str, str] = field(default_factory=dict)  # of sources, symbolic links resolved
    images: Mapping[str, DiskImage] = field(default_factory=dict)  # by path or pool/volume
    virt_type: str = "qemu"  # what "auto" means here
    architecture: str = "x86_64"

    def real_path(self, path: str) -> str:
        return self.real_paths.get(path) or posixpath.normpath(path)


@dataclass(frozen=True)
class Action:
    """One step. The gateway or hostfs executes it."""


@dataclass(frozen=True)
class BindReadOnly(Action):
    source: str
    target: str


@dataclass(frozen=True)
class Unbind(Action):
    target: str


@dataclass(frozen=True)
class WriteWrapper(Action):
    path: str
    virtiofsd: str
    flags: Mapping[str, str]


@dataclass(frozen=True)
class RemoveWrapper(Action):
    path: str


@dataclass(frozen=True)
class CreateDisk(Action):
    disk: Mapping[str, Any]


@dataclass(frozen=True)
class GrowDisk(Action):
    disk: Mapping[str, Any]
    format: str
    target: str  # of the running domain, "" when it is not running


@dataclass(frozen=True)
class RemoveDisk(Action):
    key: str  # path or pool/volume


@dataclass(frozen=True)
class RemoveState(Action):
    """The domain's directory below STATE."""


@dataclass(frozen=True)
class Define(Action):
    document: DomainXml
    expected: DomainXml | None  # what was there when the plan was made: anything else is another tool's change


@dataclass(frozen=True)
class ReservePorts(Action):
    """Add what is missing to this many free ports; they are known only when libvirt has placed all devices."""

    count: int


@dataclass(frozen=True)
class NoteRestart(Action):
    """Remember in the definition that a restart is under way, or that it is done."""

    pending: bool


@dataclass(frozen=True)
class Undefine(Action):
    remove_nvram: bool
    remove_tpm_state: bool


@dataclass(frozen=True)
class Start(Action):
    pass


@dataclass(frozen=True)
class Resume(Action):
    pass


@dataclass(frozen=True)
class Shutdown(Action):
    timeout: int
    force: bool


@dataclass(frozen=True)
class Destroy(Action):
    pass


@dataclass(frozen=True)
class SetAutostart(Action):
    enabled: bool


@dataclass(frozen=True)
class AttachShare(Action):
    tag: str
    xml: str


@dataclass(frozen=True)
class DetachShare(Action):
    tag: str
    xml: str
    timeout: int = 30


@dataclass(frozen=True)
class ChangeMedium(Action):
    path: str


@dataclass
class Plan:
    """What to do, and what it changes."""

    name: str
    actions: list[Action] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    restart_reasons: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        return bool(self.actions)


def given(wanted: Wanted) -> dict[str, Any]:
    """The options that the task names."""
    return {option: value for option, value in wanted.items() if value is not None}


# Checks of the wanted state alone.


def check_domain(wanted: Wanted) -> None:
    """Raise InvalidInput when the wanted domain contradicts itself; needs nothing from the host."""
    found = problems(OF_DOMAIN, wanted)
    shares = wanted.get("shares") or []
    found += _list_problems("shares", [share["tag"] for share in shares], "tag")
    for share in shares:
        found += [f"share {share['tag']}: {problem}" for problem in _share_problems(share)]
    disks = wanted.get("disks") or []
    found += _list_problems("disks", [disk_key(disk) for disk in disks], "disk")
    for disk in disks:
        if bool(disk.get("path")) == bool(disk.get("pool") and disk.get("volume")):
            found.append("disks: give either path, or pool and volume")
    found += _interface_problems(wanted.get("interfaces") or [])
    if wanted.get("secure_boot") not in (None, "off") and wanted.get("firmware") == "bios":
        found.append("secure_boot: needs firmware uefi")
    if (wanted.get("initrd") or wanted.get("cmdline")) and not wanted.get("kernel") and not wanted.get("xml"):
        found.append("kernel: initrd and cmdline are used only with a kernel")
    if wanted["state"] not in ("running", "present") and wanted.get("wait_for"):
        found.append(f"wait_for: a domain in state {wanted['state']} never gets there")
    _raise(found, wanted["name"])


def check_share(wanted: Wanted) -> None:
    """Raise InvalidInput when the wanted share contradicts itself."""
    found = problems(OF_SHARE, wanted)
    if wanted["state"] == "present":
        found += _share_problems(wanted)
    _raise(found, wanted["domain"], wanted["tag"])


def _raise(found: list[str], domain: str, share: str | None = None) -> None:
    if found:
        raise InvalidInput("; ".join(found), fix="Nothing was changed; correct the task.", domain=domain, share=share)


def _list_problems(option: str, keys: list[str], what: str) -> list[str]:
    return [f"{option}: {what} {key!r} is used twice" for key in sorted({key for key in keys if keys.count(key) > 1})]


# What a virtiofsd that somebody else runs decides for itself.
_DAEMON_OPTIONS = (
    "read_only",
    "cache",
    "xattr",
    "sandbox",
    "thread_pool_size",
    "open_files",
    "posix_lock",
    "flock",
    "inode_file_handles",
    "idmap",
)


def _share_problems(share: Wanted) -> list[str]:
    if bool(share.get("source")) == bool(share.get("socket")):
        return ["give either source or socket"]
    if share.get("socket"):
        return [
            f"{option}: is decided by the virtiofsd behind the socket"
            for option in _DAEMON_OPTIONS
            if share.get(option) is not None
        ]
    return []


def _interface_problems(interfaces: list[Wanted]) -> list[str]:
    macs = [interface["mac"].lower() for interface in interfaces if interface.get("mac")]
    found = _list_problems("interfaces", macs, "MAC address")
    for interface in interfaces:
        if interface["type"] == "bridge" and not interface.get("source"):
            found.append("interfaces: a bridge interface needs source, the name of the bridge")
        if interface["type"] != "user" and interface.get("forwards"):
            found.append("interfaces: only interfaces of type user forward ports")
        if interface["type"] == "user" and interface.get("source"):
            found.append("interfaces: user networking has no source")
    return found


# Checks against the host.


def check_features(shares: Iterable[Wanted], host: Host, domain: str) -> None:
    """Raise Unsupported when the host is too old for an option, naming the version that has it."""
    for share in shares:
        for option in SHARE:
            value = share.get(option.option)
            needed = (
                option.feature and value is not None and (not option.needs_feature or value in option.needs_feature)
            )
            if option.option == "tag" and share.get("socket"):
                needed = False
            reason = unavailable(option.feature, host.libvirt, host.virtiofsd) if needed else None
            if reason:
                raise Unsupported(
                    f"{option.option}: {reason}",
                    fix=_upgrade(option.option),
                    domain=domain,
                    share=share["tag"],
                )
        if host.session and unavailable("session", host.libvirt, host.virtiofsd):
            raise Unsupported(
                str(unavailable("session", host.libvirt, host.virtiofsd)),
                fix="Use qemu:///system, or upgrade.",
                domain=domain,
                share=share["tag"],
            )
        _check_read_only(share, host, domain)


def _upgrade(option: str) -> str:
    if option == "tag":
        return "Install virtiofsd on the host (role keystone.virtiofs.host does), or upgrade libvirt."
    return f"Leave {option} out, or upgrade the host."


def _check_read_only(share: Wanted, host: Host, domain: str) -> None:
    if not share.get("read_only") or _read_only_element(host) or (host.local and not host.session):
        return
    raise Unsupported(
        f"read_only: {unavailable('readonly', host.libvirt, host.virtiofsd)}, and a read-only bind mount of the source"
        " can only be made by root on the host itself",
        fix="Run the task on the host with qemu:///system, or upgrade.",
        domain=domain,
        share=share["tag"],
    )


def _read_only_element(host: Host) -> bool:
    return unavailable("readonly", host.libvirt, host.virtiofsd) is None


def check_nesting(shares: Mapping[str, Wanted], host: Host, domain: str) -> None:
    """Raise InvalidInput when a share lies in a writable share: the guest could write to it through that one."""
    for tag, share in shares.items():
        for other_tag, other in shares.items():
            source, writable = share.get("source"), other.get("source")
            if tag == other_tag or not source or not writable or other.get("read_only"):
                continue
            if is_below(host.real_path(source), host.real_path(writable)):
                raise InvalidInput(
                    f"source {source} lies in {writable}, which share {other_tag} hands out writable",
                    fix=f"Make {other_tag} read_only, or share another directory.",
                    domain=domain,
                    share=tag,
                )


# Domains.


def disk_key(disk: Wanted) -> str:
    """What identifies a disk: its path, or pool/volume."""
    return disk.get("path") or f"{disk.get('pool')}/{disk.get('volume')}"


def resolve_forwards(wanted: Wanted, observed: Observed, is_taken: Callable[[str, int], bool]) -> Wanted:
    """Decide the host ports: a ``next_free`` forward keeps the port it once got, else takes the next free one.

    ``is_taken(address, port)`` is asked only for ports that a start would have to open. Raises InvalidInput when a
    fixed port is taken by somebody else.
    """
    if not any(interface.get("forwards") for interface in wanted.get("interfaces") or ()):
        return wanted
    kept = {
        (f["address"], f["guest_port"]): f["host_port"]
        for document in (observed.persistent,)
        if document
        for interface in document.interfaces()
        for f in interface["forwards"]
    }
    chosen: set[tuple[str, int]] = set()
    interfaces = []
    for interface in wanted["interfaces"]:
        forwards = []
        for forward in interface.get("forwards") or ():
            port = _host_port(forward, kept, chosen, observed, is_taken, wanted)
            chosen.add((forward["address"], port))
            forwards.append({"address": forward["address"], "host_port": port, "guest_port": forward["guest_port"]})
        interfaces.append({**interface, "forwards": forwards})
    return {**wanted, "interfaces": interfaces}


def _host_port(
    forward: Wanted,
    kept: Mapping[Any, int],
    chosen: set[tuple[str, int]],
    observed: Observed,
    is_taken: Callable[[str, int], bool],
    wanted: Wanted,
) -> int:
    address, port = forward["address"], int(forward["host_port"])
    before = kept.get((address, forward["guest_port"]))
    if forward.get("next_free"):
        if before is not None and (observed.is_active or not is_taken(address, before)):
            return before
        while (address, port) in chosen or is_taken(address, port):
            port += 1
        if port > 65535:
            raise InvalidInput(
                f"no port from {forward['host_port']} up is free on {address}",
                fix="Free one, or start lower.",
                domain=wanted["name"],
            )
        return port
    opens = not (observed.is_active and before == port)
    if (address, port) in chosen or (opens and is_taken(address, port)):
        raise InvalidInput(
            f"port {port} on {address} is taken",
            domain=wanted["name"],
            fix="Choose another host_port, or set next_free to take the next free one.",
        )
    return port


def plan_domain(wanted: Wanted, observed: Observed, host: Host) -> Plan:
    """The plan that brings a domain to the wanted state. ``wanted`` has passed check_domain and resolve_forwards."""
    plan = Plan(wanted["name"])
    if wanted["state"] == "absent":
        _plan_absent(wanted, observed, host, plan)
        _check_reach(plan, host)
        return plan
    shares = [normalised(share, host.real_path) for share in wanted.get("shares") or ()]
    check_features(shares, host, wanted["name"])
    document = _target(wanted, shares, observed, host)
    check_nesting(document.shares(), host, wanted["name"])
    disks = _plan_disks(wanted, observed, host, plan)
    for disk in disks:
        if isinstance(disk, CreateDisk) and disk_key(disk.disk) not in document.created_disks():
            document.add_created_disk(disk_key(disk.disk))
    # Defined first: should the run be killed in between, the definition still knows whose disk it is.
    _plan_define(document, observed, plan)
    ports = _wanted_ports(wanted, document)
    if ports is not None and document.reserved_ports != ports:
        plan.actions.append(ReservePorts(ports))
    plan.actions += disks
    _check_reach(plan, host)
    restart = _plan_live(wanted, shares, document, observed, host, plan)
    _plan_run_state(wanted, observed, restart, plan)
    _finish_restart(wanted["state"], observed, plan)
    if wanted.get("autostart") is not None and wanted["autostart"] != observed.autostart:
        plan.actions.append(SetAutostart(wanted["autostart"]))
    _plan_host_files(document, observed, restart, host, plan)
    plan.before = _domain_view(wanted, observed.persistent, observed)
    plan.after = {**_domain_view(wanted, document, observed), "state": _state_after(wanted, observed)}
    if wanted.get("autostart") is not None:
        plan.after["autostart"] = wanted["autostart"]
    if ports is not None:
        plan.after["hotplug_ports"] = ports
    return plan


def _plan_absent(wanted: Wanted, observed: Observed, host: Host, plan: Plan) -> None:
    """Stop and undefine; of what the domain leaves behind only what the task names is removed."""
    if observed.is_active:
        plan.actions.append(Destroy())
    gone = [key for key in wanted.get("remove_storage") or () if key in host.images]
    plan.actions += [RemoveDisk(key) for key in gone]
    plan.actions += [Unbind(target) for target in sorted(host.binds)]
    if host.has_state:
        plan.actions.append(RemoveState())
    # Last: should the run be killed before, the definition still tells which disks were created for the domain.
    if observed.persistent is not None:
        plan.actions.append(Undefine(wanted["remove_nvram"], wanted["remove_tpm_state"]))
    plan.before = {"state": _state(observed), "storage": gone}
    plan.after = {"state": "absent", "storage": []}


def _state(observed: Observed) -> str:
    return "absent" if observed.persistent is None and not observed.is_active else observed.run_state


def _state_after(wanted: Wanted, observed: Observed) -> str:
    if wanted["state"] == "present":
        return "stopped" if observed.run_state == "absent" else observed.run_state
    return str(wanted["state"])


def _target(wanted: Wanted, shares: list[dict[str, Any]], observed: Observed, host: Host) -> DomainXml:
    """The persistent document as it should be: what is there, with everything that differs written over it."""
    document = _base(wanted, observed, host)
    current = document.options()
    values = given(wanted)
    if values.get("virt_type") == "auto":
        values["virt_type"] = current["virt_type"] if observed.persistent is not None else host.virt_type
    if values.get("secure_boot") not in (None, "off"):
        values.setdefault("firmware", "uefi")
    if values.get("firmware") == "uefi" and (observed.persistent is None or current["firmware"] == "bios"):
        # Left to itself, libvirt takes the first UEFI it finds, on Debian one that boots only what Microsoft signed.
        values.setdefault("secure_boot", "off")
    if observed.persistent is None and not wanted.get("xml"):
        values = {**_initial(values, host), **values}
    for option in DOMAIN:
        value = values.get(option.option)
        if value is not None and value != current[option.option]:
            write_field(option, document.root, value)
            # Writing one firmware option forgets what libvirt selected for the other.
            current = document.options() if option.codec is Codec.FIRMWARE else current
    _set_shares(document, shares, host)
    _set_disks(document, wanted, host)
    if wanted.get("interfaces") is not None:
        _set_interfaces(document, wanted)
    if observed.persistent is None:
        document.set_mark(defined="yes")
    return document


def _initial(values: Wanted, host: Host) -> dict[str, Any]:
    """What a new domain gets when the task does not say."""
    initial = {option.option: option.initial for option in DOMAIN if option.initial is not None}
    virt_type = values.get("virt_type") or host.virt_type
    # Under TCG every emulated CPU feature costs: qemu64 boots a guest twice as fast as max (measured: 62 s, 128 s).
    cpu = "host-passthrough" if virt_type == "kvm" else "qemu64" if host.architecture == "x86_64" else "maximum"
    return {**initial, "virt_type": virt_type, "cpu": cpu}


def _base(wanted: Wanted, observed: Observed, host: Host) -> DomainXml:
    if not wanted.get("xml"):
        if observed.persistent is not None:
            return observed.persistent.copy()
        return DomainXml.skeleton(wanted["name"], host.architecture)
    template = DomainXml(wanted["xml"], origin="the xml option")
    _check_template(template, wanted, observed)
    digest = template.digest()
    if observed.persistent is not None and observed.persistent.template == digest:
        return observed.persistent.copy()
    if observed.persistent is not None:
        template.adopt(observed.persistent)
    template.set_mark(template=digest)
    return template


def _check_template(template: DomainXml, wanted: Wanted, observed: Observed) -> None:
    if template.name not in (None, wanted["name"]):
        raise InvalidInput(
            f"the xml option is of a domain named {template.name!r}",
            domain=wanted["name"],
            fix="Make name and the XML's <name> the same.",
        )
    uuid = observed.persistent.uuid if observed.persistent else None
    if template.uuid and uuid and template.uuid != uuid:
        raise InvalidInput(
            f"the xml option has uuid {template.uuid}, the existing domain has {uuid}",
            domain=wanted["name"],
            fix="Remove <uuid> from the XML: the domain keeps its own.",
        )
    template.set_name(wanted["name"])


def realisation(document_name: str, host: Host) -> Realisation:
    """How this host makes read-only shares and virtiofsd flags real."""
    return Realisation(document_name, _read_only_element(host), host.state)


def _set_shares(document: DomainXml, shares: list[dict[str, Any]], host: Host) -> None:
    current = document.shares()
    how = realisation(document.name or "", host)
    for share in shares:
        if not differences(share, current.get(share["tag"])):
            continue
        document.set_share(share, how)
    if shares and not document.has_shared_memory():
        document.share_memory()


def differences(wanted: Wanted, current: Wanted | None) -> list[str]:
    """The share options that are given and differ; a missing share differs in its tag."""
    if current is None:
        return ["tag"]
    options = {option.option for option in SHARE}
    return [option for option, value in given(wanted).items() if option in options and value != current[option]]


def _set_disks(document: DomainXml, wanted: Wanted, host: Host) -> None:
    current = {disk_key(disk): disk for disk in document.disks()}
    for disk in wanted.get("disks") or ():
        there = current.get(disk_key(disk))
        if there is None:
            image = host.images.get(disk_key(disk))
            image_format = _image_format(disk, image, wanted["name"]) if image else disk.get("format")
            document.add_disk({**disk, "format": image_format}, bool(image and image.is_block_device))
            continue
        for option in ("format", "bus"):
            if disk.get(option) and there[option] and disk[option] != there[option]:
                raise InvalidInput(
                    f"disk {disk_key(disk)}: {option} is {there[option]}, it cannot become {disk[option]}",
                    fix="Give a new disk, or leave the option out.",
                    domain=wanted["name"],
                )


def _image_format(disk: Wanted, image: DiskImage, domain: str) -> str:
    """The format of an image that is there already.

    A guest can write a qcow2 header into its raw disk, with any file of the host as backing image. So a format that was
    only recognised is not trusted when it leads to a file that the task does not name.
    """
    if not disk.get("format") and image.backing and image.backing != disk.get("backing"):
        raise InvalidInput(
            f"disk {disk_key(disk)} looks like {image.format} over {image.backing}",
            domain=domain,
            fix="Give its format, or the backing image it is meant to have.",
        )
    return disk.get("format") or image.format


def _set_interfaces(document: DomainXml, wanted: Wanted) -> None:
    """Listed interfaces take the place of those that are there; what is there beyond them stays."""
    there = document.interfaces()
    left = {forwards: [i for i in there if bool(i["forwards"]) is forwards] for forwards in (False, True)}
    listed = sorted(wanted["interfaces"], key=_forwards)
    # Forwards live elsewhere in the document: one of the same kind is replaced first, else one of the other kind.
    replaced = [left[_forwards(interface)].pop(0) if left[_forwards(interface)] else None for interface in listed]
    macs = {interface["mac"].lower() for interface in (*there, *listed) if interface["mac"]}
    resolved = []
    for index, (interface, same_kind) in enumerate(zip(listed, replaced)):
        other_kind = left[not _forwards(interface)]
        before = same_kind or (other_kind.pop(0) if other_kind else {})
        mac = (interface["mac"] or before.get("mac") or _unused_mac(wanted["name"], index, macs)).lower()
        macs.add(mac)
        source = interface["source"] or ("default" if interface["type"] == "network" else None)
        model = interface["model"] or before.get("model") or "virtio"
        resolved.append(
            {**interface, "mac": mac, "model": model, "source": source, "forwards": interface["forwards"] or []}
        )
    complete = sorted([*resolved, *left[False], *left[True]], key=_forwards)
    if complete != there:
        document.set_interfaces(complete)


def _forwards(interface: Wanted) -> bool:
    return bool(interface["forwards"])


def _unused_mac(name: str, index: int, used: set[str]) -> str:
    return next(mac for mac in (mac_for(name, number) for number in itertools.count(index)) if mac not in used)


def _wanted_ports(wanted: Wanted, document: DomainXml) -> int | None:
    """How many ports to reserve. The wish is kept in the mark: what plugged shares use up is not asked for again."""
    decided = document.reserved_ports is not None or not document.is_own or wanted.get("xml")
    if wanted.get("hotplug_ports") is not None or decided:
        return wanted.get("hotplug_ports")
    return int(next(option.initial for option in PARTS if option.option == "hotplug_ports"))


def _plan_define(document: DomainXml, observed: Observed, plan: Plan) -> None:
    before = observed.persistent
    if before is None or before.digest() != document.digest():
        plan.actions.append(Define(document, before))


def _plan_disks(wanted: Wanted, observed: Observed, host: Host, plan: Plan) -> list[Action]:
    live = {disk_key(disk): disk["target"] for disk in observed.live.disks()} if observed.live else {}
    actions: list[Action] = []
    for disk in wanted.get("disks") or ():
        key = disk_key(disk)
        image = host.images.get(key)
        if image is None:
            _check_new_disk(disk, host, wanted["name"])
            actions.append(CreateDisk(disk))
        elif disk.get("size") and disk["size"] > image.size:
            actions.append(GrowDisk(disk, disk.get("format") or image.format, live.get(key, "")))
        elif disk.get("size") and disk["size"] < image.size:
            plan.warnings.append(
                f"domain {wanted['name']}: disk {key} has {image.size} MiB, it is never shrunk to {disk['size']} MiB"
            )
    return actions


def _check_reach(plan: Plan, host: Host) -> None:
    """Raise Unsupported when a disk's file is another machine's: a file of that name on this one is not meant."""
    keys = [disk_key(action.disk) for action in plan.actions if isinstance(action, (CreateDisk, GrowDisk))]
    keys += [action.key for action in plan.actions if isinstance(action, RemoveDisk)]
    files = [key for key in keys if key.startswith("/")]
    if files and not host.local:
        raise Unsupported(
            f"{', '.join(files)}: files of another machine can be neither created nor grown nor removed",
            fix="Give a pool and a volume, leave size and backing out, or run the task on that machine.",
            domain=plan.name,
        )


def _check_new_disk(disk: Wanted, host: Host, domain: str) -> None:
    key, backing = disk_key(disk), disk.get("backing")
    if not disk.get("size") and (not backing or disk.get("pool")):
        fix = "Give size (MiB) to have it created; a file can also be created over a backing image."
        raise InvalidInput(f"disk {key} does not exist", domain=domain, fix=fix)
    if not backing or not host.local:
        return
    original = host.images.get(backing)
    if original is None:
        problem = f"disk {key}: its backing image {backing} does not exist"
        raise InvalidInput(problem, domain=domain, fix="Create it first.")
    if disk.get("size") and disk["size"] < original.size:
        raise InvalidInput(
            f"disk {key}: size {disk['size']} MiB is less than the {original.size} MiB of its backing image",
            domain=domain,
            fix="Give more, or leave size out.",
        )


def _plan_live(
    wanted: Wanted,
    shares: list[dict[str, Any]],
    document: DomainXml,
    observed: Observed,
    host: Host,
    plan: Plan,
) -> bool:
    """Bring the running domain along, or say what only a restart can do. Returns whether the plan restarts it."""
    if observed.live is None or wanted["state"] == "stopped":
        return False
    reasons = _stale_options(wanted, document, observed.live)
    plugging, share_reasons = _plan_plugging(shares, document, observed.live, host)
    plan.restart_reasons = reasons + share_reasons
    if plan.restart_reasons and wanted["restart"] == "if_required":
        plan.actions += _restart(wanted)
        plan.restart_reasons = []
        return True
    plan.actions += plugging
    if wanted.get("iso") is not None and observed.live.options()["iso"] not in (None, wanted["iso"]):
        plan.actions.append(ChangeMedium(wanted["iso"]))
    return False


def _restart(wanted: Wanted) -> list[Action]:
    stop = Shutdown(wanted["shutdown_timeout"], wanted["force_stop"])
    return [NoteRestart(True), stop, Start(), NoteRestart(False)]


def _finish_restart(state: str, observed: Observed, plan: Plan) -> None:
    """Do what a killed run has left of a restart."""
    if observed.persistent is None or not observed.persistent.restart_pending:
        return
    if state != "stopped" and not observed.is_active and Start() not in plan.actions:
        plan.actions.append(Start())
    if NoteRestart(False) not in plan.actions:
        plan.actions.append(NoteRestart(False))


def _stale_options(wanted: Wanted, document: DomainXml, live: DomainXml) -> list[str]:
    """What the running domain has other than the document says, of what the task names."""
    wants, has = document.options(), live.options()
    stale = [
        f"{option.option}: runs with {has[option.option]}, defined is {wants[option.option]}"
        for option in DOMAIN
        if wanted.get(option.option) is not None
        and wants[option.option] != has[option.option]
        and (option.codec is not Codec.ISO or has["iso"] is None)
        # libvirt expands host-model in the running domain.
        and not (option.codec is Codec.CPU and wants["cpu"] == "host-model")
    ]
    if wanted.get("xml") and document.template != live.template:
        stale.append("xml: runs with an earlier one")
    attached = {disk_key(disk) for disk in live.disks()}
    stale += [
        f"disks: {disk_key(disk)} is not attached"
        for disk in wanted.get("disks") or ()
        if disk_key(disk) not in attached
    ]
    if wanted.get("interfaces") is not None:
        running = live.interfaces()
        if any(interface not in running for interface in document.interfaces()):
            stale.append("interfaces: run with other settings")
    return stale


def _plan_plugging(
    shares: Iterable[Wanted], document: DomainXml, live: DomainXml, host: Host
) -> tuple[list[Action], list[str]]:
    """Hot plug what the running domain can take; the reasons why it cannot take the rest."""
    running = live.shares()
    actions: list[Action] = []
    reasons: list[str] = []
    ports = live.free_ports()
    for share in shares:
        tag = share["tag"]
        differing = differences(share, running.get(tag))
        if not differing:
            continue
        obstacle = _plug_obstacle(live, host, ports if tag not in running else 1)
        if obstacle:
            reasons.append(f"share {tag}: {obstacle}")
            continue
        if tag in running:
            actions.append(DetachShare(tag, live.share_text(tag)))
        else:
            ports -= 1
        actions.append(AttachShare(tag, document.share_text(tag)))
    return actions, reasons


def _plug_obstacle(live: DomainXml, host: Host, ports: int) -> str | None:
    if not live.has_shared_memory():
        return "the domain runs without shared memory"
    too_old = unavailable("hotplug", host.libvirt, host.virtiofsd)
    if too_old:
        return too_old
    if ports < 1 and live.has_pcie():
        return "the domain has no free pcie-root-port (hotplug_ports reserves some)"
    return None


def _plan_run_state(wanted: Wanted, observed: Observed, restarted: bool, plan: Plan) -> None:
    if wanted["state"] == "running" and observed.run_state in ("absent", "stopped"):
        if observed.managed_save and any(isinstance(action, Define) for action in plan.actions):
            plan.restart_reasons.append("managed save: it resumes with the definition it was saved with")
        plan.actions.append(Start())
    elif wanted["state"] == "running" and observed.run_state == "paused" and not restarted:
        plan.actions.append(Resume())
    elif wanted["state"] == "stopped" and observed.is_active:
        plan.actions.append(Shutdown(wanted["shutdown_timeout"], wanted["force_stop"]))


def _plan_host_files(document: DomainXml, observed: Observed, restarted: bool, host: Host, plan: Plan) -> None:
    """Bind mounts and wrappers: made before anything that uses them, removed after the last use."""
    if not host.local:
        return
    paths = set(document.share_paths().values())
    if observed.live is not None and not restarted:
        # A share stays in use until the guest has let go of it; what this plan detaches is free afterwards.
        gone = {action.tag for action in plan.actions if isinstance(action, DetachShare)}
        paths |= {path for tag, path in observed.live.share_paths().items() if tag not in gone}
    prepare: list[Action] = []
    for source, daemon in sorted(paths):
        original = bound_source(source)
        if original and not host.binds.get(source):
            prepare.append(BindReadOnly(original, source))
        flags = wrapper_flags(daemon)
        if flags and not host.wrappers.get(daemon) and host.virtiofsd:
            prepare.append(WriteWrapper(daemon, host.virtiofsd.path, flags))
    sources, daemons = {source for source, _daemon in paths}, {daemon for _source, daemon in paths}
    clean_up: list[Action] = [Unbind(target) for target in sorted(set(host.binds) - sources)]
    clean_up += [RemoveWrapper(path) for path in sorted(set(host.wrappers) - daemons)]
    plan.actions = prepare + plan.actions + clean_up


def _domain_view(wanted: Wanted, document: DomainXml | None, observed: Observed) -> dict[str, Any]:
    """A document as diff: the scalar options, shares, disks and interfaces."""
    view: dict[str, Any] = {"state": _state(observed)}
    if wanted.get("autostart") is not None:
        view["autostart"] = observed.autostart
    if document is None:
        return view
    view.update({option: value for option, value in document.options().items() if value is not None})
    view["shares"] = {tag: given(share) for tag, share in document.shares().items()}
    view["disks"] = [disk_key(disk) for disk in document.disks()]
    view["interfaces"] = document.interfaces()
    view["shared_memory"] = document.has_shared_memory()
    view["hotplug_ports"] = document.reserved_ports
    if document.template:
        view["xml"] = document.template
    return view


# One share.


def plan_share(wanted: Wanted, observed: Observed, host: Host) -> Plan:
    """The plan for one share of an existing domain. ``wanted`` has passed check_share."""
    name, tag = wanted["domain"], wanted["tag"]
    plan = Plan(name)
    source_of_truth = observed.persistent or observed.live
    if source_of_truth is None:
        if wanted["state"] == "absent":
            return plan
        raise InvalidInput(
            "there is no such domain",
            domain=name,
            share=tag,
            fix="Define it first, with keystone.virtiofs.domain.",
        )
    document = source_of_truth.copy()
    restart = (_plan_share_present if wanted["state"] == "present" else _plan_share_absent)(
        wanted, document, observed, host, plan
    )
    _finish_restart(wanted["state"], observed, plan)
    _plan_host_files(document, observed, restart, host, plan)
    plan.before = _share_view(source_of_truth, tag)
    plan.after = _share_view(document, tag)
    return plan


def _share_view(document: DomainXml, tag: str) -> dict[str, Any]:
    share = document.shares().get(tag)
    return {"share": given(share) if share else None, "shared_memory": document.has_shared_memory()}


def _plan_share_present(wanted: Wanted, document: DomainXml, observed: Observed, host: Host, plan: Plan) -> bool:
    share = normalised({option.option: wanted.get(option.option) for option in SHARE}, host.real_path)
    check_features([share], host, wanted["domain"])
    _set_shares(document, [share], host)
    check_nesting(document.shares(), host, wanted["domain"])
    if observed.persistent is not None:
        _plan_define(document, observed, plan)
    if observed.live is None:
        return False
    plugging, reasons = _plan_plugging([share], document, observed.live, host)
    return _plug_or_restart(wanted, plugging, reasons, observed, plan)


def _plan_share_absent(wanted: Wanted, document: DomainXml, observed: Observed, host: Host, plan: Plan) -> bool:
    tag = wanted["tag"]
    document.remove_share(tag)
    if observed.persistent is not None:
        _plan_define(document, observed, plan)
    if observed.live is None or tag not in observed.live.shares():
        return False
    too_old = unavailable("hotplug", host.libvirt, host.virtiofsd)
    detach = DetachShare(tag, observed.live.share_text(tag), wanted["detach_timeout"])
    return _plug_or_restart(
        wanted, [] if too_old else [detach], [f"share {tag}: {too_old}"] if too_old else [], observed, plan
    )


def _plug_or_restart(
    wanted: Wanted, plugging: list[Action], reasons: list[str], observed: Observed, plan: Plan
) -> bool:
    if not reasons or wanted["restart"] == "never":
        plan.actions += plugging
        plan.restart_reasons = reasons
        return False
    if observed.persistent is None:
        raise InvalidInput(
            "the domain is transient: a restart would lose it",
            domain=wanted["domain"],
            share=wanted["tag"],
            fix="Define it persistently, or set restart to never.",
        )
    plan.actions += _restart(wanted)
    return True
