# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks to which an overlay was added after the domain was defined: external snapshots. Pure: images are values."""

from __future__ import annotations

from typing import Any, Callable

from .model import Observed, Options, disk_key
from .xml.disks import backing_files


def resolve_overlays(
    wanted: Options, observed: Observed, file_of: Callable[[str], str], bases_of: Callable[[Options], list[str]]
) -> Options:
    """The task with the overlay in the place of a disk that is the base of an attached one.

    Attached as a disk of its own, the base would be written to below its overlay. ``file_of`` returns the file of a
    disk's key, ``bases_of`` the files that an attached disk is based on; of another machine's files only libvirt knows.
    """
    definition = observed.persistent or observed.live
    attached = {disk_key(disk): disk for disk in definition.disks()} if definition else {}
    listed = {disk_key(disk) for disk in wanted.get("disks") or ()}
    if definition is None or listed <= attached.keys():
        return wanted
    known = backing_files((observed.live or definition).root)
    overlays = {
        base: disk
        for key, disk in attached.items()
        if key not in listed
        for base in (*bases_of(disk), *known.get(disk["target"], ()))
    }

    def resolved(disk: dict[str, Any]) -> dict[str, Any]:
        key = disk_key(disk)
        overlay = None if key in attached else overlays.get(file_of(key))
        if overlay is None:
            return disk
        place = {option: overlay[option] for option in ("path", "pool", "volume")}
        return {**disk, **place, "format": None, "backing": None, "backing_format": None}

    return {**wanted, "disks": [resolved(disk) for disk in wanted["disks"]]}
