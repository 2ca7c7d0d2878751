# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse what cannot be, before anything is touched. Pure: the host is given as a value."""

from __future__ import annotations

import posixpath
from collections.abc import Container, Iterable

from .._errors import InvalidInput, Unsupported
from .._features import unavailable
from .model import Host, Observed, Options, disk_key
from .schema import OF_DOMAIN, OF_NETWORK, OF_SHARE, SHARE, problems
from .state_paths import ShareBackend, bind_path
from .values import FILE_NAME_BYTES, check_mounted_tag, check_new_name

# Checks of the wanted state alone.


def check_domain(wanted: Options) -> None:
    """Raise InvalidInput when the wanted domain contradicts itself; needs nothing from the host."""
    found = problems(OF_DOMAIN, wanted)
    shares = wanted.get("shares") or []
    found += _list_problems("shares", [share["tag"] for share in shares], "tag")
    for share in shares:
        found += [f"share {share['tag']}: {problem}" for problem in _share_problems(share)]
    disks = wanted.get("disks") or []
    found += _list_problems("disks", [disk_key(disk) for disk in disks], "disk")
    for disk in disks:
        given = [option for option in ("path", "pool", "volume") if disk.get(option)]
        if given not in (["path"], ["pool", "volume"]):
            found.append("disks: exactly one of path, or pool and volume, is required")
        if disk.get("pmem") and not (disk.get("path") and disk.get("format") == "raw" and disk.get("read_only")):
            found.append("disks: pmem requires path, format raw and read_only")
    found += _interface_problems(wanted.get("interfaces") or [])
    if wanted.get("secure_boot") not in (None, "off") and wanted.get("firmware") == "bios":
        found.append("secure_boot: needs firmware uefi")
    if (wanted.get("initrd") or wanted.get("cmdline")) and not wanted.get("kernel") and not wanted.get("xml"):
        found.append("kernel: required by initrd and cmdline")
    if wanted["state"] not in ("running", "present") and wanted.get("wait_for"):
        found.append(f"wait_for: cannot be combined with state={wanted['state']}")
    _raise(found, wanted["name"])


def check_share(wanted: Options) -> None:
    """Raise InvalidInput when the wanted share contradicts itself."""
    found = problems(OF_SHARE, wanted)
    if wanted["state"] == "present":
        found += _share_problems(wanted)
    if wanted["mount_point"] is not None and (problem := check_mounted_tag(wanted["tag"])):
        found.append(f"tag: {problem}")
    _raise(found, wanted["domain"], wanted["tag"])


def check_network(wanted: Options) -> None:
    """Raise InvalidInput when the wanted network cannot be."""
    _raise(problems(OF_NETWORK, wanted))


def check_new_domain(name: str) -> None:
    """Raise InvalidInput for a name that a domain may have, but had better not be given."""
    problem = check_new_name(name)
    if problem:
        raise InvalidInput(f"name: {problem}", fix="Choose another name.", domain=name)


def check_transience(name: str, observed: Observed) -> None:
    """Raise InvalidInput for a domain that only runs: a new definition would know nothing of its disks."""
    if observed.live is not None and observed.persistent is None:
        raise InvalidInput(
            "the domain is transient: it runs without a persistent definition",
            fix=f"Stop the domain, or define it (virsh dumpxml --inactive {name} > FILE; virsh define FILE).",
            domain=name,
        )


def _raise(found: list[str], domain: str | None = None, share: str | None = None) -> None:
    if found:
        raise InvalidInput("; ".join(found), fix="Nothing was changed; correct the task.", domain=domain, share=share)


def _list_problems(option: str, keys: list[str], what: str) -> list[str]:
    return [f"{option}: {what} {key!r} is used twice" for key in sorted({key for key in keys if keys.count(key) > 1})]


# The only options that an externally managed virtiofsd leaves to libvirt; it decides all others itself.
WITH_SOCKET = ("tag", "socket", "queue_size")


def _share_problems(share: Options) -> list[str]:
    if bool(share.get("source")) == bool(share.get("socket")):
        return ["exactly one of source and socket is required"]
    if share.get("socket"):
        return [
            f"{field.option}: cannot be combined with socket, because the virtiofsd behind the socket decides it"
            for field in SHARE
            if field.option not in WITH_SOCKET and share.get(field.option) is not None
        ]
    return []


def _interface_problems(interfaces: list[Options]) -> list[str]:
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


def check_features(shares: Iterable[Options], host: Host, domain: str) -> None:
    """Raise Unsupported when the host is too old for an option, naming the version that has it."""
    for share in shares:
        for option in SHARE:
            needed = "" if option.option == "tag" and share.get("socket") else option.needs(share.get(option.option))
            reason = unavailable(needed, host.libvirt, host.virtiofsd) if needed else None
            if reason:
                raise Unsupported(
                    f"{option.option}: {reason}",
                    fix=_upgrade(option.option, needed),
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


def _upgrade(option: str, feature: str) -> str:
    if feature == "cache_store":
        return (
            "Omit cache, or run the role keystone.virtiofs.host with host_virtiofsd_store_cache=true (on NixOS, set"
            " keystone.virtualization.host.virtiofs.storeCache) on a host with libvirt 11."
        )
    if option == "tag":
        return "Install virtiofsd on the host (role keystone.virtiofs.host does), or upgrade libvirt."
    return f"Omit {option}, or upgrade the host."


def _check_read_only(share: Options, host: Host, domain: str) -> None:
    if not share.get("read_only") or can_enforce_read_only(host):
        return
    if host.local and not host.session:
        _check_bind_name(share, domain)
        return
    raise Unsupported(
        f"read_only: {unavailable('read_only', host.libvirt, host.virtiofsd)}, and a read-only bind mount of the source"
        " can only be made by root on the host itself",
        fix="Run the task on the host with qemu:///system, or upgrade.",
        domain=domain,
        share=share["tag"],
    )


def _check_bind_name(share: Options, domain: str) -> None:
    name = posixpath.basename(bind_path(ShareBackend(domain), share["source"]))
    if len(name) > FILE_NAME_BYTES:
        raise InvalidInput(
            f"source {share['source'][:100]} is too long for a read-only bind mount, which is named after it: encoded"
            f" it has {len(name)} bytes, a file name has at most {FILE_NAME_BYTES}",
            fix="Share a directory with a shorter path, or upgrade the host, which then needs no bind mount.",
            domain=domain,
            share=share["tag"],
        )


def can_enforce_read_only(host: Host) -> bool:
    return unavailable("read_only", host.libvirt, host.virtiofsd) is None


def check_new_disk(disk: Options, host: Host, known: Container[str], domain: str) -> None:
    """Raise InvalidInput when an image cannot, or must not, be created. ``known`` disks had an image already."""
    key, backing = disk_key(disk), disk.get("backing")
    if key in known:
        raise InvalidInput(
            f"disk {key} of the domain does not exist: its storage is not mounted, or another tool has moved or removed"
            " the disk",
            fix=f"Mount the storage, or name the disk as virsh domblklist {domain} --inactive shows it. For a new empty"
            " disk, remove the domain first (state: absent).",
            domain=domain,
        )
    if not disk.get("size") and (not backing or disk.get("pool")):
        fix = "Set size (MiB) to create it; a file can also be created from a backing image (backing)."
        raise InvalidInput(f"disk {key} does not exist", domain=domain, fix=fix)
    if not backing or not host.local:
        return
    check_backing(key, disk, host, domain)
    original = host.images[backing]
    if disk.get("size") and disk["size"] < original.size:
        raise InvalidInput(
            f"disk {key}: size {disk['size']} MiB is less than the {original.size} MiB of its backing image",
            domain=domain,
            fix="Increase size, or omit it to use the size of the backing image.",
        )


def check_backing(key: str, disk: Options, host: Host, domain: str) -> None:
    """Raise InvalidInput for a backing image by which QEMU would open more than the task names."""
    backing = disk["backing"]
    original = host.images.get(backing)
    if original is None:
        problem = f"disk {key}: its backing image {backing} does not exist"
        raise InvalidInput(problem, domain=domain, fix="Create the backing image first.")
    if not original.format:
        raise InvalidInput(
            f"disk {key}: its backing image {backing} has a qcow2 header, but nothing says that this is its format",
            domain=domain,
            fix="Set backing_format: qcow2 if the image was created as such, raw if a guest has written the header.",
        )
    flaw = original.flaw or (original.backing and f"is based on {original.backing}, which the task does not name")
    if flaw:
        raise InvalidInput(
            f"disk {key}: its backing image {backing} {flaw}",
            domain=domain,
            fix="Convert the image with qemu-img convert, or use another one.",
        )
