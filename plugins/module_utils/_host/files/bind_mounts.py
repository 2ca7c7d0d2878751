# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-only bind mounts: how a share is made read-only where virtiofsd cannot do it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..._domain.state_paths import domain_directory
from ..._mounts import mount_at, read_mounts
from . import mount_table, mounting
from .state import remove_part


def list_binds(state: str, domain: str) -> dict[str, bool]:
    """The domain's bind mounts: target, and whether it is complete (mounted read-only, and again at boot)."""
    root = Path(domain_directory(state, domain), "ro")
    targets = [str(target) for target in sorted(root.iterdir())] if root.is_dir() else []
    lasting = {target for _source, target in mount_table.entries()}
    return {target: target in lasting and _is_read_only(target) for target in targets}


def bind_read_only(source: str, target: str) -> None:
    """Mount ``source``, a real path, read-only at ``target``, now and after a reboot."""
    Path(target).mkdir(parents=True, exist_ok=True)
    mount_table.add(source, target, "ro")
    if not _is_read_only(target):
        mounting.unmount(target)  # what a killed run has left
        mounting.bind(source, target, mounting.READ_ONLY)


def unbind(target: str) -> None:
    """Undo bind_read_only; the source is not touched."""
    mounting.unmount(target)
    mount_table.remove(target)
    with suppress(FileNotFoundError):
        Path(target).rmdir()
    remove_part(Path(target).parent)


def _is_read_only(target: str) -> bool:
    mount = mount_at(read_mounts(), target)
    return mount is not None and "ro" in mount.options
