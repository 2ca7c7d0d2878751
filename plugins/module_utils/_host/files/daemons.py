# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the virtiofsd of each share of a running domain is alive: libvirt notices an end only at the next plug."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from pathlib import Path

# libvirt writes ID-NAME-ALIAS-fs.pid, with a shortened name (qemuVirtioFSCreatePidFilename).
_SYSTEM = Path("/run/libvirt/qemu")
_PROC = Path("/proc")


def dead_shares(domain_id: str | None, aliases: Mapping[str, str], session: bool) -> list[str]:
    """The tags whose daemon has ended. ``aliases`` are libvirt's names of the devices, such as fs0, by tag."""
    if domain_id is None:
        return []
    directory = Path(os.environ.get("XDG_RUNTIME_DIR", "/nowhere"), "libvirt/qemu/run") if session else _SYSTEM
    return sorted(tag for tag, alias in aliases.items() if _has_ended(directory, domain_id, alias))


def _has_ended(directory: Path, domain_id: str, alias: str) -> bool:
    """A share without a file has a daemon that libvirt does not run, or a libvirt that names files otherwise."""
    files = list(directory.glob(f"{glob.escape(domain_id)}-*-{glob.escape(alias)}-fs.pid"))
    return bool(files) and not any(_is_virtiofsd(file) for file in files)


def _is_virtiofsd(file: Path) -> bool:
    try:
        pid = int(file.read_text())
        name = (_PROC / str(pid) / "comm").read_text()
    except (OSError, ValueError):
        return False
    return name.startswith("virtiofsd")
