# SPDX-License-Identifier: GPL-3.0-or-later
"""A domain's XML document, in terms of the schema.

A document is only ever edited in place. Whatever libvirt or another tool put there (uuid, addresses, aliases, devices)
stays, and options that are not given are not touched. Needs lxml; knows neither Ansible nor libvirt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from ..._errors import InvalidInput
from ..schema import DISK, DOMAIN, read_fields
from ..state_paths import ShareBackend
from . import hotplug, mark, memory
from .canonical import digest
from .disks import cdrom, free_target, write_medium
from .files import File, read_files
from .mark import NAMESPACE, drop_unused_mark, ensure_mark, find_mark, replace_mark
from .network import read_interfaces, write_interfaces
from .parsing import parse
from .places import Element, drop, ensure, etree, get, put
from .share import read_share, render_share, write_share

_ADDED_SHARE = f"{{{NAMESPACE}}}added-share"

SKELETON = """\
<domain type='kvm'>
  <name/>
  <metadata/>
  <os><type>hvm</type></os>
  <features><acpi/><apic/></features>
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <serial type='pty'><target port='0'/></serial>
    <console type='pty'><target type='serial' port='0'/></console>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>
"""


class DomainXml:
    """A domain's XML document."""

    def __init__(self, text: str, *, origin: str = "libvirt") -> None:
        """Parse; raises InvalidInput when the text is not domain XML or declares entities."""
        self.root = parse(text, origin)
        if etree.ElementTree(self.root).docinfo.doctype:  # type: ignore[attr-defined]  # lxml-stubs lacks it
            problem = f"the XML from {origin} has a DOCTYPE"
            raise InvalidInput(problem, fix="Remove the DOCTYPE: entities are never expanded.")
        if self.root.tag != "domain":
            problem = f"the XML from {origin} is a <{self.root.tag}>, not a <domain>"
            raise InvalidInput(problem, fix="Correct the xml option.")

    @classmethod
    def skeleton(cls, name: str, architecture: str) -> DomainXml:
        """The start of a new domain: a machine with PCI Express and a serial console."""
        document = cls(SKELETON)
        put(document.root, "name", name)
        put(document.root, "os/type/@arch", architecture)
        put(document.root, "os/type/@machine", "q35" if architecture == "x86_64" else "virt")
        return document

    def copy(self) -> DomainXml:
        """An independent copy."""
        other = DomainXml.__new__(DomainXml)
        other.root = deepcopy(self.root)
        return other

    def text(self) -> str:
        """The document as XML text."""
        return str(etree.tostring(self.root, encoding="unicode", pretty_print=True))

    def digest(self) -> str:
        """A hash of what the document says, however it is written."""
        return digest(self.root)

    def is_equivalent(self, other: DomainXml) -> bool:
        """Whether both say the same, however they are written; mostly in the same way, which is quick to see."""
        return etree.tostring(self.root) == etree.tostring(other.root) or self.digest() == other.digest()

    @property
    def name(self) -> str | None:
        return get(self.root, "name")

    def set_name(self, name: str) -> None:
        if self.root.find("name") is None:
            uuid = self.root.find("uuid")
            self.root.insert(0 if uuid is None else self.root.index(uuid), etree.Element("name"))
        put(self.root, "name", name)

    def adopt(self, existing: DomainXml) -> None:
        """Take over from an existing domain: uuid, MACs that this document does not give, what the collection added."""
        if existing.uuid and not self.uuid:
            self.set_uuid(existing.uuid)
        old = existing.root.iterfind("devices/interface")
        for new, old_interface in zip(self.root.iterfind("devices/interface"), old):
            if get(new, "mac/@address") is None:
                put(new, "mac/@address", get(old_interface, "mac/@address"))
        found = find_mark(existing.root)
        if found is not None:
            self._adopt_mark(existing, deepcopy(found))

    def _adopt_mark(self, existing: DomainXml, adopted: Element) -> None:
        replace_mark(self.root, adopted)
        # This document has none of the ports yet.
        count = adopted.attrib.pop("hotplug-ports", None)
        if count:
            adopted.set("ports-to-reserve", count)
        for added in adopted.findall(_ADDED_SHARE):
            tag = added.get("tag")
            if tag in self.mount_tags() or existing.share_element(tag) is None:
                adopted.remove(added)
            else:
                self.take_share(existing, tag)

    @property
    def uuid(self) -> str | None:
        return get(self.root, "uuid")

    def set_uuid(self, uuid: str) -> None:
        """libvirt's check against its schema wants name and uuid side by side."""
        drop(self.root, "uuid")
        element = etree.Element("uuid")
        element.text = uuid
        ensure(self.root, "name").addnext(element)

    @property
    def id(self) -> str | None:
        """libvirt's number of a running domain."""
        return get(self.root, "@id")

    def options(self) -> dict[str, Any]:
        """The scalar options of the schema, as this document has them."""
        return read_fields(DOMAIN, self.root)

    # The collection's mark.

    @property
    def is_managed(self) -> bool:
        """Whether this collection created the domain, under the name that the domain still has."""
        created = self._noted("managed")
        return created is not None and created == self.name

    @property
    def former_name(self) -> str | None:
        """The name under which the collection created the domain, when another tool has renamed it since."""
        created = self._noted("managed")
        return None if created == self.name else created

    @property
    def restart_pending(self) -> bool:
        """A restart was begun; should the run that began it be killed, the next one starts the domain again."""
        return self._noted("restart") == "pending"

    @property
    def template(self) -> str | None:
        """The digest of the user's XML that the domain was defined from."""
        return self._noted("template")

    @property
    def reserved_ports(self) -> int | None:
        """How many ports for hot plug were reserved."""
        return self._mark_number("hotplug-ports")

    @property
    def wished_ports(self) -> int | None:
        """How many were asked for, be they reserved already or not."""
        count = self.reserved_ports
        return self._mark_number("ports-to-reserve") if count is None else count

    def _mark_number(self, name: str) -> int | None:
        text = self._noted(name) or ""
        return int(text) if text.isdecimal() else None

    def set_mark(self, **values: str) -> None:
        """Keep values in the collection's mark."""
        element = ensure_mark(self.root)
        for key, value in values.items():
            element.set(key.replace("_", "-"), value)

    def note_restart(self, pending: bool) -> None:
        """Remember that a restart is under way, or that it is done."""
        element = ensure_mark(self.root)
        element.attrib.pop("restart", None)
        if pending:
            element.set("restart", "pending")
        drop_unused_mark(self.root)

    def created_disks(self, *, pending: bool = False) -> list[str]:
        """The disks whose images the collection created for this domain; with ``pending`` those that it began to."""
        marks = [disk for disk in mark.created_disks(self.root) if not pending or disk.get("pending")]
        return [disk.get("key") or "" for disk in marks]

    def add_created_disk(self, key: str) -> None:
        """Remember a disk whose image is about to be created."""
        mark.add_created_disk(self.root, key)

    def note_created_disk(self, key: str, *, pending: bool) -> None:
        """Remember whether the image of a disk that was created for the domain is there, or about to come or go."""
        mark.note_created_disk(self.root, key, pending)

    def _noted(self, name: str) -> str | None:
        """A value in the mark."""
        found = find_mark(self.root)
        return None if found is None else get(found, f"@{name}")

    # Shares and shared memory.

    def shares(self) -> dict[str, dict[str, Any]]:
        """All virtiofs shares by tag."""
        return {get(element, "target/@dir") or "": read_share(element) for element in self._share_elements()}

    def share_element(self, tag: str) -> Element:
        """The <filesystem> of a tag, None when there is none."""
        return next((element for element in self._share_elements() if get(element, "target/@dir") == tag), None)

    def share_text(self, tag: str) -> str:
        """The <filesystem> of a tag as XML text, for attaching and detaching."""
        return str(etree.tostring(self._unplaced_share(tag), encoding="unicode"))

    def _unplaced_share(self, tag: str) -> Element:
        """A copy without address and alias, which belong to the definition that it comes from."""
        element = deepcopy(self.share_element(tag))
        drop(element, "address")
        if not (get(element, "alias/@name") or "").startswith("ua-"):  # such names are the user's, all others libvirt's
            drop(element, "alias")
        return element

    def take_share(self, other: DomainXml, tag: str) -> None:
        """Copy a share from another definition of the domain."""
        ensure(self.root, "devices").append(other._unplaced_share(tag))
        if not self.has_shared_memory():
            self.share_memory()

    def share_paths(self) -> dict[str, tuple[str, str]]:
        """(source directory, virtiofsd path) of every share by tag, as the host sees them."""
        return {
            get(element, "target/@dir") or "": (
                get(element, "source/@dir") or "",
                get(element, "binary/@path") or "",
            )
            for element in self._share_elements()
        }

    def share_aliases(self) -> dict[str, str]:
        """libvirt's name of each share's device by tag, in the XML of a running domain."""
        elements = ((get(element, "target/@dir"), get(element, "alias/@name")) for element in self._share_elements())
        return {tag: alias for tag, alias in elements if tag and alias}

    def set_share(self, values: Mapping[str, Any], backend: ShareBackend) -> None:
        element = self.share_element(values["tag"])
        if element is not None:
            write_share(element, values, backend)
            return
        ensure(self.root, "devices").append(render_share(values, backend))
        if self.template:
            # A later version of the template must not lose what is not from it.
            etree.SubElement(ensure_mark(self.root), _ADDED_SHARE, tag=values["tag"])

    def remove_share(self, tag: str) -> None:
        element = self.share_element(tag)
        if element is not None:
            element.getparent().remove(element)
        found = find_mark(self.root)
        for added in found.findall(_ADDED_SHARE) if found is not None else ():
            if added.get("tag") == tag:
                found.remove(added)

    def forget_daemon(self, tag: str) -> None:
        """Leave the choice of a share's virtiofsd to libvirt."""
        put(self.share_element(tag), "binary/@path", None)

    def mount_tags(self) -> set[str]:
        """The tags of all file systems, those of other drivers included: libvirt wants them to differ."""
        return {target.get("dir") or "" for target in self.root.iterfind("devices/filesystem/target")}

    def _share_elements(self) -> Iterator[Element]:
        return (e for e in self.root.iterfind("devices/filesystem") if get(e, "driver/@type") == "virtiofs")

    def has_shared_memory(self) -> bool:
        """All of the memory is shared, as virtiofs needs it."""
        return memory.has_shared_memory(self.root)

    def share_memory(self) -> None:
        memory.share_memory(self.root)

    # Hot plug.

    def free_ports(self) -> int:
        """How many shares can be plugged in while the domain runs."""
        return hotplug.free_places(self.root)

    def plug_obstacle(self) -> str:
        """Why a domain without free ports has none."""
        return hotplug.plug_obstacle(self.root)

    def can_unplug(self, tag: str) -> bool:
        return hotplug.can_unplug(self.root, self.share_element(tag))

    def reserve_ports(self, count: int) -> None:
        """Bring the free ports up to a count, where the machine has such ports, and remember the wish."""
        hotplug.add_ports(self.root, count)
        ensure_mark(self.root).attrib.pop("ports-to-reserve", None)
        self.set_mark(hotplug_ports=str(count))

    # Disks.

    def disks(self) -> list[dict[str, Any]]:
        """The hard disks, CD-ROM drives excluded."""
        return [
            {
                **read_fields(DISK, element),
                "target": get(element, "target/@dev"),
                "shareable": element.find("shareable") is not None,
            }
            for element in self._disk_elements()
        ]

    def add_disk(self, values: Mapping[str, Any], *, is_block_device: bool = False, keep_owner: bool = False) -> None:
        """``keep_owner``: libvirt does not give the image to QEMU's user, which need not own it to read it."""
        kind = "volume" if values.get("pool") else "block" if is_block_device else "file"
        disk = etree.SubElement(ensure(self.root, "devices"), "disk", type=kind, device="disk")
        etree.SubElement(disk, "driver", name="qemu")
        bus = values.get("bus") or "virtio"
        etree.SubElement(disk, "target", dev=free_target(self.root, bus))
        for field in DISK:
            value = values.get(field.option) if values.get(field.option) is not None else field.initial
            if field.place and value is not None:
                field.write(disk, value)
        if keep_owner:
            etree.SubElement(ensure(disk, "source"), "seclabel", model="dac", relabel="no")

    def set_pmem(self, target: str, value: bool) -> None:
        """Whether the disk with a target is persistent memory."""
        element = next(e for e in self._disk_elements() if get(e, "target/@dev") == target)
        memory.write_pmem(element, "source/slices", value)

    def place_pmem(self, sizes: Mapping[str, int]) -> None:
        """Follow the disks that are persistent memory, their sizes in MiB by path, and the domain's own memory."""
        memory.write_pmem_devices(self.root, sizes)

    def set_medium(self, path: str) -> None:
        """The medium of the CD-ROM drive; an empty path ejects it."""
        write_medium(self.root, path)

    def medium_text(self) -> str:
        """The CD-ROM drive as XML text, for changing its medium."""
        return str(etree.tostring(cdrom(self.root), encoding="unicode"))

    def nvram(self) -> str | None:
        """The file of the UEFI variables, None where libvirt has not chosen one."""
        return get(self.root, "os/nvram")

    def _disk_elements(self) -> Iterator[Element]:
        return (e for e in self.root.iterfind("devices/disk") if e.get("device", "disk") == "disk")

    def files(self) -> list[File]:
        """Every file of the host that the document names."""
        return read_files(self.root)

    # Interfaces.

    def interfaces(self) -> list[dict[str, Any]]:
        """The interfaces in the order of the guest's; user networking with forwards comes last."""
        return read_interfaces(self.root)

    def set_interfaces(self, wanted: list[dict[str, Any]]) -> None:
        """Make these the interfaces, in the order of ``interfaces()``."""
        write_interfaces(self.root, wanted)

    def macs(self) -> list[str]:
        return [interface["mac"].lower() for interface in self.interfaces() if interface["mac"]]
