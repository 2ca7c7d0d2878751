# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a running domain takes hot-plugged shares, counted as libvirt and QEMU do.

libvirt gives a device the first free slot of a bus that takes its kind: PCI Express where the machine has a pcie-root,
conventional PCI elsewhere (libvirt: src/conf/domain_addr.c, virDomainPCIAddressBusSetModel). s390x has channels (CCW).
"""

from __future__ import annotations

from .places import Element, ensure, etree, get

_PORTS = {"pcie-root-port": range(1), "pcie-switch-downstream-port": range(1)}
# Slot 0 of a conventional bus is the bridge's own.
_BUSES = {
    "pci-root": range(1, 32),
    "pci-bridge": range(1, 32),
    "pcie-to-pci-bridge": range(1, 32),
    "pci-expander-bus": range(32),
}
# Device numbers of one subchannel set; no domain gets near that.
_CHANNELS = 2**16
_X86 = ("i686", "x86_64")


def free_places(root: Element) -> int:
    """How many shares can be plugged into the running domain."""
    if _has_channels(root):
        return _CHANNELS
    if has_pcie(root):
        return _free_slots(root, _PORTS)
    return _free_slots(root, _BUSES) if _plugs_pci(root) else 0


def plug_obstacle(root: Element) -> str:
    """Why a domain without free places has none, and what to do."""
    if has_pcie(root):
        return "the domain has no free pcie-root-port (hotplug_ports reserves some)"
    if not _plugs_pci(root):
        return "a machine of this type takes hot-plugged PCI devices only with <acpi/> among its <features>"
    return "the domain has no free PCI slot"


def can_unplug(root: Element, device: Element) -> bool:
    """Whether the place of a device lets go of it."""
    bus = device.find("address[@type='pci']")
    if bus is None:
        return True
    controller = root.find(f"devices/controller[@type='pci'][@index='{_number(bus, 'bus')}']")
    if controller is None:
        return True
    return _takes_plugs(controller, {**_PORTS, **_BUSES}) and (has_pcie(root) or _plugs_pci(root))


def has_pcie(root: Element) -> bool:
    """The machine takes hot-plugged devices in PCI Express ports (q35, virt), not in slots of a bus (i440fx)."""
    return root.find("devices/controller[@model='pcie-root']") is not None


def add_ports(root: Element, count: int) -> None:
    """Bring the free ports up to a count, where the machine has such ports."""
    for _port in range(count - free_places(root) if has_pcie(root) else 0):
        etree.SubElement(ensure(root, "devices"), "controller", type="pci", model="pcie-root-port")


def _has_channels(root: Element) -> bool:
    return (get(root, "os/type/@machine") or "").startswith("s390-ccw")


def _plugs_pci(root: Element) -> bool:
    """QEMU's i440fx plugs PCI devices by ACPI; libvirt does not know that it cannot without."""
    return get(root, "os/type/@arch") not in _X86 or root.find("features/acpi") is not None


def _free_slots(root: Element, slots: dict[str, range]) -> int:
    used = _used_slots(root)
    return sum(
        (_number(controller, "index"), slot) not in used
        for controller in root.iterfind("devices/controller[@type='pci']")
        if _takes_plugs(controller, slots)
        for slot in slots[controller.get("model")]
    )


def _takes_plugs(controller: Element, slots: dict[str, range]) -> bool:
    return controller.get("model") in slots and get(controller, "target/@hotplug") != "off"


def _used_slots(root: Element) -> set[tuple[int, int]]:
    """(bus, slot) of every device: libvirt plugs into whole slots only."""
    used = {
        (_number(address, "bus"), _number(address, "slot"))
        for address in root.iterfind("devices/*/address[@type='pci']")
    }
    # The ISA bridge of i440fx, which is not a device in the XML.
    return used | {(0, 1)} if get(root, "os/type/@arch") in _X86 else used


def _number(element: Element, attribute: str) -> int:
    """Hexadecimal with 0x, as libvirt writes addresses, or decimal."""
    return int(element.get(attribute) or "0", 0)
