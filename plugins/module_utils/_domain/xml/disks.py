# SPDX-License-Identifier: GPL-3.0-or-later
"""The CD-ROM drive of a domain, and the names of its disks in the guest."""

from __future__ import annotations

from itertools import product
from string import ascii_lowercase

from .places import Element, drop, ensure, etree, get, put


def cdrom(root: Element) -> Element:
    """The CD-ROM drive, None when there is none."""
    return root.find("devices/disk[@device='cdrom']")


def read_medium(root: Element) -> str | None:
    """What is in the CD-ROM drive: a file, a block device or the name of another source. Empty for none."""
    drive = cdrom(root)
    if drive is None:
        return None
    attributes = (get(drive, f"source/@{name}") for name in ("file", "dev", "volume", "name", "dir"))
    return next(filter(None, attributes), "")


def _boot_from_cdrom(root: Element) -> None:
    """Boot from the drive after the disk, so that an installed system is not reinstalled.

    A boot order that the user has set stays.
    """
    if root.find("devices/*/boot") is None and root.find("os/boot[@dev='cdrom']") is None:
        if root.find("os/boot") is None:
            etree.SubElement(ensure(root, "os"), "boot", dev="hd")
        etree.SubElement(ensure(root, "os"), "boot", dev="cdrom")


def write_medium(root: Element, path: str) -> None:
    """The medium of the CD-ROM drive, which is added when missing; an empty path ejects it."""
    drive = cdrom(root)
    if drive is None:
        drive = etree.SubElement(ensure(root, "devices"), "disk", type="file", device="cdrom")
        etree.SubElement(drive, "driver", name="qemu", type="raw")
        etree.SubElement(drive, "target", dev=free_target(root, "sata"), bus="sata")
        etree.SubElement(drive, "readonly")
        _boot_from_cdrom(root)
    if drive.get("type") != "file" or not path:
        # The existing elements belong to a device, a volume or a server.
        for name in ("source", "auth", "encryption"):
            drop(drive, name)
        drive.set("type", "file")
    drop(drive, "backingStore")
    if path:
        put(drive, "source/@file", path)
        if get(drive, "driver/@type"):
            put(drive, "driver/@type", "raw")


def backing_files(root: Element) -> dict[str, list[str]]:
    """The files below the image of each disk by its target, as far as libvirt names them (of a running domain, all)."""
    found: dict[str, list[str]] = {}
    for disk in root.iterfind("devices/disk"):
        sources = disk.iterfind(".//backingStore/source[@file]")
        found[get(disk, "target/@dev") or ""] = [str(source.get("file")) for source in sources]
    return found


def free_target(root: Element, bus: str) -> str:
    """The first unused disk target of a bus: vda, vdb, ... or sda, sdb, ..."""
    prefix = "vd" if bus == "virtio" else "sd"
    used = {target.get("dev") for target in root.iterfind("devices/disk/target")}
    names = (prefix + "".join(letters) for count in (1, 2) for letters in product(ascii_lowercase, repeat=count))
    return next(name for name in names if name not in used)
