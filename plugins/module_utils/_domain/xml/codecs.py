# SPDX-License-Identifier: GPL-3.0-or-later
"""How the schema's options are written in XML: a function to read and one to write for every codec."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from string import ascii_lowercase
from typing import Any, Callable

from ..schema import Codec, Field
from ..state_paths import bound_source, wrapper_flags
from .places import Element, drop, ensure, etree, get, put

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


def cdrom(root: Element) -> Element:
    """The CD-ROM drive, None when there is none."""
    return root.find("devices/disk[@device='cdrom']")


def _boot_fromcdrom(root: Element) -> None:
    """After the disk, unless the user has an order of his own: an installed system is not installed again."""
    if root.find("devices/*/boot") is None and root.find("os/boot[@dev='cdrom']") is None:
        if root.find("os/boot") is None:
            etree.SubElement(ensure(root, "os"), "boot", dev="hd")
        etree.SubElement(ensure(root, "os"), "boot", dev="cdrom")


def _read_iso(root: Element, place: str) -> str | None:
    drive = cdrom(root)
    return None if drive is None else get(drive, "source/@file") or ""


def write_medium(root: Element, place: str, value: str) -> None:
    """The medium of the CD-ROM drive, which is added when missing; an empty path ejects it."""
    drive = cdrom(root)
    if drive is None:
        drive = etree.SubElement(ensure(root, "devices"), "disk", type="file", device="cdrom")
        etree.SubElement(drive, "driver", name="qemu", type="raw")
        etree.SubElement(drive, "target", dev=free_target(root, "sata"), bus="sata")
        etree.SubElement(drive, "readonly")
        _boot_fromcdrom(root)
    put(drive, "source/@file", value or None)


def _read_serial_log(root: Element, place: str) -> str | None:
    return get(root, f"{place}/log/@file")


def _write_serial_log(root: Element, place: str, value: str) -> None:
    # The <console> that mirrors the first serial port carries the same log in libvirt's own output.
    drop(root, "devices/console/log")
    port = ensure(root, place)
    port.set("type", port.get("type", "pty"))  # a user's own XML may have no port
    log = ensure(port, "log")
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
    Codec.ISO: write_medium,
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


def can_write(field: Field) -> bool:
    """The option is written on its own, not together with others."""
    return field.codec in _WRITE


def write_field(field: Field, element: Element, value: Any) -> None:
    """Write an option into XML."""
    _WRITE[field.codec](element, field.place, value)


def free_target(root: Element, bus: str) -> str:
    """The first unused disk target of a bus: vda, vdb, ... or sda, sdb, ..."""
    prefix = "vd" if bus == "virtio" else "sd"
    used = {target.get("dev") for target in root.iterfind("devices/disk/target")}
    names = (prefix + "".join(letters) for count in (1, 2) for letters in product(ascii_lowercase, repeat=count))
    return next(name for name in names if name not in used)
