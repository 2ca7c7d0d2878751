# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory that the collection keeps for each domain on the host: bind mounts and virtiofsd wrappers."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..._domain.state_paths import SESSION_STATE, STATE, domain_directory

# Parts of a domain's directory that shares use; each exists only while something is in it. The others belong to the
# roles.
PARTS_OF_SHARES = ("bin", "nosuid", "ro")
# Parts that are removed together with the domain.
_PARTS = ("boot", "cidata", "seed", "ssh", *PARTS_OF_SHARES)


def state_root(session: bool) -> str:
    """Where domains' bind mounts and wrappers lie: the system's, or the user's own in session mode."""
    return str(Path.home() / SESSION_STATE) if session else STATE


def has_state(state: str, domain: str) -> bool:
    """Whether remove_state has something to do, also after a killed run. A view of the store is not its business."""
    return _has_parts(state, domain, _PARTS)


def has_share_state(state: str, domain: str) -> bool:
    """Whether bind mounts or wrappers of a domain are there, or what a killed removal has left of their directories."""
    return _has_parts(state, domain, PARTS_OF_SHARES)


def _has_parts(state: str, domain: str, parts: Iterable[str]) -> bool:
    """Whether the domain's directory has one of the parts, or is empty."""
    root = Path(domain_directory(state, domain))
    return root.is_dir() and (any((root / part).is_dir() for part in parts) or not any(root.iterdir()))


def remove_state(state: str, domain: str) -> None:
    """Remove all parts of the domain's directory but the view; fails while a bind mount is still there."""
    root = Path(domain_directory(state, domain))
    for name in _PARTS:
        if name != "ro":
            for path in root.glob(f"{name}/*"):
                path.unlink()
        if (root / name).is_dir():
            (root / name).rmdir()
    remove_if_empty(root)


def remove_part(directory: Path) -> None:
    """Remove a part of a domain's directory if it is empty, and then the domain's directory if that is empty."""
    remove_if_empty(directory)
    remove_if_empty(directory.parent)


def remove_if_empty(directory: Path) -> None:
    if directory.is_dir() and not any(directory.iterdir()):
        directory.rmdir()
