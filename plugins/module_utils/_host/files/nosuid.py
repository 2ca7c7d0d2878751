# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources that guests write to, mounted at themselves with nosuid and nodev.

Root of a guest can make setuid programs and device nodes in a writable share. With these flags they are plain files for
the users of the host. A marker in the directory of each domain that shares a source says who needs the mount.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote, unquote

from ..._domain.state_paths import DOMAINS, domain_directory
from ..._errors import InvalidInput
from ..._mounts import Mount, read_mounts
from .. import lock
from . import mount_table, mounting
from .state import remove_part

_FLAGS = {"nosuid", "nodev"}
# In a chroot, the kernel does not list the mount that the root directory is on.
_UNLISTED_ROOT = Mount(id=0, mount_point="/", options=(), type="", source="", super_options=())


def list_nosuid(state: str, domain: str) -> dict[str, bool]:
    """The sources that have a mount because of this domain, real paths, and whether the mount is complete."""
    root = Path(domain_directory(state, domain), "nosuid")
    sources = [unquote(marker.name) for marker in sorted(root.iterdir())] if root.is_dir() else []
    lasting = mount_table.entries()
    return {source: (source, source) in lasting and _is_mounted(source) for source in sources}


def is_nosuid(path: str) -> bool:
    """The file system at a path ignores setuid bits and device nodes, and only root can change that."""
    mount = _mount_of(path)
    return set(mount.options) >= _FLAGS and not _is_of_another_user(mount)


def is_nosuid_by_itself(path: str) -> bool:
    """The same without the collection's doing, for this path or a directory above it."""
    mount_point = _mount_of(path).mount_point
    return is_nosuid(path) and (mount_point, mount_point) not in mount_table.entries()


def mount_nosuid(state: str, domain: str, source: str) -> None:
    """Mount ``source``, a real path, at itself, now and after a reboot.

    Raises InvalidInput for mounts below the source, and for one of another user.
    """
    _require_no_mounts_below(source)
    _require_mount_of_root(source)
    with lock.exclusive("nosuid"):
        marker = _marker(state, domain, source)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.touch()
        mount_table.add(source, source, "nosuid,nodev")
        if not _is_mounted(source):
            mounting.bind(source, source, mounting.NOSUID | mounting.NODEV)


def unmount_nosuid(state: str, domain: str, source: str) -> None:
    """Undo mount_nosuid, unless another domain needs the mount as well."""
    with lock.exclusive("nosuid"):
        marker = _marker(state, domain, source)
        others = (path for path in Path(state, DOMAINS).glob(f"*/nosuid/{quote(source, safe='')}") if path != marker)
        # A mount without our line in the table is the administrator's.
        if not any(others) and (source, source) in mount_table.entries():
            if _is_mounted(source):
                mounting.unmount_once(source)
            mount_table.remove(source)
        marker.unlink(missing_ok=True)
        remove_part(marker.parent)


def _is_mounted(source: str) -> bool:
    """A directory has its own mount: that of a directory above it goes with another share."""
    return _mount_of(source).mount_point == source and is_nosuid(source)


def _marker(state: str, domain: str, source: str) -> Path:
    return Path(domain_directory(state, domain), "nosuid", quote(source, safe=""))


def _mount_of(path: str) -> Mount:
    """The mount that a path is on: the last one at the longest of the directories above it."""
    above = [mount for mount in read_mounts() if f"{path}/".startswith(f"{mount.mount_point.rstrip('/')}/")]
    return max(reversed(above), key=lambda mount: len(mount.mount_point), default=_UNLISTED_ROOT)


def _require_no_mounts_below(source: str) -> None:
    below = sorted({mount.mount_point for mount in read_mounts() if mount.mount_point.startswith(f"{source}/")})
    if below:
        raise InvalidInput(
            f"source {source} has other file systems mounted below it ({', '.join(below[:3])}), which a mount with"
            " nosuid would hide",
            fix="Set nosuid to false, or share a directory without mounts below it.",
        )


def _require_mount_of_root(source: str) -> None:
    if _is_of_another_user(_mount_of(source)):
        raise InvalidInput(
            f"source {source} is on a file system that another user of the host has mounted, who can take it away",
            fix="Unmount that file system, or set nosuid to false.",
        )


def _is_of_another_user(mount: Mount) -> bool:
    """FUSE lets users mount, always with nosuid and nodev."""
    return mount.type.partition(".")[0] == "fuse" and "user_id=0" not in mount.super_options
