# SPDX-License-Identifier: GPL-3.0-or-later
"""A domain's XML document, in terms of the schema.

A document is only ever edited in place. Whatever libvirt or another tool put there (uuid, addresses, aliases, devices)
stays, and options that are not given are not touched. Needs lxml; knows neither Ansible nor libvirt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from ..._errors import InvalidInput
from ..schema import DISK, DOMAIN, read_fields
from ..state_paths import ShareBackend
from .disks import cdrom, free_target, write_medium
from .network import read_interfaces, write_interfaces
from .places import Element, drop, ensure, etree, get, put
from .share import read_share, render_share, write_share

MARK_NAMESPACE = "https://github.com/ncrmro/keystone/virtiofs"
_MARK = f"{{{MARK_NAMESPACE}}}domain"
_CREATED = f"{{{MARK_NAMESPACE}}}created-disk"

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


def volume_xml(name: str, size: int, image_format: str, backing: str | None) -> str:
    """A new storage volume of ``size`` MiB."""
    volume = etree.Element("volume")
    put(volume, "name", name)
    put(volume, "capacity/@unit", "MiB")
    put(volume, "capacity", str(size))
    put(volume, "target/format/@type", image_format)
    if backing:
        put(volume, "backingStore/path", backing)
    return str(etree.tostring(volume, encoding="unicode"))


class DomainXml:
    """A domain's XML document."""

    def __init__(self, text: str, *, origin: str = "libvirt") -> None:
        """Parse; raises InvalidInput when the text is no domain XML or declares entities."""
        parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_blank_text=True)
        try:
            self.root = etree.fromstring(text.encode(), parser)
        except etree.XMLSyntaxError as error:
            raise InvalidInput(f"the XML from {origin} is malformed: {error}", fix="Correct the xml option.") from None
        if etree.ElementTree(self.root).docinfo.doctype:  # type: ignore[attr-defined]  # lxml-stubs lacks it
            raise InvalidInput(f"the XML from {origin} has a DOCTYPE", fix="Remove it: entities are never expanded.")
        if self.root.tag != "domain":
            raise InvalidInput(f"the XML from {origin} is a <{self.root.tag}>, not a <domain>", fix="Give domain XML.")

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
        """A hash that ignores comments, blanks and the order of attributes."""
        return hashlib.sha256(etree.tostring(self.root, method="c14n", with_comments=False)).hexdigest()

    @property
    def name(self) -> str | None:
        return get(self.root, "name")

    def set_name(self, name: str) -> None:
        if self.root.find("name") is None:
            uuid = self.root.find("uuid")
            self.root.insert(0 if uuid is None else self.root.index(uuid), etree.Element("name"))
        put(self.root, "name", name)

    def adopt(self, existing: DomainXml) -> None:
        """Take over from an existing domain: uuid, mark, and the MACs that this document does not give."""
        uuid = existing.root.find("uuid")
        if uuid is not None and self.root.find("uuid") is None:
            # libvirt's check against its schema wants name and uuid side by side.
            ensure(self.root, "name").addnext(deepcopy(uuid))
        mark = existing.root.find(f"metadata/{_MARK}")
        if mark is not None:
            ensure(self.root, "metadata").append(deepcopy(mark))
        old = existing.root.iterfind("devices/interface")
        for new, old_interface in zip(self.root.iterfind("devices/interface"), old):
            if get(new, "mac/@address") is None:
                put(new, "mac/@address", get(old_interface, "mac/@address"))

    @property
    def uuid(self) -> str | None:
        return get(self.root, "uuid")

    @property
    def id(self) -> str | None:
        """libvirt's number of a running domain."""
        return get(self.root, "@id")

    def options(self) -> dict[str, Any]:
        """The scalar options of the schema, as this document has them."""
        return read_fields(DOMAIN, self.root)

    # The collection's mark: metadata that libvirt keeps and never interprets.

    @property
    def is_managed(self) -> bool:
        """Whether this collection created the domain. Other tools' domains may carry a mark too, without this."""
        return get(self.root, f"metadata/{_MARK}/@managed") == "yes"

    @property
    def restart_pending(self) -> bool:
        """A restart was begun; should the run that began it be killed, the next one starts the domain again."""
        return get(self.root, f"metadata/{_MARK}/@restart") == "pending"

    @property
    def template(self) -> str | None:
        """The digest of the user's XML that the domain was defined from."""
        return get(self.root, f"metadata/{_MARK}/@template")

    @property
    def reserved_ports(self) -> int | None:
        """How many ports for hot plug were asked for."""
        count = get(self.root, f"metadata/{_MARK}/@hotplug-ports")
        return int(count) if count else None

    def set_mark(self, **values: str) -> None:
        """Keep values in the collection's mark."""
        element = self._mark()
        for key, value in values.items():
            element.set(key.replace("_", "-"), value)

    def note_restart(self, pending: bool) -> None:
        """Remember that a restart is under way, or that it is done."""
        element = self._mark()
        element.attrib.pop("restart", None)
        if pending:
            element.set("restart", "pending")

    def created_disks(self) -> list[str]:
        """The disks whose images the collection created for this domain."""
        return [disk.get("key") or "" for disk in self.root.iterfind(f"metadata/{_MARK}/{_CREATED}")]

    def add_created_disk(self, key: str) -> None:
        etree.SubElement(self._mark(), _CREATED, key=key)

    def _mark(self) -> Element:
        metadata = ensure(self.root, "metadata")
        element = metadata.find(_MARK)
        if element is None:
            element = etree.SubElement(metadata, _MARK, nsmap={"keystone": MARK_NAMESPACE})
        return element

    # Shares and shared memory.

    def shares(self) -> dict[str, dict[str, Any]]:
        """All virtiofs shares by tag."""
        return {get(element, "target/@dir") or "": read_share(element) for element in self._share_elements()}

    def share_element(self, tag: str) -> Element:
        """The <filesystem> of a tag, None when there is none."""
        return next((element for element in self._share_elements() if get(element, "target/@dir") == tag), None)

    def share_text(self, tag: str) -> str:
        """The <filesystem> of a tag as XML text, for attaching and detaching."""
        element = deepcopy(self.share_element(tag))
        # Where it sits is the matter of the definition it comes from.
        for name in ("address", "alias"):
            drop(element, name)
        return str(etree.tostring(element, encoding="unicode"))

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
        if element is None:
            ensure(self.root, "devices").append(render_share(values, backend))
        else:
            write_share(element, values, backend)

    def remove_share(self, tag: str) -> None:
        element = self.share_element(tag)
        if element is not None:
            element.getparent().remove(element)

    def _share_elements(self) -> Iterator[Element]:
        return (e for e in self.root.iterfind("devices/filesystem") if get(e, "driver/@type") == "virtiofs")

    def has_shared_memory(self) -> bool:
        """virtiofsd maps the guest's memory: all of it must be shareable (libvirt: one private NUMA cell is enough
        to refuse a share)."""
        cells = self.root.findall("cpu/numa/cell")
        accesses = {cell.get("memAccess") for cell in cells}
        if "private" in accesses:
            return False
        if get(self.root, "memoryBacking/access/@mode") == "shared":
            return True
        return bool(cells) and accesses == {"shared"}

    def share_memory(self) -> None:
        """Make all of the memory shareable."""
        if get(self.root, "memoryBacking/source/@type") not in ("memfd", "file"):
            put(self.root, "memoryBacking/source/@type", "memfd")
        put(self.root, "memoryBacking/access/@mode", "shared")
        for cell in self.root.iterfind("cpu/numa/cell"):
            if cell.get("memAccess") == "private":
                cell.set("memAccess", "shared")

    # PCI ports for hot plug.

    def has_pcie(self) -> bool:
        """The machine takes hot-plugged devices only in pcie-root-ports (q35), not in free slots (i440fx)."""
        return self.root.find("devices/controller[@model='pcie-root']") is not None

    def free_ports(self) -> int:
        """How many pcie-root-ports have no device: each takes one hot-plugged share."""
        ports = {port.get("index") for port in self.root.iterfind("devices/controller[@model='pcie-root-port']")}
        used = {
            str(int(address.get("bus") or "0", 16))
            for address in self.root.iterfind("devices/*/address[@type='pci']")
            if address.get("bus")
        }
        return len(ports - used)

    def reserve_ports(self, count: int) -> None:
        """Bring the free ports up to a count, where the machine has such ports, and remember the wish."""
        missing = count - self.free_ports() if self.has_pcie() else 0
        for _port in range(missing):
            etree.SubElement(ensure(self.root, "devices"), "controller", type="pci", model="pcie-root-port")
        self.set_mark(hotplug_ports=str(count))

    # Disks.

    def disks(self) -> list[dict[str, Any]]:
        """The hard disks, CD-ROM drives excluded."""
        return [
            {**read_fields(DISK, element), "target": get(element, "target/@dev")} for element in self._disk_elements()
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

    # Interfaces.

    def interfaces(self) -> list[dict[str, Any]]:
        """The interfaces in the order of the guest's; user networking with forwards comes last."""
        return read_interfaces(self.root)

    def set_interfaces(self, wanted: list[dict[str, Any]]) -> None:
        """Make these the interfaces, in the order of ``interfaces()``."""
        write_interfaces(self.root, wanted)

    def macs(self) -> list[str]:
        return [interface["mac"].lower() for interface in self.interfaces() if interface["mac"]]
