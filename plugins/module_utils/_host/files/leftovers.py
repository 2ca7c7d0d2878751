# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs that were killed have left on the host, and what no list of mounts, wrappers or disks shows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..._domain.state_paths import domain_directory
from . import mount_table, writing
from .state import PARTS_OF_SHARES, remove_if_empty


def find_leftovers(state: str, domain: str, disks: Iterable[str]) -> list[str]:
    """Files with temporary names, and empty directories of the domain; a directory comes after what is in it."""
    found = writing.leftover_files(mount_table.TABLE)
    for disk in sorted(disks):
        found += writing.leftover_directories(Path(disk))
    root = Path(domain_directory(state, domain))
    for directory in [*(root / part for part in PARTS_OF_SHARES), root]:
        if directory.is_dir():
            inside = list(directory.iterdir())
            found += [path for path in inside if writing.is_temporary(path) and writing.is_unused(path)]
            found += [directory] if all(path in found for path in inside) else []
    return [str(path) for path in found]


def remove_leftovers(paths: Iterable[str]) -> None:
    """Remove those that are still unused: an action of the same plan may have filled a directory."""
    for path in map(Path, paths):
        if writing.is_temporary(path):
            writing.remove_leftovers([path])
        else:
            remove_if_empty(path)
