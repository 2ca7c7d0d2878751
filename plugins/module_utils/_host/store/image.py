# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of store paths, which a guest's overlay has above the live share.

Every directory of an image is opaque for the overlay: what a path of the image holds comes from the image alone,
whatever becomes of that path in the host's store.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ... import _commands
from ..._domain.path_safety import PathUse
from ..._domain.values import between, check_absolute, check_file
from ..._errors import HostError, InvalidInput
from ..files import writing
from ..files.sources import real_path
from ..limits import read_limits
from ..lock import exclusive
from .closure import read_closure

# How a guest finds its image, /dev/disk/by-uuid/...: "keystonestoreimg" in ASCII.
UUID = "6b657973-746f-6e65-7374-6f7265696d67"
# Where the superblock of an erofs has its UUID, in bytes.
_UUID_OFFSET = 1024 + 48
# Guests map persistent memory in sections of this size, in bytes.
_SECTION = 2 * 2**20
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
    """An image file and, next to it, the list of what the image holds: a line for each path, with its hash."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.list = Path(f"{path}.paths")

    def refuse_other_files(self) -> None:
        """Raise InvalidInput when the path has something else than a store image, such as the disk of a VM."""
        if os.path.lexists(self.path) and not (self.path.is_file() and self.has_uuid()):
            raise InvalidInput(f"path {self.path} exists and is not a store image", fix="Choose another path.")

    def has_uuid(self) -> bool:
        with self.path.open("rb") as image:
            image.seek(_UUID_OFFSET)
            return image.read(16).hex() == UUID.replace("-", "")

    def contents(self) -> str:
        """The list of what the image holds; empty when there is no image, or when its list is missing."""
        return self.list.read_text() if self.path.exists() and self.list.exists() else ""

    def size(self) -> int | None:
        """The size in bytes; None when there is no image."""
        return self.path.stat().st_size if self.path.exists() else None

    def leftovers(self) -> list[Path]:
        """The image, its list and the directory of an interrupted run, as far as they exist."""
        return [path for path in (self.path, self.list) if path.exists()] + self.unfinished()

    def unfinished(self) -> list[Path]:
        """What an interrupted run has left besides an image and its list."""
        return writing.leftover_directories(self.path) + writing.leftover_files(self.list)

    def make(self, closure: Mapping[str, str], store_root: str, timeout: float) -> None:
        """Replace the image in one step; a running guest keeps the file that it was started with."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(self._lock()):
            writing.remove_leftovers(writing.leftover_files(self.list))
            with writing.scratch_directory(self.path) as scratch:
                self._make(scratch, closure, store_root, timeout)

    def _lock(self) -> str:
        """The lock of all images in the directory, so that the second of two equal images finds the first."""
        return f"store-images:{self.path.parent}"

    def _make(self, scratch: Path, closure: Mapping[str, str], store_root: str, timeout: float) -> None:
        tree, image = scratch / "tree", scratch / "image"
        if not self._link_equal(describe(closure), image):
            tree.mkdir(mode=0o755)
            _stage([f"{store_root.rstrip('/')}{path}" for path in closure], tree, timeout)
            _write(tree, image, timeout)
        # The list is written last: after an interrupted run the image is made again.
        self.list.unlink(missing_ok=True)
        image.replace(self.path)
        writing.replace_file(self.list, describe(closure).encode(), 0o644)

    def _link_equal(self, contents: str, link: Path) -> bool:
        """Give an equal image in the directory a second name: one file, and one page cache for all guests."""
        lists = (path for path in sorted(self.path.parent.glob("*.paths")) if path != self.list and _is_own(path))
        return any(_link_image(path.with_suffix(""), link) for path in lists if path.read_text() == contents)

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
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _link_image(image: Path, link: Path) -> bool:
    with suppress(OSError):  # the image was removed, or has too many names, or its file system has no hard links
        os.link(image, link, follow_symlinks=False)
        if _is_own(link) and StoreImage(str(link)).has_uuid():
            return True
        link.unlink()
    return False


def manage(params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Bring an image to the state that the options of module store_image ask for; the module's return values."""
    _check_values(params)
    image = StoreImage(params["path"])
    _check_limits(image)
    try:
        image.refuse_other_files()
        return _present(image, params, check_mode) if params["state"] == "present" else _absent(image, check_mode)
    except OSError as error:
        fix = "Use become if this user lacks permission, or choose another path."
        raise HostError(f"store image {image.path}: {error}", fix=fix) from error


def _check_values(params: Mapping[str, Any]) -> None:
    """Raise InvalidInput for a path that is none, and for a timeout that is too short or too long."""
    checks = {"path": check_file, "store_root": check_absolute, "timeout": between(1, 86400, "seconds")}
    for option, check in checks.items():
        problem = check(params[option])
        if problem:
            raise InvalidInput(f"{option}: {problem}", fix=f"Correct {option}.")


def _present(image: StoreImage, params: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    roots = [params["store_root"]] if params["store_root"] != "/" else []
    _check_sources([*roots, *params["store_paths"]])
    closure = read_closure(params["store_paths"], params["store_root"])
    _check_sources(closure)
    before, after = image.contents(), describe(closure)
    changed = before != after or bool(image.unfinished())
    if before != after and not check_mode:
        image.make(closure, params["store_root"], params["timeout"])
    elif changed and not check_mode:
        image.remove_unfinished()
    return _result(image, changed, before, after)


def _check_limits(image: StoreImage) -> None:
    """Raise InvalidInput for an image that the host's administrator has not allowed: it, and what is next to it."""
    place = Path(real_path(str(image.path.parent)), image.path.name)
    read_limits().check_paths([PathUse("", "path", str(image.path), str(place))])


def _check_sources(paths: Iterable[str]) -> None:
    """Raise InvalidInput for store paths, or a root of a store, that the host's administrator has not allowed."""
    read_limits().check_paths(PathUse("", "source", path, posixpath.normpath(path)) for path in paths)


def _absent(image: StoreImage, check_mode: bool) -> dict[str, Any]:
    before, changed = image.contents(), bool(image.leftovers())
    if changed and not check_mode:
        image.remove()
    return _result(image, changed, before, "")


def _result(image: StoreImage, changed: bool, before: str, after: str) -> dict[str, Any]:
    return {
        "changed": changed,
        "path": str(image.path),
        "exists": image.path.exists(),
        "size": image.size(),
        "store_path_count": len(after.splitlines()),
        "diff": {"before_header": str(image.list), "after_header": str(image.list), "before": before, "after": after},
    }


def describe(closure: Mapping[str, str]) -> str:
    """The list of an image that holds the closure."""
    return "".join(f"{path} {digest}\n" for path, digest in closure.items())


def _stage(sources: list[str], tree: Path, timeout: float) -> None:
    """Put store paths into a directory, without a copy of their data where possible, and mark directories as opaque."""
    if not _link_paths(sources, tree, timeout):
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


def _write(tree: Path, image: Path, timeout: float) -> None:
    """Write an image of a directory to the disk."""
    # Every store path has root as its owner and 1 as its time, so no inode has to store them.
    # Files whose ends share a block with their inode could not be mapped.
    options = ["--quiet", "--all-root", "-T1", f"-U{UUID}", "-Enoinline_data"]
    _commands.check(["mkfs.erofs", *options, image.name, tree.name], timeout=timeout, directory=tree.parent)
    os.truncate(image, -(-image.stat().st_size // _SECTION) * _SECTION)
    image.chmod(0o444)
    # Otherwise a power cut could leave an incomplete image with a complete list.
    with image.open("rb") as written:
        os.fsync(written.fileno())
