# SPDX-License-Identifier: GPL-3.0-or-later
"""How the values of options are written in XML: one Codec for each way, used by the rows of the schema.

``read(element, place)`` returns the value, None where the XML says nothing; ``write(element, place, value)`` writes it.
The element is the <domain>, or the <filesystem>, <disk> or <interface> that the option belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Callable

from ..state_paths import bound_source, wrapper_flags
from ..values import CPU_MODES, plain_path
from .disks import read_medium, write_medium
from .memory import read_memory, read_pmem, write_memory, write_pmem
from .places import Element, drop, ensure, etree, get, get_number, invalid_place, put


@dataclass(frozen=True)
class Codec:
    """``write`` is None for a value that is written together with others (see share.py).

    Two values mean the same when their ``meaning`` is equal.
    """

    read: Callable[[Element, str], Any]
    write: Callable[[Element, str, Any], None] | None = None
    meaning: Callable[[Any], Any] = lambda value: value


TEXT = Codec(get, put)
PATH = Codec(get, put, plain_path)


INT = Codec(get_number, lambda parent, place, value: put(parent, place, str(value)))


def _read_on_off(parent: Element, place: str) -> bool | None:
    text = get(parent, place)
    return None if text is None else text == "on"


def _write_element(parent: Element, place: str, value: bool) -> None:
    drop(parent, place)
    if value:
        ensure(parent, place)


# An element that is there or not.
ELEMENT = Codec(lambda parent, place: parent.find(place) is not None, _write_element)
ON_OFF = Codec(_read_on_off, lambda parent, place, value: put(parent, place, "on" if value else "off"))

# Options of a domain.


MEMORY = Codec(read_memory, write_memory)


def _read_cpu(root: Element, place: str) -> str | None:
    return get(root, f"{place}/model") if get(root, f"{place}/@mode") == "custom" else get(root, f"{place}/@mode")


def _write_cpu(root: Element, place: str, value: str) -> None:
    """Mode or model; topology and NUMA cells stay."""
    element = ensure(root, place)
    for name in ("model", "vendor", "feature"):
        drop(element, name)
    element.attrib.clear()
    element.set("mode", value if value in CPU_MODES else "custom")
    if value not in CPU_MODES:
        element.set("match", "exact")
        etree.SubElement(element, "model", fallback="allow").text = value


CPU = Codec(_read_cpu, _write_cpu)


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


FIRMWARE = Codec(_read_firmware, _write_firmware)


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


SECURE_BOOT = Codec(_read_secure_boot, _write_secure_boot)


def _device(xml: str) -> Codec:
    """A device that a domain has or has not; one that differs from the given XML counts as well, and stays as it is."""

    def write(root: Element, place: str, value: bool) -> None:
        drop(root, place)
        if value:
            ensure(root, "devices").append(etree.fromstring(xml))

    return Codec(lambda root, place: root.find(place) is not None, write)


TPM = _device('<tpm model="tpm-crb"><backend type="emulator" version="2.0"/></tpm>')
VSOCK = _device('<vsock model="virtio"><cid auto="yes"/></vsock>')


ISO = Codec(lambda root, _place: read_medium(root), lambda root, _place, value: write_medium(root, value), plain_path)


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


SERIAL_LOG = Codec(_read_serial_log, _write_serial_log, plain_path)


def _read_graphics(root: Element, place: str) -> str:
    return get(root, f"{place}/@type") or "none"


def _write_graphics(root: Element, place: str, value: str) -> None:
    drop(root, place)
    drop(root, "devices/video")
    if value != "none":
        devices = ensure(root, "devices")
        # A socket that libvirt places where only root and QEMU can enter: a port would be open to every user of the
        # host, and to every guest with user networking.
        etree.SubElement(etree.SubElement(devices, "graphics", type=value), "listen", type="socket")
        etree.SubElement(etree.SubElement(devices, "video"), "model", type="virtio")


GRAPHICS = Codec(_read_graphics, _write_graphics)


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


GUEST_AGENT = Codec(_read_agent, _write_agent)


# Options of a share. Those that become a bind mount or a wrapper of virtiofsd are written by share.py.


def _read_cache(share: Element, place: str) -> str:
    return wrapper_flags(get(share, "binary/@path")).get("cache") or get(share, place) or "auto"


CACHE = Codec(_read_cache)


def _required_number(element: Element, place: str) -> int:
    number = get_number(element, place)
    if number is None:
        raise invalid_place(element, place, "", "a number")
    return number


def _read_idmap(share: Element, place: str) -> dict[str, list[dict[str, int]]] | None:
    if share.find(place) is None:
        return None
    return {
        kind: [
            {name: _required_number(entry, f"@{name}") for name in ("start", "target", "count")}
            for entry in share.iterfind(f"{place}/{kind}")
        ]
        for kind in ("uid", "gid")
    }


def _write_idmap(share: Element, place: str, value: Mapping[str, Any]) -> None:
    drop(share, place)
    for kind in ("uid", "gid"):
        for entry in value.get(kind) or ():
            etree.SubElement(ensure(share, place), kind, {name: str(number) for name, number in entry.items()})


IDMAP = Codec(_read_idmap, _write_idmap)


def _read_source(share: Element, place: str) -> str | None:
    path = get(share, place)
    return None if path is None else bound_source(path) or path


SOURCE = Codec(_read_source, meaning=plain_path)


def _read_read_only(share: Element, place: str) -> bool:
    return share.find(place) is not None or bound_source(get(share, "source/@dir") or "") is not None


READ_ONLY = Codec(_read_read_only)


def _flags(share: Element) -> dict[str, str]:
    return wrapper_flags(get(share, "binary/@path"))


# Flags of virtiofsd, --PLACE=VALUE and --PLACE, that only a wrapper script can pass.
WRAPPER_VALUE = Codec(lambda share, place: _flags(share).get(place))
WRAPPER_SWITCH = Codec(lambda share, place: place in _flags(share))

# Options of a disk.

PMEM = Codec(read_pmem, write_pmem)


def _read_disk_path(disk: Element, place: str) -> str | None:
    return get(disk, "source/@file") or get(disk, "source/@dev")


def _write_disk_path(disk: Element, place: str, value: str) -> None:
    put(disk, "source/@dev" if disk.get("type") == "block" else "source/@file", value)


DISK_PATH = Codec(_read_disk_path, _write_disk_path, plain_path)
