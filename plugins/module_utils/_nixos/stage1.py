# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a system needs other file systems than the running one has mounted in stage 1. Pure."""

from __future__ import annotations

from collections.abc import Iterator

# switch-to-configuration leaves these alone.
_NEVER_REMOUNTED = ("/", "/nix")
_LAYERS = ("lowerdir=", "upperdir=", "workdir=")


def needs_other_mounts(booted: str, new: str) -> bool:
    """Whether a switch between systems with these fstabs would mount, unmount or replace what stage 1 has mounted.

    systemd would fail at that, and stop local-fs.target with everything that needs it, ssh included.
    """
    before, after = dict(_entries(booted)), dict(_entries(new))
    places = {place for entries in (before, after) for place, (_source, in_stage1) in entries.items() if in_stage1}
    return any(before.get(place, (None,))[0] != after.get(place, (None,))[0] for place in places)


def _entries(fstab: str) -> Iterator[tuple[str, tuple[tuple[str, ...], bool]]]:
    """By mount point: what a switch cannot change, and whether stage 1 mounts the file system."""
    for line in fstab.splitlines():
        device, place, kind, options = [*line.split(), *([""] * 4)][:4]
        if device.startswith("#") or not options or place in _NEVER_REMOUNTED:
            continue
        listed = options.split(",")
        layers = [option for option in listed if kind == "overlay" and option.startswith(_LAYERS)]
        yield place, ((device, kind, *layers), "x-initrd.mount" in listed)
