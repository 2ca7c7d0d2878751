# SPDX-License-Identifier: GPL-3.0-or-later
"""The network interfaces of a domain as options.

Two kinds live in two places: libvirt's own are <interface> elements; user networking with forwarded ports is on
QEMU's command line, the only place that can express it (libvirt's <portForward> needs passt, which gives no lease
on a host without an external interface).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from ..schema import INTERFACE, read_fields
from .places import Element, add_arguments, arguments, drop, drop_arguments, ensure, etree, get, put


def mac_for(name: str, index: int) -> str:
    """A MAC in QEMU's range that stays the same for a domain, also after it was removed and made again."""
    digest = hashlib.sha256(f"{name}/{index}".encode()).hexdigest()
    return f"52:54:00:{digest[0:2]}:{digest[2:4]}:{digest[4:6]}"


def read_interfaces(root: Element) -> list[dict[str, Any]]:
    """The interfaces in the order of the guest's; user networking with forwards or a restriction comes last."""
    plain = [_read_interface(element) for element in root.iterfind("devices/interface")]
    return plain + _forwarded_interfaces(root)


def write_interfaces(root: Element, wanted: list[dict[str, Any]]) -> None:
    """Make these the interfaces, in the order of ``read_interfaces``; what stays as it is is not written."""
    plain = [interface for interface in wanted if not (interface["forwards"] or interface["restrict"])]
    elements = list(root.iterfind("devices/interface"))
    for element in elements[len(plain) :]:
        element.getparent().remove(element)
    for position, values in enumerate(plain):
        if position == len(elements):
            elements.append(etree.SubElement(ensure(root, "devices"), "interface"))
        if _read_interface(elements[position]) != values:
            _write_interface(elements[position], values)
    _set_forwarded(root, [interface for interface in wanted if interface["forwards"] or interface["restrict"]])


def _forwarded_interfaces(root: Element) -> list[dict[str, Any]]:
    values = [value for _option, value in arguments(root)]
    devices = {}
    for argument in values:
        match = re.fullmatch(r"([^,]+),netdev=(keystone\d+),mac=([^,]+).*", argument)
        if match:
            devices[match[2]] = (match[1], match[3])
    found = []
    for argument in values:
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
                    "restrict": ",restrict=on" in match[2],
                }
            )
    return found


def _set_forwarded(root: Element, wanted: list[dict[str, Any]]) -> None:
    drop_arguments(root, _is_forwarded)
    for index, interface in enumerate(wanted):
        restrict = ",restrict=on" if interface["restrict"] else ""
        forwards = "".join(
            f",hostfwd=tcp:{forward['address']}:{forward['host_port']}-:{forward['guest_port']}"
            for forward in interface["forwards"] or ()
        )
        device = "virtio-net-pci" if interface["model"] == "virtio" else interface["model"]
        # QEMU places legacy -device arguments before libvirt's own devices: without an address it would take a
        # slot that libvirt gave away. libvirt fills slots from the bottom, 0x10 and up stay free.
        add_arguments(
            root,
            "-netdev",
            f"user,id=keystone{index}{restrict}{forwards}",
            "-device",
            f"{device},netdev=keystone{index},mac={interface['mac']},bus=pcie.0,addr={0x10 + index:#x}",
        )


def _is_forwarded(option: str, value: str) -> bool:
    return option in ("-netdev", "-device") and re.search(r"\b(id|netdev)=keystone\d+", value) is not None


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
    return {**values, "forwards": [], "restrict": False}


# What an interface keeps when its kind changes; everything else is about how its kind is connected.
_OF_THE_DEVICE = {"acpi", "address", "alias", "boot", "link", "mac", "model", "rom"}


def _write_interface(element: Element, values: Mapping[str, Any]) -> None:
    before = _read_interface(element)
    if before["type"] != values["type"]:
        for child in list(element):
            if child.tag not in _OF_THE_DEVICE:
                element.remove(child)
        element.attrib.clear()
        element.set("type", values["type"])
    put(element, "mac/@address", values["mac"])
    if before["source"] != values["source"]:
        drop(element, "source")
        put(element, f"source/@{values['type']}", values["source"])
    put(element, "model/@type", values["model"])
