# SPDX-License-Identifier: GPL-3.0-or-later
"""What the simulated libvirt makes of a domain's XML: defaults, addresses, names of devices.

A stand-in for libvirt and QEMU with a q35 machine, as far as plans depend on them. test_definitions.py compares it with
what three libvirt releases made of the same definitions.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import libvirt
from lxml import etree

Element = Any

# virErrorNumber
INTERNAL, NO_DOMAIN, OPERATION_FAILED, OPERATION_INVALID, UNSUPPORTED, DEVICE_MISSING = 1, 42, 9, 55, 67, 99

# The devices that take a place on PCI Express, in the order in which libvirt places them.
_PLACED = (
    "filesystem",
    "interface",
    "controller[@type='usb']",
    "controller[@type='virtio-serial']",
    "disk[target/@bus='virtio']",
    "memballoon",
    "rng",
)


def error(code: int, message: str) -> libvirt.libvirtError:
    """An error as the binding raises it."""
    failure = libvirt.libvirtError(message)
    failure.err = (code, 10, message, 2, None, None, None, -1, -1)
    return failure


def parse(text: str) -> Element:
    return etree.fromstring(text, etree.XMLParser(remove_blank_text=True))


def text_of(root: Element) -> str:
    return etree.tostring(root, encoding="unicode")


def virtiofs(root: Element) -> dict[str, Element]:
    """The virtiofs shares by tag."""
    found = (
        share for share in root.iterfind("devices/filesystem") if share.find("driver[@type='virtiofs']") is not None
    )
    return {share.find("target").get("dir"): share for share in found}


def complete(root: Element, version: int) -> Element:
    """A definition as libvirt keeps it; raises its errors."""
    root = deepcopy(root)
    root.attrib.pop("id", None)
    devices = _child(root, "devices")
    for kind in ("usb", "virtio-serial"):
        if kind == "usb" or devices.find("channel") is not None:
            _once(devices, f"controller[@type='{kind}']", "controller", type=kind, index="0")
    _once(devices, "memballoon", "memballoon", model="virtio")
    emulator = _once(devices, "emulator", "emulator")
    emulator.text = emulator.text or "/usr/bin/qemu-system-x86_64"
    if root.find("uuid") is None:
        root.find("name").addnext(_element("uuid", str(uuid.uuid4())))
    _complete_memory(root)
    root.find("vcpu").set("placement", "static")
    machine = root.find("os/type")
    if machine.get("machine") == "q35":
        machine.set("machine", "pc-q35-10.0")
    check_shares(root, version)
    _place_devices(devices)
    return root


def start(root: Element, number: int, virtiofsd: str) -> Element:
    """The definition as it is while the domain runs."""
    live = deepcopy(root)
    live.set("id", str(number))
    for kind, name in (("filesystem", "fs"), ("interface", "net"), ("disk", "disk"), ("controller", "controller")):
        for index, device in enumerate(live.iterfind(f"devices/{kind}")):
            name_device(device, f"{name}{index}", virtiofsd)
    return live


def name_device(device: Element, name: str, virtiofsd: str) -> None:
    """libvirt's additions to a device of a running domain."""
    if device.find("alias") is None:
        etree.SubElement(device, "alias", name=name)
    if device.tag == "filesystem" and device.find("source[@dir]") is not None:
        binary = _child(device, "binary")
        binary.set("path", binary.get("path") or virtiofsd)
    if device.tag == "interface" and device.find("source[@network]") is not None:
        device.find("source").set("bridge", "virbr0")


def plug(live: Element, share: Element, virtiofsd: str) -> None:
    """Hot plug a share into a running domain."""
    devices = live.find("devices")
    used = {alias.get("name") for alias in devices.iterfind("filesystem/alias")}
    name_device(share, next(name for name in (f"fs{index}" for index in range(99)) if name not in used), virtiofsd)
    ports = free_ports(devices)
    if not ports:
        raise error(INTERNAL, "internal error: No more available PCI slots")
    _drop(share, "address")
    _place(share, ports[0])
    devices.append(share)


def check_shares(root: Element, version: int) -> None:
    """What libvirt refuses about shares."""
    tags = [target.get("dir") for target in root.iterfind("devices/filesystem/target")]
    if len(tags) != len(set(tags)):
        raise error(27, "XML error: filesystem target is not unique")
    for share in virtiofs(root).values():
        if root.find("memoryBacking/access[@mode='shared']") is None:
            raise error(UNSUPPORTED, "unsupported configuration: 'virtiofs' requires shared memory")
        if share.find("readonly") is not None and version < 11000000:
            raise error(UNSUPPORTED, "unsupported configuration: virtiofs does not yet support read-only mode")


def free_ports(devices: Element) -> list[int]:
    """The numbers of the free PCI Express ports."""
    ports = [int(port.get("index")) for port in devices.iterfind("controller[@model='pcie-root-port']")]
    used = {int(address.get("bus"), 0) for address in devices.iterfind("*/address[@type='pci']")}
    return sorted(set(ports) - used)


def _complete_memory(root: Element) -> None:
    memory = root.find("memory")
    mebibytes = memory.get("unit") == "MiB"
    memory.text = str(int(memory.text) * (1024 if mebibytes else 1))
    memory.set("unit", "KiB")
    if root.find("currentMemory") is None:
        current = _element("currentMemory", memory.text)
        current.set("unit", "KiB")
        memory.addnext(current)


def _place_devices(devices: Element) -> None:
    _once(devices, "controller[@model='pcie-root']", "controller", type="pci", index="0", model="pcie-root")
    had_ports = devices.find("controller[@model='pcie-root-port']") is not None
    for port in devices.findall("controller[@model='pcie-root-port']"):
        _number_port(devices, port)
    unplaced = [device for device in _in_order(devices) if device.find("address") is None]
    for device in unplaced:
        _place(device, (free_ports(devices) or [_add_port(devices)])[0])
    if not had_ports:
        _add_port(devices)  # a new machine has one to spare


def _in_order(devices: Element) -> Iterable[Element]:
    return [device for kind in _PLACED for device in devices.xpath(kind)]


def _add_port(devices: Element) -> int:
    return _number_port(devices, etree.SubElement(devices, "controller", type="pci", model="pcie-root-port"))


def _number_port(devices: Element, port: Element) -> int:
    if port.get("index") is None:
        taken = {int(other.get("index")) for other in devices.iterfind("controller[@type='pci'][@index]")}
        index = min(set(range(1, len(taken) + 2)) - taken)
        port.set("index", str(index))
        place = {"domain": "0x0000", "bus": "0x00", "slot": f"{2 + index // 8:#04x}", "function": f"{index % 8:#x}"}
        etree.SubElement(port, "address", type="pci", **place)
    return int(port.get("index"))


def _place(device: Element, port: int) -> None:
    etree.SubElement(device, "address", type="pci", domain="0x0000", bus=f"{port:#04x}", slot="0x00", function="0x0")


def _once(parent: Element, path: str, name: str, **attributes: str) -> Element:
    found = parent.find(path)
    return etree.SubElement(parent, name, **attributes) if found is None else found


def _child(parent: Element, name: str) -> Element:
    return _once(parent, name, name)


def _element(name: str, text: str) -> Element:
    element = etree.Element(name)
    element.text = text
    return element


def _drop(parent: Element, name: str) -> None:
    for child in parent.findall(name):
        parent.remove(child)


def put_text(root: Element, name: str, text: str) -> None:
    """Set the text of an element of the domain."""
    found = root.find(name)
    if found is None:
        found = _element(name, text)
        root.find("name").addnext(found)
    found.text = text
