# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk images and block devices of domains; sizes are in MiB."""

from __future__ import annotations

import json
import os
from pathlib import Path

from ... import _commands
from ..._domain.model import DiskImage
from ..._errors import InvalidInput
from .sources import real_path


def read_image(path: str) -> DiskImage | None:
    """The image at a path, None when there is none; raises InvalidInput for what cannot be a disk."""
    file = Path(path)
    if file.is_dir():
        raise InvalidInput(f"disk {path} is a directory", fix="Give the path of an image file.")
    if file.is_block_device():
        return _block_device(path)
    if not file.exists():
        return None
    information = json.loads(_commands.check(["qemu-img", "info", "--force-share", "--output=json", path]))
    backing = information.get("full-backing-filename")
    return DiskImage(int(information["virtual-size"]) // 2**20, information["format"], backing)


def backing_chain(path: str) -> list[str]:
    """The images that an image is based on, real paths; none for what is no image file."""
    if not Path(path).is_file():
        return []
    command = ["qemu-img", "info", "--force-share", "--backing-chain", "--output=json", path]
    return [real_path(image["filename"]) for image in json.loads(_commands.check(command))[1:]]


def _block_device(path: str) -> DiskImage:
    """A block device as a raw image; the kernel refuses O_EXCL while it is mounted or part of something else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_EXCL)
    except OSError as error:
        raise InvalidInput(
            f"disk {path} is a block device in use: {error.strerror}", fix="Unmount it, or give another disk."
        ) from None
    with os.fdopen(descriptor, "rb") as device:
        return DiskImage(device.seek(0, os.SEEK_END) // 2**20, "raw", is_block_device=True)


def create_image(path: str, image_format: str, size: int | None, backing: str | None) -> None:
    """Create an image of ``size`` MiB, or over a backing image; it appears only when it is complete."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["qemu-img", "create", "-q", "-f", image_format]
    if backing:
        original = read_image(backing)
        if original is None:
            raise InvalidInput(f"backing image {backing} of disk {path} does not exist", fix="Create it first.")
        command += ["-b", backing, "-F", original.format]
    scratch = target.with_name(f".{target.name}.new")
    try:
        _commands.check([*command, str(scratch), *([f"{size}M"] if size else [])])
        scratch.chmod(0o600)  # a guest's secrets; libvirt hands the file to QEMU's user
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


def grow_image(path: str, image_format: str, size: int) -> None:
    """Grow an image to ``size`` MiB."""
    _commands.check(["qemu-img", "resize", "-q", "-f", image_format, path, f"{size}M"])


def remove_image(path: str) -> None:
    """Delete an image file; a block device is never deleted."""
    if Path(path).is_file():
        Path(path).unlink()
