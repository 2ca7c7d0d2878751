# SPDX-License-Identifier: GPL-3.0-or-later
"""The definition that a task asks for: the existing one with every difference written into it. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from .._errors import InvalidInput
from .model import DiskImage, Host, Observed, Options, disk_key, given_options
from .schema import DOMAIN, SHARE
from .state_paths import ShareBackend, is_foreign, is_wrapper
from .validation import can_enforce_read_only, check_backing
from .values import plain_uuid
from .xml import codecs
from .xml.document import DomainXml
from .xml.network import mac_for
from .xml.share import needs_wrapper


def wanted_definition(wanted: Options, shares: list[dict[str, Any]], observed: Observed, host: Host) -> DomainXml:
    """The existing persistent document, or a new one, with every difference written into it."""
    try:
        return _wanted_definition(wanted, shares, observed, host)
    except InvalidInput as error:
        error.domain = wanted["name"]
        raise


def _wanted_definition(wanted: Options, shares: list[dict[str, Any]], observed: Observed, host: Host) -> DomainXml:
    document = _base(wanted, observed, host)
    current = document.options()
    values = given_options(wanted)
    if values.get("virt_type") == "auto":
        values["virt_type"] = current["virt_type"] if observed.persistent is not None else host.virt_type
    if values.get("secure_boot") not in (None, "off"):
        values.setdefault("firmware", "uefi")
    if values.get("firmware") == "uefi" and (observed.persistent is None or current["firmware"] == "bios"):
        # Without a choice, libvirt uses the first UEFI image it finds: on Debian, one for Microsoft-signed code only.
        values.setdefault("secure_boot", "off")
    if observed.persistent is None and not wanted.get("xml"):
        values = {**_initial(values, host), **values}
    for option in DOMAIN:
        value = values.get(option.option)
        if value is not None and not option.same(value, current[option.option]):
            option.write(document.root, value)
            # Writing one firmware option forgets what libvirt selected for the other.
            current = document.options() if option.codec is codecs.FIRMWARE else current
    replace_foreign_paths(document, host)
    set_shares(document, shares, host)
    _set_disks(document, wanted, host)
    if wanted.get("interfaces") is not None:
        _set_interfaces(document, wanted)
    if observed.persistent is None:
        document.set_mark(managed=wanted["name"])
    return document


def _initial(values: Options, host: Host) -> dict[str, Any]:
    """What a new domain gets when the task does not say."""
    initial = {option.option: option.initial for option in DOMAIN if option.initial is not None}
    virt_type = values.get("virt_type") or host.virt_type
    # Under TCG every emulated CPU feature costs: qemu64 boots a guest twice as fast as max (measured: 62 s, 128 s).
    cpu = "host-passthrough" if virt_type == "kvm" else "qemu64" if host.architecture == "x86_64" else "maximum"
    return {**initial, "virt_type": virt_type, "cpu": cpu}


def _base(wanted: Options, observed: Observed, host: Host) -> DomainXml:
    if not wanted.get("xml"):
        if observed.persistent is not None:
            return observed.persistent.copy()
        document = DomainXml.skeleton(wanted["name"], host.architecture)
        _choose_uuid(document, host)
        return document
    template = DomainXml(wanted["xml"], origin="the xml option")
    _check_template(template, wanted, observed)
    digest = template.digest()
    if observed.persistent is not None and observed.persistent.template == digest:
        return observed.persistent.copy()
    if observed.persistent is not None:
        template.adopt(observed.persistent)
    else:
        _choose_uuid(template, host)
    template.set_mark(template=digest)
    return template


def _choose_uuid(document: DomainXml, host: Host) -> None:
    """Chosen here and not by libvirt, because the collection's mark names it."""
    if host.new_uuid and not document.uuid:
        document.set_uuid(host.new_uuid)


def _check_template(template: DomainXml, wanted: Options, observed: Observed) -> None:
    if template.name not in (None, wanted["name"]):
        raise InvalidInput(
            f"the xml option describes a domain named {template.name!r}",
            domain=wanted["name"],
            fix="Set name to match, or remove <name> from the XML.",
        )
    uuid = observed.persistent.uuid if observed.persistent else None
    if template.uuid and not _UUID.fullmatch(plain_uuid(template.uuid)):
        raise InvalidInput(
            f"the xml option has the uuid {template.uuid[:100]!r}, which is not a UUID",
            domain=wanted["name"],
            fix="Correct <uuid>, or remove it: libvirt chooses one.",
        )
    if template.uuid and uuid and plain_uuid(template.uuid) != plain_uuid(uuid):
        raise InvalidInput(
            f"the xml option has uuid {template.uuid}, the existing domain has {uuid}",
            domain=wanted["name"],
            fix="Remove <uuid> from the XML: the domain keeps its own.",
        )
    template.set_name(wanted["name"])


_UUID = re.compile("[0-9a-f]{32}")


def backend(document_name: str, host: Host) -> ShareBackend:
    """How this host makes read-only shares and virtiofsd flags real."""
    return ShareBackend(document_name, can_enforce_read_only(host), host.state)


def replace_foreign_paths(document: DomainXml, host: Host) -> None:
    """Give a clone, or a renamed domain, bind mounts and wrappers of its own."""
    how = backend(document.name or "", host)
    for tag, paths in document.share_paths().items():
        if host.local and any(is_foreign(path, how) for path in paths):
            document.set_share(document.shares()[tag], how)


def set_shares(document: DomainXml, shares: list[dict[str, Any]], host: Host) -> None:
    current = document.shares()
    how = backend(document.name or "", host)
    for share in shares:
        differing = differences(share, current.get(share["tag"]))
        if differing:
            _check_tag_is_free(document, share, current)
            _check_own_daemon(document, share, differing, host)
            document.set_share(share, how)
            _check_store_cache(document, share["tag"])
    if shares and not document.has_shared_memory():
        document.share_memory()


def _check_tag_is_free(document: DomainXml, share: Options, current: Mapping[str, Any]) -> None:
    if share["tag"] not in current and share["tag"] in document.mount_tags():
        raise InvalidInput(
            "the tag belongs to a file system with another driver than virtiofs",
            domain=document.name,
            share=share["tag"],
            fix="Choose another tag, or remove that file system from the domain's XML.",
        )


def _check_own_daemon(document: DomainXml, share: Options, differing: list[str], host: Host) -> None:
    """A wrapper starts the host's virtiofsd, so it cannot stand in for another one."""
    daemon = document.share_paths().get(share["tag"], ("", ""))[1]
    if not is_users_own(daemon, host):
        return
    options = [field.option for field in SHARE if field.option in differing and needs_wrapper(field, share)]
    if options:
        raise InvalidInput(
            f"{', '.join(options)}: the share has a virtiofsd of its own, {daemon}, which libvirt gives no such option",
            domain=document.name,
            share=share["tag"],
            fix=f"Omit {', '.join(options)}, or remove <binary path> from the share in the domain's XML.",
        )


def _check_store_cache(document: DomainXml, tag: str) -> None:
    """A guest that assumes files to be immutable must not be able to change them."""
    share = document.shares()[tag]
    if share["cache"] == "store" and not share["read_only"]:
        raise InvalidInput(
            "cache: store requires read_only",
            domain=document.name,
            share=tag,
            fix="Set read_only to true, or cache to auto.",
        )


def is_users_own(daemon: str, host: Host) -> bool:
    """The path of a virtiofsd that neither libvirt nor the collection has chosen."""
    return bool(daemon) and not is_wrapper(daemon) and daemon != (host.virtiofsd and host.virtiofsd.path)


def adopt_running_share(document: DomainXml, live: DomainXml, tag: str, host: Host) -> None:
    """Define a share as it runs; libvirt has added its choice of virtiofsd there."""
    document.take_share(live, tag)
    daemon = document.share_paths()[tag][1]
    if not (is_wrapper(daemon) or is_users_own(daemon, host)):
        document.forget_daemon(tag)


def differences(wanted: Options, current: Options | None) -> list[str]:
    """The share options that are given and differ; a missing share differs in its tag."""
    if current is None:
        return ["tag"]
    return [
        field.option
        for field in SHARE
        if field.place
        and wanted.get(field.option) is not None
        and not field.same(wanted[field.option], current[field.option])
    ]


def _set_disks(document: DomainXml, wanted: Options, host: Host) -> None:
    current = {disk_key(disk): disk for disk in document.disks()}
    for disk in wanted.get("disks") or ():
        there = current.get(disk_key(disk))
        if disk.get("pmem"):
            _check_pmem(disk, host, wanted["name"])
        if there is None:
            image = host.images.get(disk_key(disk))
            if image and image.is_shared and not disk.get("read_only"):
                raise InvalidInput(
                    f"disk {disk_key(disk)} is a file with several names, which other domains may use",
                    fix="Set read_only to true, or copy the file.",
                    domain=wanted["name"],
                )
            image_format = _adopted_format(disk, image, host, wanted["name"]) if image else disk.get("format")
            document.add_disk(
                {**disk, "format": image_format},
                is_block_device=bool(image and image.is_block_device),
                keep_owner=bool(disk.get("read_only") and image and image.is_public),
            )
            continue
        for option in ("format", "bus", "read_only"):
            if disk.get(option) is not None and there[option] is not None and disk[option] != there[option]:
                raise InvalidInput(
                    f"disk {disk_key(disk)}: {option} is {there[option]}, it cannot become {disk[option]}",
                    fix="Use a new disk, or omit the option.",
                    domain=wanted["name"],
                )
        if disk.get("pmem") is not None and disk["pmem"] != there["pmem"]:
            document.set_pmem(there["target"], disk["pmem"])
    document.place_pmem({key: image.size for key, image in host.images.items()})


def _check_pmem(disk: Options, host: Host, domain: str) -> None:
    """Guests map persistent memory in sections of 2 MiB."""
    image = host.images.get(disk_key(disk))
    if image is None or image.size < 2 or image.size % 2:
        raise InvalidInput(
            f"disk {disk_key(disk)}: pmem requires an existing image with a size that is a multiple of 2 MiB",
            fix="Omit pmem, or use an image that the module store_image has made.",
            domain=domain,
        )


def _adopted_format(disk: Options, image: DiskImage, host: Host, domain: str) -> str:
    """The format of an existing image that the domain gets.

    A guest can write any header into its raw disk, one that names files of the host included. So a header is never
    believed about the format, and never about files that the task does not name.
    """
    key, backing = disk_key(disk), disk.get("backing")
    if not image.format:
        raise InvalidInput(
            f"disk {key} exists and has a qcow2 header, but nothing says that this is its format",
            domain=domain,
            fix="Set format: qcow2 if the image was created as such, raw if the guest has written the header.",
        )
    if image.flaw:
        raise InvalidInput(
            f"disk {key} {image.flaw}",
            domain=domain,
            fix="Convert the image with qemu-img convert, or use another one.",
        )
    if image.backing and not (backing and host.real_path(image.backing) == host.real_path(backing)):
        raise InvalidInput(
            f"disk {key} has the backing file {image.backing}, which the task does not name",
            domain=domain,
            fix="Set backing to that file if the disk should have it, or use another image.",
        )
    if image.backing:
        check_backing(key, disk, host, domain)
        expected = host.images[disk["backing"]].format
        if image.backing_format != expected:
            raise InvalidInput(
                f"disk {key} says in its header that its backing file is {image.backing_format}, but it is {expected}",
                domain=domain,
                fix="Correct backing_format, or use another image.",
            )
    return image.format


def _set_interfaces(document: DomainXml, wanted: Options) -> None:
    """Listed interfaces replace existing ones in their order; further existing ones stay."""
    there = document.interfaces()
    left = {on_line: [i for i in there if _is_on_command_line(i) is on_line] for on_line in (False, True)}
    listed = sorted(wanted["interfaces"], key=_is_on_command_line)
    # Two kinds live in two places: one of the same kind is replaced first, else one of the other kind.
    replaced = [
        left[_is_on_command_line(interface)].pop(0) if left[_is_on_command_line(interface)] else None
        for interface in listed
    ]
    macs = {interface["mac"].lower() for interface in (*there, *listed) if interface["mac"]}
    resolved = []
    for index, (interface, same_kind) in enumerate(zip(listed, replaced)):
        other_kind = left[not _is_on_command_line(interface)]
        before = same_kind or (other_kind.pop(0) if other_kind else {})
        mac = (interface["mac"] or before.get("mac") or _unused_mac(wanted["name"], index, macs)).lower()
        macs.add(mac)
        source = interface["source"] or ("default" if interface["type"] == "network" else None)
        model = interface["model"] or before.get("model") or "virtio"
        resolved.append(
            {
                **interface,
                "mac": mac,
                "model": model,
                "source": source,
                "forwards": interface["forwards"] or [],
                "restrict": bool(
                    interface["restrict"] if interface["restrict"] is not None else before.get("restrict")
                ),
            }
        )
    complete = sorted([*resolved, *left[False], *left[True]], key=_is_on_command_line)
    if complete != there:
        document.set_interfaces(complete)


def _is_on_command_line(interface: Options) -> bool:
    """libvirt has no XML for its forwards or its restriction."""
    return bool(interface["forwards"] or interface["restrict"])


def _unused_mac(name: str, index: int, used: set[str]) -> str:
    return next(mac for mac in (mac_for(name, number) for number in itertools.count(index)) if mac not in used)
