# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory that the collection keeps for each domain on the host: bind mounts and virtiofsd wrappers."""

from __future__ import annotations

import os
from pathlib import Path

from .._domain.state_paths import STATE


def state_root(session: bool) -> str:
    """Where domains' bind mounts and wrappers lie: the system's, or the user's own in session mode."""
    if not session:
        return STATE
    data = os.environ.get("XDG_DATA_HOME") or str(Path("~/.local/share").expanduser())
    return f"{data}/keystone-virtiofs"


def has_state(state: str, domain: str) -> bool:
    """The domain has bind mounts or wrappers, or what a killed run left of them."""
    return Path(state, domain).is_dir()


def remove_state(state: str, domain: str) -> None:
    """Remove the domain's wrappers and empty directories; a bind mount that is still there makes this fail."""
    root = Path(state, domain)
    for path in root.glob("bin/*"):
        path.unlink()
    for directory in (root / "bin", root / "ro", root):
        if directory.is_dir():
            directory.rmdir()


def remove_empty(directory: Path) -> None:
    """Remove a directory of a domain's state when it is empty, and the domain's when that is empty then."""
    for path in (directory, directory.parent):
        if any(path.iterdir()):
            return
        path.rmdir()
