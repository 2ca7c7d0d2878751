# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory a domain has, and whether its virtiofs daemons can share it.

The memory of a domain with NUMA cells is the sum of the cells and of the memory devices (dimms): libvirt then ignores
what <memory> says (virDomainDefPostParseMemory).
"""

from __future__ import annotations

from ..._errors import InvalidInput
from .places import Element, drop, get, get_number, invalid_place, put

_CELLS = "cpu/numa/cell"
_DEVICES = "devices/memory"
# Memory that the guest's kernel uses as such. Others (nvdimm, virtio-pmem) show a file: made shared, they would change
# it.
_RAM_DEVICES = ("dimm", "virtio-mem")


def read_memory(root: Element, place: str) -> int | None:
    """The memory at the start in MiB."""
    cells = sum(_kib(cell, "@memory", "@unit") for cell in root.iterfind(_CELLS))
    if cells:
        return (cells + _devices_kib(root)) // 2**10
    if not get(root, place):
        return None
    return _kib(root, place, f"{place}/@unit") // 2**10


def write_memory(root: Element, place: str, value: int) -> None:
    """Set the memory in MiB; NUMA cells keep their proportions, memory devices their sizes."""
    limit = _kib(root, "maxMemory", "maxMemory/@unit") // 2**10
    if limit and value > limit:
        raise InvalidInput(
            f"memory: {value} MiB is more than the maximum of the domain, {limit} MiB",
            fix="Decrease memory, or increase <maxMemory> in the domain's XML.",
        )
    devices = _devices_kib(root) // 2**10
    cells = root.findall(_CELLS)
    if value - devices < max(1, len(cells)):
        raise InvalidInput(
            f"memory: {value} MiB leaves nothing next to the domain's memory devices, which have {devices} MiB",
            fix="Increase memory, or remove memory devices from the domain's XML.",
        )
    _resize_cells(cells, value - devices)
    # The balloon's size. Left behind, it would hold the guest at what it had.
    drop(root, "currentMemory")
    put(root, place, str(value))
    put(root, f"{place}/@unit", "MiB")


def _resize_cells(cells: list[Element], mib: int) -> None:
    """Whole MiB, as libvirt would round them up; the last cell gets what the division leaves over."""
    sizes = [_kib(cell, "@memory", "@unit") for cell in cells]
    for position, cell in enumerate(cells):
        rest = len(cells) - 1 - position
        share = mib if not rest else min(max(1, mib * sizes[position] // max(1, sum(sizes[position:]))), mib - rest)
        mib -= share
        put(cell, "@memory", str(share))
        put(cell, "@unit", "MiB")


def _devices_kib(root: Element) -> int:
    return sum(_kib(device, "target/size", "target/size/@unit") for device in root.iterfind(_DEVICES))


def _kib(parent: Element, place: str, unit_place: str) -> int:
    """A size in KiB, rounded up as libvirt does; 0 where there is none."""
    number = get_number(parent, place) or 0
    unit = get(parent, unit_place)
    scale = _bytes_of(unit or "KiB")
    if not scale:
        raise invalid_place(parent, unit_place, unit or "", "a unit of memory")
    return -(-number * scale // 2**10)


def _bytes_of(unit: str) -> int:
    """libvirt's units (virScaleInteger): b, byte, bytes; k, KiB, KB and so on up to E, in any case. 0 for others."""
    unit = unit.lower()
    if unit in ("b", "byte", "bytes"):
        return 1
    power = " kmgtpe".find(unit[0])
    base = {"": 1024, "ib": 1024, "b": 1000}.get(unit[1:], 0)
    return base**power if power > 0 and base else 0


def has_shared_memory(root: Element) -> bool:
    """virtiofsd maps the guest's memory: all of it must be shared (one private NUMA cell makes libvirt refuse)."""
    cells = {cell.get("memAccess") for cell in root.iterfind(_CELLS)}
    if "private" in cells or any(device.get("access") == "private" for device in _ram_devices(root)):
        return False
    return get(root, "memoryBacking/access/@mode") == "shared" or cells == {"shared"}


def share_memory(root: Element) -> None:
    """Make all of the memory shared."""
    if get(root, "memoryBacking/source/@type") not in ("memfd", "file"):
        put(root, "memoryBacking/source/@type", "memfd")
    put(root, "memoryBacking/access/@mode", "shared")
    private = [(cell, "memAccess") for cell in root.iterfind(_CELLS)]
    private += [(device, "access") for device in _ram_devices(root)]
    for element, attribute in private:
        if element.get(attribute) == "private":
            element.set(attribute, "shared")


def _ram_devices(root: Element) -> list[Element]:
    return [device for device in root.iterfind(_DEVICES) if device.get("model") in _RAM_DEVICES]
