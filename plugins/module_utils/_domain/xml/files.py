# SPDX-License-Identifier: GPL-3.0-or-later
"""Every file of the host that a domain's document names.

Whatever looks like an absolute path is one, so that no device and no element needs to be known here to be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..state_paths import bound_source
from ..values import plain_path
from .places import Element, get

# These hold texts for the guest or for readers, also where they look like a path.
_NO_FILES = {"metadata", "title", "description", "cmdline", "target", "seclabel", "alias", "rng"}
_PORTS = {"serial", "console", "parallel", "channel"}
_KINDS = {"cdrom": "iso", "lun": "disk", "floppy": "disk"}


class File(NamedTuple):
    """``kind`` is the option, or the element, that names the file: a path, or POOL/VOLUME.

    ``is_written``: the guest writes to the file, or to what is in the directory. ``is_shared``: several domains may
    have the disk.
    """

    kind: str
    path: str
    share: str | None = None
    is_written: bool = False
    is_shared: bool = False


def read_files(root: Element) -> list[File]:
    """Each file once for each purpose."""
    found: dict[File, None] = {}
    for element in root:
        for device in element if element.tag == "devices" else (element,):
            found.update(dict.fromkeys(_files_of(device)))
    return list(found)


def _files_of(device: Element) -> Iterator[File]:
    read = {"filesystem": _of_filesystem, "disk": _of_disk}.get(device.tag)
    for element in _elements(device):
        values = [*element.attrib.items(), (None, element.text)]
        for name, value in values:
            path = (value or "").strip() if name is None else value
            if path.startswith("/"):
                path = plain_path(path)
                yield read(device, element, path) if read else _of_other(device, element, name, path)
    if device.tag == "disk" and get(device, "source/@volume"):
        place = f"{get(device, 'source/@pool')}/{get(device, 'source/@volume')}"
        yield _of_disk(device, device.find("source"), place)


def _elements(element: Element) -> Iterator[Element]:
    if not isinstance(element.tag, str) or element.tag in _NO_FILES:  # a comment has no tag
        return
    yield element
    for child in element:
        yield from _elements(child)


def _of_filesystem(device: Element, element: Element, path: str) -> File:
    """Of any driver: a guest that has 9p replaces files as one that has virtiofs does."""
    tag = get(device, "target/@dir") or ""
    if element.tag != "source":
        return File(element.tag, path, tag)
    if path == plain_path(get(device, "source/@socket") or ""):
        return File("socket", path, tag)
    original = bound_source(path)
    return File("source", original or path, tag, is_written=not original and device.find("readonly") is None)


def _of_disk(device: Element, element: Element, path: str) -> File:
    kind = _KINDS.get(device.get("device", "disk"), "disk")
    if "backingStore" in (parent.tag for parent in element.iterancestors()):
        return File("backing", path)
    is_read_only = kind == "iso" or device.find("readonly") is not None
    is_shared = is_read_only or device.find("shareable") is not None
    return File(kind, path, is_written=not is_read_only, is_shared=is_shared)


def _of_other(device: Element, element: Element, name: str | None, path: str) -> File:
    if device.tag in _PORTS and (element.tag == "log" or device.get("type") == "file"):
        return File("serial_log", path, is_written=True)
    if name != "template" and "nvram" in (element.tag, element.getparent().tag):
        return File("nvram", path, is_written=True)
    return File(element.tag, path)
