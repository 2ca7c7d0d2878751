# SPDX-License-Identifier: GPL-3.0-or-later
"""A domain's XML as values of the schema: parse, read, write, render.

A document is only ever edited in place. Whatever libvirt or another tool put there (uuid, addresses, aliases, devices)
stays, and options that are not given are not touched. Needs lxml; knows neither Ansible nor libvirt.
"""

from __future__ import annotations

import hashlib
import re
import traceback
from collections.abc import Iterator, Mapping
from copy import deepcopy
from itertools import product
from string import ascii_lowercase
from typing import Any, Callable, NamedTuple
from urllib.parse import quote, unquote

try:
    from lxml import etree
except ImportError:
    LXML_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    LXML_IMPORT_ERROR = None

from .errors import InvalidInput
from .schema import DISK, DOMAIN, INTERFACE, SHARE, Codec, Field

Element = Any
"""lxml's element; lxml is imported when it is there, so its types cannot be named at run time."""

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
MARK_NAMESPACE = "https://github.com/ncrmro/keystone/virtiofs"
_MARK = f"{{{MARK_NAMESPACE}}}domain"
_CREATED = f"{{{MARK_NAMESPACE}}}created-disk"
_ARG = f"{{{QEMU_NAMESPACE}}}arg"
_COMMANDLINE = f"{{{QEMU_NAMESPACE}}}commandline"

# Files that the collection keeps for a domain lie in STATE/<domain>: read-only bind mounts and virtiofsd wrappers.
STATE = "/var/lib/keystone-virtiofs"
_BIND = re.compile(r".*/keystone-virtiofs/[^/]+/ro/(?P<source>[^/]+)$")
_WRAPPER = re.compile(r".*/keystone-virtiofs/[^/]+/bin/virtiofsd(?P<flags>(,[^/]*)?)$")

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


class Realisation(NamedTuple):
    """How the host makes options real that libvirt's XML cannot express.

    ``read_only_element``: virtiofsd enforces ``<readonly/>``; otherwise the source is a read-only bind mount.
    ``state``: the directory for the domain's bind mounts and wrappers.
    """

    domain: str
    read_only_element: bool = True
    state: str = STATE


def bind_path(realisation: Realisation, source: str) -> str:
    """Where the read-only bind mount of a source lies; the name is reversible, so XML alone tells the source."""
    return f"{realisation.state}/{realisation.domain}/ro/{quote(source, safe='')}"


def bound_source(path: str) -> str | None:
    """The source behind a read-only bind mount of the collection, None for any other path."""
    match = _BIND.match(path)
    return unquote(match["source"]) if match else None


def wrapper_flags(path: str | None) -> dict[str, str]:
    """The virtiofsd flags that a wrapper of the collection adds; they are its file name."""
    match = _WRAPPER.match(path or "")
    return dict(flag.split("=", 1) for flag in match["flags"].split(",")[1:]) if match else {}


def _wrapper_path(realisation: Realisation, flags: Mapping[str, str]) -> str:
    name = ",".join(["virtiofsd", *(f"{flag}={value}" for flag, value in sorted(flags.items()))])
    return f"{realisation.state}/{realisation.domain}/bin/{name}"


# Places: "a/b/@attribute", "a/b" for the text of an element.


def _split(place: str) -> tuple[str, str | None]:
    path, _at, attribute = place.partition("@")
    return path.rstrip("/"), attribute or None


def get(parent: Element, place: str) -> str | None:
    """The text at a place, None when there is none."""
    path, attribute = _split(place)
    element = parent.find(path) if path else parent
    if element is None:
        return None
    text = element.get(attribute) if attribute else element.text
    return None if text is None else str(text)


def ensure(parent: Element, path: str) -> Element:
    """The element at a path, made when missing."""
    element = parent
    for name in path.split("/") if path else ():
        child = element.find(name)
        element = etree.SubElement(element, name) if child is None else child
    return element


def put(parent: Element, place: str, text: str | None) -> None:
    """Write a text at a place; None removes it, with elements that are then empty."""
    path, attribute = _split(place)
    if text is not None:
        element = ensure(parent, path)
        if attribute:
            element.set(attribute, text)
        else:
            element.text = text
        return
    element = parent.find(path) if path else parent
    if element is None:
        return
    if attribute:
        element.attrib.pop(attribute, None)
    else:
        element.text = None
    while element is not parent and not element.attrib and not len(element) and not (element.text or "").strip():
        empty, element = element, element.getparent()
        element.remove(empty)


def drop(parent: Element, path: str) -> None:
    """Remove every element at a path below its parent."""
    for element in parent.findall(path):
        element.getparent().remove(element)


# Codecs of domain options: (read, write) over the <domain> element.


def _read_memory(root: Element, place: str) -> int | None:
    element = root.find(place)
    if element is None or not element.text:
        return None
    units = {
        "b": 1,
        "bytes": 1,
        "kb": 10**3,
        "k": 2**10,
        "kib": 2**10,
        "mb": 10**6,
        "m": 2**20,
        "mib": 2**20,
        "gb": 10**9,
        "g": 2**30,
        "gib": 2**30,
        "tb": 10**12,
        "t": 2**40,
        "tib": 2**40,
    }
    return int(element.text) * units[(element.get("unit") or "KiB").lower()] // 2**20


def _write_memory(root: Element, place: str, value: int) -> None:
    drop(root, "currentMemory")
    element = ensure(root, place)
    element.set("unit", "MiB")
    element.text = str(value)


_CPU_MODES = ("host-passthrough", "host-model", "maximum")


def _read_cpu(root: Element, place: str) -> str | None:
    return get(root, f"{place}/model") if get(root, f"{place}/@mode") == "custom" else get(root, f"{place}/@mode")


def _write_cpu(root: Element, place: str, value: str) -> None:
    """Mode or model; topology and NUMA cells stay."""
    element = ensure(root, place)
    for name in ("model", "vendor", "feature"):
        drop(element, name)
    element.attrib.clear()
    element.set("mode", value if value in _CPU_MODES else "custom")
    if value not in _CPU_MODES:
        element.set("match", "exact")
        etree.SubElement(element, "model", fallback="allow").text = value


def _read_firmware(root: Element, place: str) -> str:
    loader = root.find(f"{place}/loader")
    uefi = get(root, f"{place}/@firmware") == "efi" or (loader is not None and loader.get("type") == "pflash")
    return "uefi" if uefi else "bios"


def _forget_firmware(root: Element) -> None:
    """libvirt pins what it selected in loader and nvram; a new selection must start without them."""
    for path in ("os/loader", "os/nvram", "os/firmware", "features/smm"):
        drop(root, path)


def _write_firmware(root: Element, place: str, value: str) -> None:
    _forget_firmware(root)
    put(root, f"{place}/@firmware", "efi" if value == "uefi" else None)


_SECURE_BOOT = {"off": ("no", None), "setup": ("yes", "no"), "enrolled": ("yes", "yes")}


def _features(root: Element, place: str) -> dict[str, str]:
    return {feature.get("name"): feature.get("enabled") for feature in root.iterfind(f"{place}/feature")}


def _read_secure_boot(root: Element, place: str) -> str | None:
    """None for UEFI that does not say: libvirt then takes what firmware it finds first, often one with keys."""
    features = _features(root, place)
    if features.get("secure-boot") == "yes":
        return "enrolled" if features.get("enrolled-keys") == "yes" else "setup"
    stated = features.get("secure-boot") == "no" or _read_firmware(root, "os") == "bios"
    return "off" if stated else None


def _write_secure_boot(root: Element, place: str, value: str) -> None:
    _forget_firmware(root)
    for name, enabled in zip(("secure-boot", "enrolled-keys"), _SECURE_BOOT[value]):
        if enabled:
            etree.SubElement(ensure(root, place), "feature", enabled=enabled, name=name)


def _read_tpm(root: Element, place: str) -> bool:
    return root.find(place) is not None


def _write_tpm(root: Element, place: str, value: bool) -> None:
    drop(root, place)
    if value:
        tpm = etree.SubElement(ensure(root, "devices"), "tpm", model="tpm-crb")
        etree.SubElement(tpm, "backend", type="emulator", version="2.0")


def _cdrom(root: Element) -> Element:
    return root.find("devices/disk[@device='cdrom']")


def _boot_from_cdrom(root: Element) -> None:
    """After the disk, unless the user has an order of his own: an installed system is not installed again."""
    if root.find("devices/*/boot") is None and root.find("os/boot[@dev='cdrom']") is None:
        if root.find("os/boot") is None:
            etree.SubElement(ensure(root, "os"), "boot", dev="hd")
        etree.SubElement(ensure(root, "os"), "boot", dev="cdrom")


def _read_iso(root: Element, place: str) -> str | None:
    cdrom = _cdrom(root)
    return None if cdrom is None else get(cdrom, "source/@file") or ""


def _write_iso(root: Element, place: str, value: str) -> None:
    cdrom = _cdrom(root)
    if cdrom is None:
        cdrom = etree.SubElement(ensure(root, "devices"), "disk", type="file", device="cdrom")
        etree.SubElement(cdrom, "driver", name="qemu", type="raw")
        etree.SubElement(cdrom, "target", dev=free_target(root, "sata"), bus="sata")
        etree.SubElement(cdrom, "readonly")
        _boot_from_cdrom(root)
    put(cdrom, "source/@file", value or None)


def _read_serial_log(root: Element, place: str) -> str | None:
    return get(root, f"{place}/log/@file")


def _write_serial_log(root: Element, place: str, value: str) -> None:
    # The <console> that mirrors the first serial port carries the same log in libvirt's own output.
    drop(root, "devices/console/log")
    log = ensure(root, f"{place}/log")
    log.set("file", value)
    log.set("append", "off")


def _read_graphics(root: Element, place: str) -> str:
    return get(root, f"{place}/@type") or "none"


def _write_graphics(root: Element, place: str, value: str) -> None:
    drop(root, place)
    drop(root, "devices/video")
    if value != "none":
        devices = ensure(root, "devices")
        graphics = etree.SubElement(devices, "graphics", type=value, autoport="yes", listen="127.0.0.1")
        etree.SubElement(graphics, "listen", type="address", address="127.0.0.1")
        etree.SubElement(etree.SubElement(devices, "video"), "model", type="virtio")


_AGENT = "org.qemu.guest_agent.0"


def _agent(root: Element, place: str) -> Element:
    return next((channel for channel in root.iterfind(place) if get(channel, "target/@name") == _AGENT), None)


def _read_agent(root: Element, place: str) -> bool:
    return _agent(root, place) is not None


def _write_agent(root: Element, place: str, value: bool) -> None:
    channel = _agent(root, place)
    if value and channel is None:
        channel = etree.SubElement(ensure(root, "devices"), "channel", type="unix")
        etree.SubElement(channel, "target", type="virtio", name=_AGENT)
    elif not value and channel is not None:
        channel.getparent().remove(channel)


# Codecs of share options: the wrapper and the bind mount need to know the domain.


def _read_cache(share: Element, place: str) -> str:
    return wrapper_flags(get(share, "binary/@path")).get("cache") or get(share, place) or "auto"


def _read_idmap(share: Element, place: str) -> dict[str, list[dict[str, int]]] | None:
    if share.find(place) is None:
        return None
    return {
        kind: [
            {name: int(entry.get(name)) for name in ("start", "target", "count")}
            for entry in share.iterfind(f"{place}/{kind}")
        ]
        for kind in ("uid", "gid")
    }


def _write_idmap(share: Element, place: str, value: Mapping[str, Any]) -> None:
    drop(share, place)
    for kind in ("uid", "gid"):
        for entry in value.get(kind) or ():
            etree.SubElement(ensure(share, place), kind, {name: str(number) for name, number in entry.items()})


def _read_int(parent: Element, place: str) -> int | None:
    text = get(parent, place)
    return None if text is None else int(text)


def _read_on_off(parent: Element, place: str) -> bool | None:
    text = get(parent, place)
    return None if text is None else text == "on"


def _read_source(share: Element, place: str) -> str | None:
    path = get(share, place)
    return None if path is None else bound_source(path) or path


def _read_read_only(share: Element, place: str) -> bool:
    return share.find(place) is not None or bound_source(get(share, "source/@dir") or "") is not None


def _read_disk_path(disk: Element, place: str) -> str | None:
    return get(disk, "source/@file") or get(disk, "source/@dev")


def _write_disk_path(disk: Element, place: str, value: str) -> None:
    put(disk, "source/@dev" if disk.get("type") == "block" else "source/@file", value)


_READ: dict[Codec, Callable[[Element, str], Any]] = {
    Codec.TEXT: get,
    Codec.INT: _read_int,
    Codec.ON_OFF: _read_on_off,
    Codec.FLAG: lambda parent, place: parent.find(place) is not None,
    Codec.MIB: _read_memory,
    Codec.CPU: _read_cpu,
    Codec.FIRMWARE: _read_firmware,
    Codec.SECURE_BOOT: _read_secure_boot,
    Codec.TPM: _read_tpm,
    Codec.ISO: _read_iso,
    Codec.SERIAL_LOG: _read_serial_log,
    Codec.GRAPHICS: _read_graphics,
    Codec.GUEST_AGENT: _read_agent,
    Codec.DISK_PATH: _read_disk_path,
    Codec.SOURCE: _read_source,
    Codec.READ_ONLY: _read_read_only,
    Codec.CACHE: _read_cache,
    Codec.WRAPPER: lambda share, place: wrapper_flags(get(share, "binary/@path")).get(place),
    Codec.IDMAP: _read_idmap,
}

_WRITE: dict[Codec, Callable[[Element, str, Any], None]] = {
    Codec.TEXT: put,
    Codec.INT: lambda parent, place, value: put(parent, place, str(value)),
    Codec.ON_OFF: lambda parent, place, value: put(parent, place, "on" if value else "off"),
    Codec.MIB: _write_memory,
    Codec.CPU: _write_cpu,
    Codec.FIRMWARE: _write_firmware,
    Codec.SECURE_BOOT: _write_secure_boot,
    Codec.TPM: _write_tpm,
    Codec.ISO: _write_iso,
    Codec.SERIAL_LOG: _write_serial_log,
    Codec.GRAPHICS: _write_graphics,
    Codec.GUEST_AGENT: _write_agent,
    Codec.DISK_PATH: _write_disk_path,
    Codec.IDMAP: _write_idmap,
}


def read_field(field: Field, element: Element) -> Any:
    """The value of an option in XML, None where the XML says nothing."""
    return _READ[field.codec](element, field.place)


def read_fields(fields: tuple[Field, ...], element: Element) -> dict[str, Any]:
    """All options of an element that have a place in the XML."""
    return {field.option: read_field(field, element) for field in fields if field.place}


def write_field(field: Field, element: Element, value: Any) -> None:
    """Write an option into XML."""
    _WRITE[field.codec](element, field.place, value)


def read_share(element: Element) -> dict[str, Any]:
    """A <filesystem> of driver virtiofs as share options."""
    return read_fields(SHARE, element)


def write_share(element: Element, values: Mapping[str, Any], realisation: Realisation) -> None:
    """Write the given share options into a <filesystem>; options that are not given stay as they are."""
    given = {option: value for option, value in values.items() if value is not None}
    # A directory replaces a socket and the other way round; the daemon behind a socket takes no options from libvirt.
    if given.get("source"):
        put(element, "source/@socket", None)
    if given.get("socket"):
        put(element, "source/@dir", None)
        drop(element, "binary")
    wanted = {**read_share(element), **given}
    for field in SHARE:
        if field.codec in _WRITE and field.option in given:
            write_field(field, element, given[field.option])
    _write_share_source(element, wanted, realisation)
    _write_share_daemon(element, wanted, realisation)


def _write_share_source(element: Element, wanted: Mapping[str, Any], realisation: Realisation) -> None:
    """The source, and who enforces read-only: virtiofsd itself, or the host's kernel through a bind mount."""
    drop(element, "readonly")
    source = wanted["source"]
    if wanted["socket"]:
        return
    if wanted["read_only"] and realisation.read_only_element:
        etree.SubElement(element, "readonly")
    elif wanted["read_only"]:
        source = bind_path(realisation, source)
    put(element, "source/@dir", source)


def _write_share_daemon(element: Element, wanted: Mapping[str, Any], realisation: Realisation) -> None:
    """The cache mode, and the wrapper that adds the flags for which libvirt has no XML."""
    cache = wanted["cache"]
    # "auto" is virtiofsd's default and cannot be said in XML: the element is left out.
    put(element, "binary/cache/@mode", cache if cache in ("none", "always") else None)
    flags = {
        field.place: wanted[field.option] for field in SHARE if field.codec is Codec.WRAPPER and wanted[field.option]
    }
    if cache == "metadata":
        flags["cache"] = cache
    if flags:
        put(element, "binary/@path", _wrapper_path(realisation, flags))
    elif wrapper_flags(get(element, "binary/@path")):
        put(element, "binary/@path", None)


def render_share(values: Mapping[str, Any], realisation: Realisation) -> Element:
    """A new <filesystem> for a share."""
    element = etree.Element("filesystem", type="mount", accessmode="passthrough")
    etree.SubElement(element, "driver", type="virtiofs")
    initial = {field.option: field.initial for field in SHARE if field.initial is not None}
    given = {option: value for option, value in values.items() if value is not None}
    write_share(element, {**initial, **given}, realisation)
    return element


def free_target(root: Element, bus: str) -> str:
    """The first unused disk target of a bus: vda, vdb, ... or sda, sdb, ..."""
    prefix = "vd" if bus == "virtio" else "sd"
    used = {target.get("dev") for target in root.iterfind("devices/disk/target")}
    names = (prefix + "".join(letters) for count in (1, 2) for letters in product(ascii_lowercase, repeat=count))
    return next(name for name in names if name not in used)


def mac_for(name: str, index: int) -> str:
    """A MAC in QEMU's range that stays the same for a domain, also after it was removed and made again."""
    digest = hashlib.sha256(f"{name}/{index}".encode()).hexdigest()
    return f"52:54:00:{digest[0:2]}:{digest[2:4]}:{digest[4:6]}"


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

    def options(self) -> dict[str, Any]:
        """The scalar options of the schema, as this document has them."""
        return read_fields(DOMAIN, self.root)

    # The collection's mark: metadata that libvirt keeps and never interprets.

    @property
    def is_own(self) -> bool:
        """The collection has defined this domain first; on another tool's it leaves at most what it must remember."""
        return get(self.root, f"metadata/{_MARK}/@defined") == "yes"

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

    def set_share(self, values: Mapping[str, Any], realisation: Realisation) -> None:
        element = self.share_element(values["tag"])
        if element is None:
            ensure(self.root, "devices").append(render_share(values, realisation))
        else:
            write_share(element, values, realisation)

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

    def add_disk(self, values: Mapping[str, Any], is_block_device: bool = False) -> None:
        kind = "volume" if values.get("pool") else "block" if is_block_device else "file"
        disk = etree.SubElement(ensure(self.root, "devices"), "disk", type=kind, device="disk")
        etree.SubElement(disk, "driver", name="qemu")
        bus = values.get("bus") or "virtio"
        etree.SubElement(disk, "target", dev=free_target(self.root, bus))
        for field in DISK:
            value = values.get(field.option) if values.get(field.option) is not None else field.initial
            if field.place and value is not None:
                write_field(field, disk, value)

    def set_medium(self, path: str) -> None:
        """The medium of the CD-ROM drive; an empty path ejects it."""
        _write_iso(self.root, "devices/disk", path)

    def medium_text(self) -> str:
        """The CD-ROM drive as XML text, for changing its medium."""
        return str(etree.tostring(_cdrom(self.root), encoding="unicode"))

    def nvram(self) -> str | None:
        """The file of the UEFI variables, None where libvirt has not chosen one."""
        return get(self.root, "os/nvram")

    def _disk_elements(self) -> Iterator[Element]:
        return (e for e in self.root.iterfind("devices/disk") if e.get("device", "disk") == "disk")

    # Interfaces: libvirt's own, and user networking with forwarded ports, which only QEMU's command line can express
    # (libvirt's <portForward> needs passt, which hands out no lease on a host without an external interface).

    def interfaces(self) -> list[dict[str, Any]]:
        """The interfaces in the order of the guest's; user networking with forwards comes last."""
        plain = [_read_interface(element) for element in self.root.iterfind("devices/interface")]
        return plain + self._forwarded_interfaces()

    def macs(self) -> list[str]:
        return [interface["mac"].lower() for interface in self.interfaces() if interface["mac"]]

    def set_interfaces(self, wanted: list[dict[str, Any]]) -> None:
        """Make these the interfaces, in the order of ``interfaces()``; what stays as it is is not written."""
        plain = [interface for interface in wanted if not interface["forwards"]]
        elements = list(self.root.iterfind("devices/interface"))
        for element in elements[len(plain) :]:
            element.getparent().remove(element)
        for position, values in enumerate(plain):
            if position == len(elements):
                elements.append(etree.SubElement(ensure(self.root, "devices"), "interface"))
            if _read_interface(elements[position]) != values:
                _write_interface(elements[position], values)
        self._set_forwarded([interface for interface in wanted if interface["forwards"]])

    def _arguments(self) -> list[str]:
        return [argument.get("value") or "" for argument in self.root.iterfind(f"{_COMMANDLINE}/{_ARG}")]

    def _forwarded_interfaces(self) -> list[dict[str, Any]]:
        arguments = self._arguments()
        devices = {}
        for argument in arguments:
            match = re.fullmatch(r"([^,]+),netdev=(keystone\d+),mac=([^,]+).*", argument)
            if match:
                devices[match[2]] = (match[1], match[3])
        found = []
        for argument in arguments:
            match = re.fullmatch(r"user,id=(keystone\d+)(.*)", argument)
            if match and match[1] in devices:
                device, mac = devices[match[1]]
                model = "virtio" if device == "virtio-net-pci" else device
                found.append(
                    {
                        "type": "user",
                        "source": None,
                        "mac": mac,
                        "model": model,
                        "forwards": _read_forwards(match[2]),
                    }
                )
        return found

    def _set_forwarded(self, wanted: list[dict[str, Any]]) -> None:
        self._drop_forwarded()
        for index, interface in enumerate(wanted):
            forwards = "".join(
                f",hostfwd=tcp:{forward['address']}:{forward['host_port']}-:{forward['guest_port']}"
                for forward in interface["forwards"]
            )
            device = "virtio-net-pci" if interface["model"] == "virtio" else interface["model"]
            # QEMU places legacy -device arguments before libvirt's own devices: without an address it would take a
            # slot that libvirt gave away. libvirt fills slots from the bottom, 0x10 and up stay free.
            self._add_arguments(
                "-netdev",
                f"user,id=keystone{index}{forwards}",
                "-device",
                f"{device},netdev=keystone{index},mac={interface['mac']},bus=pcie.0,addr={0x10 + index:#x}",
            )

    def _add_arguments(self, *values: str) -> None:
        line = self.root.find(_COMMANDLINE)
        if line is None:
            line = etree.SubElement(self.root, _COMMANDLINE, nsmap={"qemu": QEMU_NAMESPACE})
        for value in values:
            etree.SubElement(line, _ARG, value=value)

    def _drop_forwarded(self) -> None:
        line = self.root.find(_COMMANDLINE)
        if line is None:
            return
        arguments = list(line)
        for option, value in zip(arguments, arguments[1:]):
            ours = re.search(r"\b(id|netdev)=keystone\d+", value.get("value") or "")
            if option.get("value") in ("-netdev", "-device") and ours:
                line.remove(option)
                line.remove(value)
        if not len(line):
            self.root.remove(line)


def _read_forwards(text: str) -> list[dict[str, Any]]:
    pattern = r",hostfwd=tcp:(?P<address>[^:]*):(?P<host>\d+)-:(?P<guest>\d+)"
    return [
        {"address": match["address"], "host_port": int(match["host"]), "guest_port": int(match["guest"])}
        for match in re.finditer(pattern, text)
    ]


def _read_interface(element: Element) -> dict[str, Any]:
    values = read_fields(INTERFACE, element)
    if values["source"]:
        # A running domain reports the bridge behind a network; what was asked for is the network.
        values["type"] = "network"
    elif values["type"] == "bridge":
        values["source"] = get(element, "source/@bridge")
    return {**values, "forwards": []}


def _write_interface(element: Element, values: Mapping[str, Any]) -> None:
    element.set("type", values["type"])
    put(element, "mac/@address", values["mac"])
    drop(element, "source")
    if values["type"] != "user":
        put(element, f"source/@{values['type']}", values["source"])
    put(element, "model/@type", values["model"])
