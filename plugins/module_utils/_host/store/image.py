# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of store paths, which a guest's overlay has above the live share.

Every directory of an image is opaque for the overlay: what a path of the image holds comes from the image alone,
whatever becomes of that path in the host's store.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ... import _commands
from ..._errors import InvalidInput
from ..files import writing
from ..lock import exclusive
from .closure import Closure, StorePath

# How a guest finds its images, /dev/disk/by-uuid/...: "keystonestoreimg" and "keystonestoreupd" in ASCII.
UUID = "6b657973-746f-6e65-7374-6f7265696d67"
UPDATE_UUID = "6b657973-746f-6e65-7374-6f7265757064"
# Where the superblock of an erofs has its UUID, in bytes.
_UUID_OFFSET = 1024 + 48
# Guests map persistent memory in sections of this size, in bytes.
_SECTION = 2 * 2**20
# A line of the list of what an image holds.
_LINE = re.compile(r"(/nix/store/[0-9a-z]{32}-[0-9A-Za-z+._?=-]+) (sha256:[0-9a-z]+) ([0-9]{1,18})\n")
# Links store paths into a directory:  DIRECTORY_OF_THE_STORE TARGET STORE_PATH...
# A link cannot lead out of a mount, and the read-only store of NixOS is a mount of a directory of the same file system.
# The mount namespace is private, so the mount can be removed there, unless another directory appears in its place.
_LINK = """
exec 2>/dev/null 3<"$1"
umount --lazy "$1"
[ "$1" -ef /proc/self/fd/3 ] || exit 1
shift
exec cp --archive --link --target-directory "$@"
"""


class StoreImage:
    """An image file and, next to it, the list of what the image holds: a line for each path, with its hash and size."""

    def __init__(self, path: str, uuid: str = UUID) -> None:
        self.uuid = uuid
        self.path = Path(path)
        self.list = Path(f"{path}.paths")

    def refuse_other_files(self, option: str) -> None:
        """Raise InvalidInput when the path has something else than a store image, such as the disk of a VM."""
        if os.path.lexists(self.path) and not (self.path.is_file() and self.has_uuid()):
            raise InvalidInput(f"{option} {self.path} exists and is not a store image", fix="Choose another path.")

    def has_uuid(self) -> bool:
        """Whether the file is an image of this kind; False when it has disappeared."""
        with suppress(FileNotFoundError), self.path.open("rb") as image:
            image.seek(_UUID_OFFSET)
            return image.read(16).hex() == self.uuid.replace("-", "")
        return False

    def contents(self) -> Closure | None:
        """What the image holds; None when there is no image, or no list of it that this module has written."""
        if not self.path.exists() or not _is_own(self.list):
            return None
        with suppress(FileNotFoundError):
            text = self.list.read_text(errors="replace")
            lines = [_LINE.fullmatch(line) for line in text.splitlines(keepends=True)]
            found = {line[1]: StorePath(line[2], int(line[3])) for line in lines if line}
            return found if describe(found) == text else None
        return None

    def others(self) -> Iterator[StoreImage]:
        """The images of this kind in the same directory that no other user can have written."""
        for listed in sorted(self.path.parent.glob("*.paths")):
            other = StoreImage(str(listed.with_suffix("")), self.uuid)
            if other.path != self.path and _is_own(other.path) and other.has_uuid():
                yield other

    def size(self) -> int | None:
        """The size in bytes; None when there is no image."""
        return self.path.stat().st_size if self.path.exists() else None

    def leftovers(self) -> list[Path]:
        """The image, its list and the directory of an interrupted run, as far as they exist."""
        return [path for path in (self.path, self.list) if path.exists()] + self.unfinished()

    def unfinished(self) -> list[Path]:
        """What an interrupted run has left besides an image and its list."""
        return writing.leftover_directories(self.path) + writing.leftover_files(self.list)

    def make(self, closure: Closure, store_root: str, timeout: float) -> None:
        """Replace the image in one step; a running guest keeps the file that it was started with."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(self._lock()):
            writing.remove_leftovers(writing.leftover_files(self.list))
            with writing.scratch_directory(self.path) as scratch:
                self._make(scratch, closure, store_root, timeout)

    def _lock(self) -> str:
        """The lock of all images in the directory, so that the second of two equal images finds the first."""
        return f"store-images:{self.path.parent}"

    def _make(self, scratch: Path, closure: Closure, store_root: str, timeout: float) -> None:
        tree, image = scratch / "tree", scratch / "image"
        if not self._link_equal(closure, image):
            tree.mkdir(mode=0o755)
            _stage([f"{store_root.rstrip('/')}{path}" for path in closure], tree, timeout)
            _write(tree, image, self.uuid, timeout)
        # The list is written last: after an interrupted run the image is made again.
        self.list.unlink(missing_ok=True)
        image.replace(self.path)
        writing.replace_file(self.list, describe(closure).encode(), 0o644)

    def _link_equal(self, closure: Closure, link: Path) -> bool:
        """Give an equal image in the directory a second name: one file, and one page cache for all guests."""
        return any(self._link_image(other.path, link) for other in self.others() if other.contents() == closure)

    def _link_image(self, image: Path, link: Path) -> bool:
        with suppress(OSError):  # the image was removed, or has too many names, or its file system has no hard links
            os.link(image, link, follow_symlinks=False)
            if _is_own(link) and StoreImage(str(link), self.uuid).has_uuid():
                return True
            link.unlink()
        return False

    def remove_unfinished(self) -> None:
        with exclusive(self._lock()):
            writing.remove_leftovers(self.unfinished())

    def remove(self) -> None:
        """Remove the image and everything that belongs to it."""
        self.path.unlink(missing_ok=True)
        self.list.unlink(missing_ok=True)
        writing.remove_leftovers(self.unfinished())


def _is_own(path: Path) -> bool:
    """Whether no other user can have written a file; the owner of a directory can have moved any file to the path."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def describe(closure: Closure) -> str:
    """The list of an image that holds the closure."""
    return "".join(f"{path} {contents.digest} {contents.size}\n" for path, contents in closure.items())


def _stage(sources: list[str], tree: Path, timeout: float) -> None:
    """Put store paths into a directory, without a copy of their data where possible, and mark directories as opaque."""
    if sources and not _link_paths(sources, tree, timeout):
        shutil.rmtree(tree)
        tree.mkdir(mode=0o755)
        command = ["cp", "--archive", "--reflink=auto", "--target-directory", tree.name, *sources]
        _commands.check(command, timeout=timeout, directory=tree.parent)
    for copy in tree.iterdir():
        if copy.is_dir() and not copy.is_symlink():
            os.setxattr(copy, "trusted.overlay.opaque", b"y")


def _link_paths(sources: list[str], tree: Path, timeout: float) -> bool:
    """Link the files of store paths into a directory; False where no link is possible, as on another file system."""
    arguments = [posixpath.dirname(sources[0]), tree.name, *sources]
    command = ["unshare", "--mount", "sh", "-c", _LINK, "sh", *arguments]
    return _commands.run(command, timeout=timeout, directory=tree.parent).status == 0


def _write(tree: Path, image: Path, uuid: str, timeout: float) -> None:
    """Write an image of a directory to the disk."""
    # Every store path has root as its owner and 1 as its time, so no inode has to store them.
    # Files whose ends share a block with their inode could not be mapped.
    options = ["--quiet", "--all-root", "-T1", f"-U{uuid}", "-Enoinline_data"]
    _commands.check(["mkfs.erofs", *options, image.name, tree.name], timeout=timeout, directory=tree.parent)
    os.truncate(image, -(-image.stat().st_size // _SECTION) * _SECTION)
    image.chmod(0o444)
    # Otherwise a power cut could leave an incomplete image with a complete list.
    with image.open("rb") as written:
        os.fsync(written.fileno())
