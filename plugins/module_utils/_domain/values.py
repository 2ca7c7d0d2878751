# SPDX-License-Identifier: GPL-3.0-or-later
"""Which values an option may have: each check returns what is wrong with a value, or None."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable, Optional
from urllib.parse import quote

from .state_paths import bound_source

Check = Callable[[Any], Optional[str]]

# QEMU copies the tag into a 36 byte field (struct virtio_fs_config) and refuses longer ones when the device is created.
TAG_BYTES = 36
# libvirt names files after the domain (NAME-fs0-virtiofsd.log); Linux limits a file name to 255 bytes.
NAME_BYTES = 200
FILE_NAME_BYTES = 255


def _has_control_characters(text: str) -> bool:
    return any(ord(character) < 32 or ord(character) == 127 for character in text)


def check_name(name: str) -> str | None:
    """Domain names become file names, XML text and words on command lines: refuse what any of these would misread."""
    if not name:
        return "the name is empty"
    if len(name.encode()) > NAME_BYTES:
        return (
            f"the name has {len(name.encode())} bytes; the file names that libvirt derives allow at most {NAME_BYTES}"
        )
    if _has_control_characters(name):
        return "the name contains a control character"
    forbidden = sorted(set("/<>&\"'") & set(name))
    if forbidden:
        return f"the name contains characters that are not allowed: {' '.join(forbidden)}"
    if name[0] in "-. " or name.endswith(" "):
        return "the name starts with a dash, a dot or a space, or ends with a space"
    return None


def check_tag(tag: str) -> str | None:
    """The rules of QEMU and of mount(8) for a mount tag."""
    if not tag:
        return "the tag is empty"
    size = len(tag.encode())
    if size > TAG_BYTES:
        return f"the tag has {size} bytes, QEMU takes at most {TAG_BYTES}"
    if _has_control_characters(tag):
        return "the tag contains a control character"
    return None


def check_absolute(path: str) -> str | None:
    """A path in the domain's XML is used by daemons with another working directory."""
    if not path.startswith("/"):
        return f"{path!r} is not an absolute path"
    if _has_control_characters(path):
        return f"{path!r} contains a control character"
    return None


def check_source(path: str) -> str | None:
    """Its percent-encoded form names the read-only bind mount."""
    if len(quote(path, safe="")) > FILE_NAME_BYTES:
        return f"{path!r} is too long: encoded as a file name it has more than {FILE_NAME_BYTES} bytes"
    if bound_source(path) is not None:
        return f"{path!r} is named like a bind mount of this collection, and would be read back as another directory"
    return check_absolute(path)


def check_text(text: str) -> str | None:
    """XML has no place for control characters."""
    return f"{text!r} contains a control character" if _has_control_characters(text) else None


def check_iso(path: str) -> str | None:
    """An empty path ejects the medium."""
    return check_absolute(path) if path else None


def check_mac(mac: str) -> str | None:
    """A unicast MAC address in the notation that libvirt reports."""
    if not re.fullmatch(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", mac, re.IGNORECASE):
        return f"{mac!r} is not a MAC address like 52:54:00:12:34:56"
    if int(mac[:2], 16) & 1:
        return f"{mac!r} is a multicast address"
    return None


def check_ipv4(address: str) -> str | None:
    """Forwards are words of QEMU's command line: nothing but an address may get there."""
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        return f"{address!r} is not an IPv4 address"
    return None


_ID_LIMIT = 2**32
_TRANSLATION = re.compile(r"(map|guest|host|squash-guest|squash-host|forbid-guest):(\d{1,10}):(\d{1,10}):(\d{1,10})")


def check_translation(text: str) -> str | None:
    """A mapping of ids as virtiofsd takes it."""
    match = _TRANSLATION.fullmatch(text)
    if not match:
        return f"{text!r} is not a mapping like squash-guest:0:1000:4294967295"
    source, target, count = (int(number) for number in match.groups()[1:])
    if count < 1 or source + count > _ID_LIMIT or target >= _ID_LIMIT:
        return f"{text!r} exceeds the ids that Linux has, 0 to {_ID_LIMIT - 1}"
    return None


def between(low: int, high: int, unit: str = "") -> Check:
    def check(value: int) -> str | None:
        if low <= value <= high:
            return None
        return f"{value} is not between {low} and {high}{' ' + unit if unit else ''}"

    return check


def check_queue_size(size: int) -> str | None:
    """QEMU: vhost-user-fs queues are a power of two, at most 1024 (VIRTQUEUE_MAX_SIZE)."""
    if size < 1 or size > 1024 or size & (size - 1):
        return f"{size} is not a power of two between 1 and 1024"
    return None
