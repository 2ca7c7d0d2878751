# SPDX-License-Identifier: GPL-3.0-or-later
"""Bind mounts that have their flags from the first moment, of directories that were checked before."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..._errors import HostError
from ..._mounts import mount_at, read_mounts

# MOUNT_ATTR_* of mount_setattr(2), which are MS_* of mount(2) as well.
READ_ONLY, NOSUID, NODEV = 0x1, 0x2, 0x4
_PRIVATE, _DETACH = 0x40000, 0x2
# Of system calls that the C library may not have yet; the numbers are the same on every architecture.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE, _AT_EMPTY_PATH, _MOVE_FROM_EMPTY_PATH, _AT_FDCWD = 0x1, 0x1000, 0x4, -100
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace")]


def bind(source: str, target: str, flags: int) -> None:
    """Mount a directory at another, or at itself, with flags.

    Only this directory: mounts below the source do not appear, and those that come later do not either, because they
    would not have the flags.
    """
    with _opened(source) as directory:
        try:
            _bind(directory, target, flags)
        except OSError as error:
            fix = "Use Linux 5.12 or later." if error.errno == errno.ENOSYS else ""
            raise HostError(f"cannot mount {source} at {target}: {error.strerror}", fix=fix) from None


def unmount(target: str) -> None:
    """Remove every mount at a directory together with what is mounted below, also while it is in use."""
    while mount_at(read_mounts(), target):
        unmount_once(target)


def unmount_once(target: str) -> None:
    """Remove the topmost mount at a directory."""
    if _LIBC.umount2(os.fsencode(target), _DETACH):
        raise HostError(f"cannot unmount {target}: {os.strerror(ctypes.get_errno())}")


@contextmanager
def _opened(path: str) -> Iterator[int]:
    """The directory as it is now, which no symbolic link can lead elsewhere any more."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"cannot mount {path}: {error.strerror}", fix="Correct source.") from None
    try:
        found = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if found != path:
            raise HostError(
                f"{path} leads to {found} now: it was replaced while this task was running",
                fix="Make sure that only root can change the directories above it, then run the task again.",
            )
        yield descriptor
    finally:
        os.close(descriptor)


def _bind(directory: int, target: str, flags: int) -> None:
    """The mount appears with its flags, so a killed run leaves all of it or nothing (Linux 5.12)."""
    tree = _call(_OPEN_TREE, directory, b"", _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH)
    try:
        attributes = _Attributes(flags, 0, _PRIVATE, 0)
        _call(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), ctypes.sizeof(attributes))
        _call(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_FROM_EMPTY_PATH)
    finally:
        os.close(tree)


def _call(number: int, *arguments: object) -> int:
    result = _LIBC.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)
