# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk images and block devices of domains; sizes are in MiB.

Every byte of an image may be a guest's. So nothing here guesses a format: it is what the task, the definition or a
record of the collection says, and without any of these an image is raw, in which form it cannot name another file.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ... import _commands
from ..._domain.model import DiskImage
from ..._errors import HostError, InvalidInput
from . import qcow2, writing
from .sources import real_path

MIB = 2**20
# The format of an image that the collection has created. Guests cannot reach attributes of this kind, and neither can
# users other than root.
_RECORD = "trusted.keystone-virtiofs.format"
_LONGEST_CHAIN = 32
# For qemu-img: seconds of CPU, bytes of memory, and no other capability than reaching files that libvirt has given to
# QEMU's user.
_LIMITS = ["prlimit", "--cpu=60", f"--as={2 * 2**30}", "--"]
_DROP_PRIVILEGES = ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all,+dac_override,+fowner", "--"]


def read_image(path: str, image_format: str | None = None) -> DiskImage | None:
    """The image at a path, None when there is none; raises InvalidInput for what cannot be a disk.

    ``image_format`` is what is known of it. Where nothing is known, an image with a qcow2 header has the format "".
    """
    with _open(path) as descriptor:
        if descriptor is None:
            return None
        status = os.fstat(descriptor)
        mode = status.st_mode
        is_block_device = stat.S_ISBLK(mode)
        is_public = bool(mode & stat.S_IROTH) and not is_block_device
        known = image_format or ("raw" if is_block_device else _recorded_format(descriptor))
        if known == "raw" or (not known and os.pread(descriptor, 4, 0) != qcow2.MAGIC):
            return DiskImage(
                _length(descriptor),
                "raw",
                is_block_device=is_block_device,
                is_public=is_public,
                is_shared=stat.S_ISREG(mode) and status.st_nlink > 1,
            )
        header = _header(path, descriptor)
        return DiskImage(
            header.size // MIB,
            known or "",
            _backing_path(path, header.backing) if header.backing else None,
            header.backing_format,
            _flaw(header),
            is_block_device,
            is_public,
        )


def _backing_path(path: str, backing: str) -> str:
    """The backing file that the header of an image names, perhaps relative to the image."""
    return str(Path(path).parent / backing)


def _flaw(header: qcow2.Header) -> str:
    """Why a header must not be followed: QEMU would open a name that is not a path, or guess a format."""
    if header.data_file:
        return "keeps its data in another file, which its header names"
    if header.backing and qcow2.has_protocol(header.backing):
        return f"has the backing file {header.backing}, which is not a path"
    if header.backing and not header.backing_format:
        return f"has the backing file {header.backing}, whose format its header does not say"
    return ""


def _header(path: str, descriptor: int) -> qcow2.Header:
    try:
        return qcow2.parse(lambda offset, count: os.pread(descriptor, count, offset))
    except InvalidInput as error:
        raise InvalidInput(f"disk {path}: {error.problem}", fix=error.fix) from None


@contextmanager
def _open(path: str) -> Iterator[int | None]:
    """A descriptor of an image file or block device; nothing that is opened can block or act."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        if Path(path).is_symlink():
            raise InvalidInput(
                f"disk {path} is a symbolic link to {Path(path).readlink()}, which does not exist",
                fix="Mount the storage that it leads to, or name another image.",
            ) from None
        yield None
        return
    except OSError as error:
        raise InvalidInput(f"disk {path}: {error.strerror}", fix="Name an image file or a block device.") from None
    try:
        kind = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(kind):
            raise InvalidInput(f"disk {path} is a directory", fix="Name an image file.")
        if stat.S_ISBLK(kind):
            _require_unused(path)
        elif not stat.S_ISREG(kind):
            raise InvalidInput(
                f"disk {path} is neither a file nor a block device", fix="Name an image file or a block device."
            )
        yield descriptor
    finally:
        os.close(descriptor)


def _require_unused(path: str) -> None:
    """The kernel refuses O_EXCL while a block device is mounted or part of something else."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        raise InvalidInput(
            f"disk {path} is a block device in use: {error.strerror}", fix="Unmount the device, or use another disk."
        ) from None


def _length(descriptor: int) -> int:
    return os.lseek(descriptor, 0, os.SEEK_END) // MIB


def _recorded_format(descriptor: int) -> str:
    with suppress(OSError):
        recorded = os.getxattr(descriptor, _RECORD).decode(errors="replace")
        return recorded if recorded in ("qcow2", "raw") else ""
    return ""


def backing_chain(path: str, image_format: str) -> list[str]:
    """The images that an image is based on, real paths, as far as headers name them with their format."""
    chain: list[str] = []
    while image_format == "qcow2" and len(chain) < _LONGEST_CHAIN:
        try:
            with _open(path) as descriptor:
                header = None if descriptor is None else _header(path, descriptor)
        except InvalidInput:
            break
        if header is None or header.backing is None or qcow2.has_protocol(header.backing):
            break
        path, image_format = real_path(_backing_path(path, header.backing)), header.backing_format
        chain.append(path)
    return chain


def require_size(path: str, size: int) -> None:
    """Raise InvalidInput when the file system takes no raw image of ``size`` MiB."""
    directory = next(parent for parent in Path(path).parents if parent.is_dir())
    with suppress(OSError):  # not every file system has files without a name
        descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.truncate(descriptor, size * MIB)
        except OSError as error:
            problem = f"disk {path}: size {size} MiB: {error.strerror}"
            raise InvalidInput(problem, fix="Decrease size, set format to qcow2, or use another file system.") from None
        finally:
            os.close(descriptor)


def create_image(
    path: str, image_format: str, size: int | None, backing: str | None = None, backing_format: str | None = None
) -> None:
    """Create an image of ``size`` MiB, or over a backing image. It appears only when it is complete."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with writing.scratch_directory(target) as directory:
        scratch = directory / "image"
        if image_format == "raw":
            with scratch.open("xb") as file:
                file.truncate((size or 0) * MIB)
        else:
            # -u: qemu-img does not open the backing image, in which it would follow what a header names.
            base = ["-u", "-b", backing, "-F", backing_format or "raw"] if backing else []
            length = size * MIB if size else _virtual_size(backing or "", backing_format or "raw")
            _qemu_img("create", "-q", "-f", image_format, *base, "--", scratch.name, str(length), directory=directory)
        scratch.chmod(0o600)  # a guest's secrets; libvirt hands the file to QEMU's user
        with suppress(OSError):  # not every file system keeps it
            os.setxattr(scratch, _RECORD, image_format.encode())
        _publish(scratch, target)
        writing.sync_directory(target.parent)


def _virtual_size(path: str, image_format: str) -> int:
    """What the guest sees of an image, in bytes: whole sectors."""
    with _open(path) as descriptor:
        if descriptor is None:
            raise HostError(f"backing image {path} does not exist any more", fix="Run the task again.")
        size = _header(path, descriptor).size if image_format == "qcow2" else os.lseek(descriptor, 0, os.SEEK_END)
        return -(-size // 512) * 512


def _publish(scratch: Path, target: Path) -> None:
    """Give the image its name, which never replaces a file: another run may have been faster."""
    with scratch.open("rb") as image:
        os.fsync(image.fileno())
    try:
        os.link(scratch, target)
    except FileExistsError:
        raise HostError(
            f"disk {target} was created by another tool while this task was running", fix="Run the task again."
        ) from None
    except OSError:  # no hard links on this file system
        scratch.replace(target)


def grow_image(path: str, image_format: str, size: int) -> None:
    """Grow an image to ``size`` MiB; it is never shrunk."""
    if image_format != "raw":
        _qemu_img("resize", "-q", "-f", image_format, "--", path, f"{size}M")
        return
    with Path(path).open("r+b") as file:
        if os.fstat(file.fileno()).st_size > size * MIB:
            raise HostError(f"disk {path} is larger than {size} MiB, and it is never shrunk", fix="Correct size.")
        file.truncate(size * MIB)


def remove_image(path: str) -> None:
    """Delete an image file; a block device is never deleted."""
    if Path(path).is_file():
        Path(path).unlink()


def _qemu_img(*arguments: str, directory: Path | None = None) -> None:
    if shutil.which("qemu-img") is None:
        raise HostError("qemu-img is not installed", fix="Run the role keystone.virtiofs.host on the host.")
    drop = _DROP_PRIVILEGES if os.geteuid() == 0 else []
    done = _commands.run([*_LIMITS, *drop, "qemu-img", *arguments], timeout=60, directory=directory)
    if done.status:
        raise HostError(f"qemu-img {' '.join(arguments)} failed: {done.message}")
