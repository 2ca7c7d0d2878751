# SPDX-License-Identifier: GPL-3.0-or-later
"""The header of a qcow2 image: its size, and the other files that QEMU would open because of it.

Read here instead of by qemu-img, because the bytes may be a guest's: qemu-img opens what a header names, and a header
that names a FIFO makes it wait. Reference: docs/interop/qcow2.txt of QEMU.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Callable

from ..._errors import InvalidInput

MAGIC = b"QFI\xfb"
HEADER_BYTES = 104
_EXTERNAL_DATA_FILE = 1 << 2  # of the incompatible features
_BACKING_FORMAT = 0xE2792ACA  # type of the header extension
_LONGEST_BACKING = 1023
_MOST_EXTENSIONS = 64
_MOST_CLUSTER_BITS = 21
_PLAIN_FORMATS = {"qcow2": "qcow2", "raw": "raw", "file": "raw"}


@dataclass(frozen=True)
class Header:
    """``size`` is what the guest sees, in bytes. ``backing_format`` is empty where the header does not say it."""

    size: int
    backing: str | None = None
    backing_format: str = ""
    data_file: bool = False


def parse(read: Callable[[int, int], bytes]) -> Header:
    """The header; ``read(offset, count)`` returns bytes of the image. Raises InvalidInput for what is not qcow2."""
    head = read(0, HEADER_BYTES)
    if not head.startswith(MAGIC) or len(head) < 72:
        raise InvalidInput("it is not a qcow2 image", fix="Correct format.")
    version, offset, length = struct.unpack(">IQI", head[4:20])
    if version not in (2, 3) or (version == 3 and len(head) < HEADER_BYTES):
        raise InvalidInput(f"it is a qcow2 image of the unknown version {version}", fix="Use another image.")
    features, header_length = (_number(head, 72, 8), _number(head, 100, 4)) if version == 3 else (0, 72)
    end = 1 << min(_number(head, 20, 4), _MOST_CLUSTER_BITS)
    backing = _backing(read, offset, length, end) if offset else None
    return Header(
        size=_number(head, 24, 8),
        backing=backing,
        backing_format=_backing_format(read, header_length, end) if backing else "",
        data_file=bool(features & _EXTERNAL_DATA_FILE),
    )


def has_protocol(name: str) -> bool:
    """Whether QEMU takes the name of a backing file for something else than a path, such as nbd:... or json:{...}."""
    return ":" in name.partition("/")[0]


def _backing(read: Callable[[int, int], bytes], offset: int, length: int, end: int) -> str | None:
    """The name of the backing file, which QEMU wants in the first cluster, as the whole header."""
    name = read(offset, length) if length <= _LONGEST_BACKING and offset + length <= end else b""
    if len(name) < length or b"\0" in name or offset > end:
        raise InvalidInput("the header of the qcow2 image is damaged", fix="Use another image.")
    return name.decode(errors="surrogateescape") or None


def _number(head: bytes, offset: int, count: int) -> int:
    return int.from_bytes(head[offset : offset + count], "big")


def _backing_format(read: Callable[[int, int], bytes], offset: int, end: int) -> str:
    """What a header extension says; empty for a format that this collection does not use."""
    for _extension in range(_MOST_EXTENSIONS):
        if offset > end:
            break
        head = read(offset, 8)
        if len(head) < 8:
            break
        kind, length = struct.unpack(">II", head)
        if kind == _BACKING_FORMAT:
            return _PLAIN_FORMATS.get(read(offset + 8, min(length, 16)).decode(errors="replace"), "")
        if kind == 0:
            break
        offset += 8 + (length + 7) // 8 * 8
    return ""
