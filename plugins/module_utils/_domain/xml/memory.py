# SPDX-License-Identifier: GPL-3.0-or-later
"""How much memory a domain has, whether its virtiofs daemons can share it, and which disks are persistent memory.

The memory of a domain with NUMA cells is the sum of the cells and of the memory devices (dimms): libvirt then ignores
what <memory> says (virDomainDefPostParseMemory).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..._errors import InvalidInput
from ..values import plain_path
from .places import (
    Element,
    add_arguments,
    arguments,
    drop,
    drop_arguments,
    ensure,
    etree,
    get,
    get_number,
    invalid_place,
    put,
)

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


# A disk as persistent memory. libvirt's <memory> opens the file for writing, so the guest could change it. The disk
# stays in the XML because libvirt's security drivers let QEMU open only the files there. As a disk, the guest sees no
# more than a sector before any superblock, so that the contents are on one device.
_SECTOR = "512"


def read_pmem(disk: Element, place: str) -> bool:
    return get(disk, f"{place}/slice/@size") == _SECTOR


def write_pmem(disk: Element, place: str, value: bool) -> None:
    """The disk's part; ``write_pmem_devices`` has to follow."""
    drop(disk, place)
    if value:
        etree.SubElement(ensure(disk, place), "slice", type="storage", offset="0", size=_SECTOR)


def write_pmem_devices(root: Element, sizes: Mapping[str, int]) -> None:
    """Give the guest each disk that is persistent memory as such; ``sizes`` in MiB by path, where they are known."""
    present = _pmem_sizes(root)
    known = {**present, **sizes}
    disks = (disk for disk in root.iterfind("devices/disk") if read_pmem(disk, "source/slices"))
    paths = [plain_path(get(disk, "source/@file") or "") for disk in disks]
    wanted = _pmem_arguments(root, {path: known[path] for path in paths if path in known})
    if not wanted and not present:
        return  # what looks like the collection's is the user's
    if wanted != [pair for pair in arguments(root) if _is_pmem(*pair)]:
        drop_arguments(root, _is_pmem)
        add_arguments(root, *(argument for pair in wanted for argument in pair))


def _pmem_arguments(root: Element, sizes: Mapping[str, int]) -> list[tuple[str, str]]:
    found = []
    for index, (path, size) in enumerate(sizes.items()):
        name = f"keystone-pmem{index}"
        # Opened for reading and mapped without write access: neither the guest nor its virtiofsd can change the file.
        backend = f"memory-backend-file,id={name},share=on,readonly=on,size={size}M,mem-path={path.replace(',', ',,')}"
        # The slots of user networking, which needs an address for the same reason, end at 0x17.
        found += [("-object", backend), ("-device", f"virtio-pmem-pci,memdev={name},addr={0x18 + index:#x}")]
    ram = max(read_memory(root, "memory") or 0, _kib(root, "maxMemory", "maxMemory/@unit") // 2**10)
    return [("-m", f"maxmem={ram + sum(sizes.values())}M"), *found] if found else []


def _is_pmem(option: str, value: str) -> bool:
    return (option == "-m" and value.startswith("maxmem=")) or (
        option in ("-object", "-device") and re.search(r"\b(id|memdev)=keystone-pmem\d+", value) is not None
    )


def _pmem_sizes(root: Element) -> dict[str, int]:
    pattern = r"memory-backend-file,id=keystone-pmem\d+,.*?size=(\d+)M,mem-path=(.*)"
    matches = (re.fullmatch(pattern, value) for _option, value in arguments(root))
    return {match[2].replace(",,", ","): int(match[1]) for match in matches if match}
