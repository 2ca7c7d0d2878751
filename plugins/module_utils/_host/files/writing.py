# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way to write a file on the hypervisor: under a temporary name, so that it appears complete or not at all.

A temporary name contains the name of the file, and a run locks what it writes under such a name. So what a killed run
has left is found, and is not mistaken for what another run is writing.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..._errors import HostError

_PREFIX = ".keystone-new-"


def replace_file(path: Path, content: bytes, mode: int) -> None:
    """Give a file a new content in one step, also for a power cut. ``mode`` is for a new file: others keep theirs."""
    descriptor, name = tempfile.mkstemp(prefix=_prefix(path), dir=path.parent)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _take_over(descriptor, path, mode)
        _write_all(descriptor, content)
        os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    sync_directory(path.parent)


def replace_with_link(path: Path, target: Path) -> None:
    """Put a symbolic link at a path in one step."""
    with scratch_directory(path) as scratch:
        (scratch / "link").symlink_to(target)
        (scratch / "link").replace(path)
    sync_directory(path.parent)


@contextmanager
def scratch_directory(target: Path) -> Iterator[Path]:
    """A new private directory next to the target, removed at the end; what killed runs have left is removed as well.

    Its path is that of the open directory: the owner of the target's directory may give its name to another.
    A command that works there gets it as its directory.
    """
    remove_leftovers(leftover_directories(target))
    directory = Path(tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent))
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _require_own(descriptor, directory)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(descriptor)


def _require_own(descriptor: int, directory: Path) -> None:
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise HostError(
            f"{directory} was replaced while this task was running",
            fix=f"Make sure that no other user may write to {directory.parent}, then run the task again.",
        )


def leftover_files(path: Path) -> list[Path]:
    """What killed runs of replace_file have left."""
    return [left for left in _leftovers(path) if left.is_file() and not left.is_symlink()]


def leftover_directories(target: Path) -> list[Path]:
    """What killed runs have left of scratch_directory."""
    return [left for left in _leftovers(target) if left.is_dir() and not left.is_symlink()]


def is_temporary(path: Path) -> bool:
    return path.name.startswith(_PREFIX)


def remove_leftovers(paths: list[Path]) -> None:
    """Remove files and directories with temporary names unless a run uses them."""
    for path in paths:
        with suppress(FileNotFoundError), _held(path) as is_unused_by_others:
            if is_unused_by_others and path.is_dir():
                shutil.rmtree(path)
            elif is_unused_by_others:
                path.unlink()


def sync_directory(directory: Path) -> None:
    """Wait until the disk has the names in a directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _prefix(path: Path) -> str:
    """A name has 255 bytes at most, and a prefix must end where another file's cannot go on."""
    return f"{_PREFIX}{os.fsdecode(os.fsencode(path.name)[:150])}-"


def _leftovers(path: Path) -> list[Path]:
    random_part = "[a-z0-9_]" * 8  # as tempfile has it
    found = path.parent.glob(f"{glob.escape(_prefix(path))}{random_part}")
    return [left for left in sorted(found) if is_unused(left)]


def is_unused(path: Path) -> bool:
    """No run holds a file or directory with a temporary name."""
    try:
        with _held(path) as is_ours:
            return is_ours
    except OSError:  # gone since, or a link
        return False


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold a file or directory, so that another run knows that it is in use; False when another run does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _take_over(descriptor: int, path: Path, mode: int) -> None:
    """Give a new file the owner and the mode of the file that it is going to replace."""
    try:
        old = path.stat()
    except FileNotFoundError:
        os.fchmod(descriptor, mode)
        return
    new = os.fstat(descriptor)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, old.st_mode & 0o7777)


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
