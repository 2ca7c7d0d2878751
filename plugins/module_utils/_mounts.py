# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's table of mounts, as bytes: a path may hold any byte but NUL, line separators of Unicode included."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo; ``super_options`` are those of the file system, not of this mount."""

    id: int
    mount_point: str
    options: tuple[str, ...]
    type: str
    source: str
    super_options: tuple[str, ...]

    @property
    def read_only(self) -> bool:
        return "ro" in self.options or "ro" in self.super_options


def read_mounts() -> list[Mount]:
    """The mounts of this process's namespace, in the order of mounting."""
    return parse_mountinfo(MOUNTINFO.read_bytes())


def parse_mountinfo(content: bytes) -> list[Mount]:
    """Every mount (proc(5): the optional fields before the file system type end with a lone dash)."""
    mounts = []
    for line in content.split(b"\n"):
        if not line:
            continue
        head, _dash, tail = line.partition(b" - ")
        mount_id, _parent, _device, _root, mount_point, options = head.split(b" ")[:6]
        fs_type, source, super_options = tail.split(b" ", 2)
        mounts.append(
            Mount(
                int(mount_id),
                unescape(mount_point),
                _options(options),
                os.fsdecode(fs_type),
                unescape(source),
                _options(super_options),
            )
        )
    return mounts


def mount_at(mounts: Iterable[Mount], mount_point: str) -> Mount | None:
    """The mount that is visible at a path: the last one made there."""
    here = [mount for mount in mounts if mount.mount_point == mount_point]
    return here[-1] if here else None


def _options(field: bytes) -> tuple[str, ...]:
    return tuple(unescape(option) for option in field.split(b","))


def unescape(field: bytes) -> str:
    """A field of mountinfo as text: space, tab, newline and backslash are written as octal numbers."""
    return os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8) & 0xFF]), field))


def escape(text: str) -> bytes:
    """The reverse of unescape."""
    return re.sub(rb"[\\ \t\n]", lambda found: b"\\%03o" % ord(found[0]), os.fsencode(text))
