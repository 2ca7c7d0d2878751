# SPDX-License-Identifier: GPL-3.0-or-later
"""Bind mounts that have their flags from the first moment, of directories that were checked before.

Users of the host may control the directories above a mount. So every path is opened once, without following symbolic
links, and what happens then happens to the open directory.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..._errors import HostError
from ..._mounts import mount_at, read_mounts

# MOUNT_ATTR_* of mount_setattr(2), which are MS_* of mount(2) as well.
READ_ONLY, NOSUID, NODEV = 0x1, 0x2, 0x4
_PRIVATE, _DETACH = 0x40000, 0x2
# Of system calls that the C library may not have yet; the numbers are the same on every architecture.
_OPEN_TREE, _MOVE_MOUNT, _OPENAT2, _MOUNT_SETATTR = 428, 429, 437, 442
_OPEN_TREE_CLONE, _AT_EMPTY_PATH, _AT_FDCWD = 0x1, 0x1000, -100
_MOVE_FROM_EMPTY_PATH, _MOVE_TO_EMPTY_PATH, _RESOLVE_NO_SYMLINKS = 0x4, 0x40, 0x4
_LIBC = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace")]


class _How(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


def bind(source: str, target: str, flags: int) -> None:
    """Mount a directory at another, or at itself, with flags.

    Only this directory: mounts below the source do not appear, and those that come later do not either, because they
    would not have the flags.
    """
    with ExitStack() as opened:
        directory = opened.enter_context(_opened(source))
        place = directory if target == source else opened.enter_context(_opened(target))
        try:
            _bind(directory, place, flags)
        except OSError as error:
            raise HostError(f"cannot mount {source} at {target}: {error.strerror}", fix=_fix(error)) from None


def unmount(target: str) -> None:
    """Remove every mount at a directory together with what is mounted below, also while it is in use."""
    while mount_at(read_mounts(), target):
        unmount_once(target)


def unmount_once(target: str) -> None:
    """Remove the topmost mount at a directory."""
    with _opened(target) as directory:
        if not any(mount.id == _mount_id(directory) and mount.mount_point == target for mount in read_mounts()):
            raise HostError(f"cannot unmount {target}: it is not a mount point any more", fix="Run the task again.")
        if _LIBC.umount2(f"/proc/self/fd/{directory}".encode(), _DETACH):
            raise HostError(f"cannot unmount {target}: {os.strerror(ctypes.get_errno())}")


@contextmanager
def _opened(path: str) -> Iterator[int]:
    """The directory as it is now, which no symbolic link has led to or can lead elsewhere any more."""
    how = _How(os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS)
    try:
        descriptor = _call(_OPENAT2, _AT_FDCWD, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
    except OSError as error:
        raise HostError(f"cannot open {path} to mount or unmount it: {error.strerror}", fix=_fix(error)) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _fix(error: OSError) -> str:
    return {
        errno.ELOOP: "A symbolic link has replaced the directory or one above it since this task has looked. Make sure"
        " that only root can change these directories, then run the task again.",
        errno.ENOENT: "Correct source.",
        errno.ENOSYS: "Use Linux 5.12 or later.",
    }.get(error.errno or 0, "")


def _mount_id(descriptor: int) -> int:
    (mount_id,) = re.findall(r"^mnt_id:\s*(\d+)$", Path(f"/proc/self/fdinfo/{descriptor}").read_text(), re.MULTILINE)
    return int(mount_id)


def _bind(directory: int, place: int, flags: int) -> None:
    """The mount appears with its flags, so a killed run leaves all of it or nothing (Linux 5.12)."""
    tree = _call(_OPEN_TREE, directory, b"", _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH)
    try:
        attributes = _Attributes(flags, 0, _PRIVATE, 0)
        _call(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), ctypes.sizeof(attributes))
        _call(_MOVE_MOUNT, tree, b"", place, b"", _MOVE_FROM_EMPTY_PATH | _MOVE_TO_EMPTY_PATH)
    finally:
        os.close(tree)


def _call(number: int, *arguments: object) -> int:
    result = _LIBC.syscall(number, *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)
