# SPDX-License-Identifier: GPL-3.0-or-later
"""The XML of storage volumes and pools."""

from __future__ import annotations

from .parsing import parse
from .places import etree, put


def volume_xml(name: str, size: int, image_format: str, backing: str | None, backing_format: str | None = None) -> str:
    """A new storage volume of ``size`` MiB."""
    volume = etree.Element("volume")
    put(volume, "name", name)
    put(volume, "capacity/@unit", "MiB")
    put(volume, "capacity", str(size))
    put(volume, "target/format/@type", image_format)
    if backing:
        put(volume, "backingStore/path", backing)
        put(volume, "backingStore/format/@type", backing_format)
    return str(etree.tostring(volume, encoding="unicode"))


def pool_file(text: str, volume: str) -> str | None:
    """The file of a new volume in a storage pool; None for a pool that has no directory."""
    directory = parse(text, "libvirt").findtext("target/path")
    return f"{directory}/{volume}" if directory else None
