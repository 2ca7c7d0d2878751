# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and directories of the host that a task names."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..._errors import InvalidInput

_MOST_LINKS = 40  # as in the kernel


def require_directory(path: str) -> None:
    """Raise InvalidInput when a share's source cannot be shared; libvirt would find out only at the start."""
    source = Path(path)
    try:
        source.resolve(strict=True)
    except (FileNotFoundError, NotADirectoryError):
        raise InvalidInput(f"source {path} does not exist", fix="Create the directory, or correct source.") from None
    except PermissionError:
        fix = "Use become, or share a directory that this user can read."
        raise InvalidInput(f"permission denied for source {path}", fix=fix) from None
    except (OSError, RuntimeError) as error:  # RuntimeError: what pathlib raises for a loop before Python 3.13
        raise InvalidInput(f"source {path} is a symlink loop: {error}", fix="Correct the link.") from None
    if not source.is_dir():
        raise InvalidInput(f"source {path} is not a directory", fix="Set source to a directory.")


def other_owners(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """User and group of the directories that do not belong to root."""
    found = {}
    for path in paths:
        with suppress(OSError):
            status = Path(path).stat()
            if status.st_uid != 0:
                found[path] = (status.st_uid, status.st_gid)
    return found


def real_path(path: str) -> str:
    """The path without links and detours; a loop of links, which a guest may have made, is left as it is."""
    return os.path.realpath(path)


def way_to(path: str) -> tuple[str, ...]:
    """Every directory entry that is followed on the way to the real path: who can replace one decides the end."""
    entries: dict[str, None] = {}
    here, left, links = "/", _parts(path), _MOST_LINKS
    while left:
        part = left.pop()
        if part == "..":
            here = posixpath.dirname(here)
            continue
        here = posixpath.join(here, part)
        entries.pop(here, None)
        entries[here] = None
        target = _link_target(here) if links else None
        if target is not None:
            links -= 1
            here = "/" if target.startswith("/") else posixpath.dirname(here)
            left += _parts(target)
    return tuple(entries)


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _link_target(path: str) -> str | None:
    try:
        return str(Path(path).readlink())
    except OSError:
        return None


def is_file(path: str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file fails in a directory that this user may not search


def require_log(path: str) -> None:
    """Raise InvalidInput for a log that libvirt could not write; it creates the file, but no directory."""
    if is_missing(posixpath.dirname(path), directory=True) or (os.path.lexists(path) and not is_file(path)):
        raise InvalidInput(
            f"serial_log: {path} is not a file, or the directory above it does not exist",
            fix="Create the directory, or correct serial_log.",
        )


def is_missing(path: str, *, directory: bool = False) -> bool:
    """Whether nothing, or with ``directory`` no directory, is at a path.

    libvirt runs as root and sees more than this user may, so a path that cannot be looked at does not count as missing.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - nothing else here needs a Path
    except PermissionError:
        return False
    except OSError:
        return True
    return directory and not stat.S_ISDIR(mode)


def has_interface(name: str) -> bool:
    """The host has a network interface, such as a bridge, of this name."""
    return not is_missing(f"/sys/class/net/{name}")
