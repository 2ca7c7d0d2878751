# SPDX-License-Identifier: GPL-3.0-or-later
"""Which values an option may have: each check returns what is wrong with a value, or None."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable, Optional

from .state_paths import bound_source

Check = Callable[[Any], Optional[str]]

# QEMU copies the tag into a 36 byte field (struct virtio_fs_config) and refuses longer ones when the device is created.
TAG_BYTES = 36
# libvirt names files after the domain (NAME-fs0-virtiofsd.log).
NAME_BYTES = 200
# COMMAND_LINE_SIZE of Linux, without the byte that ends a string; the same on x86, Arm and RISC-V.
CMDLINE_BYTES = 2047
# Linux: NAME_MAX, and PATH_MAX without the byte that ends a string.
FILE_NAME_BYTES = 255
PATH_BYTES = 4095


# Not allowed in XML: lone surrogates, which stand for bytes that are not UTF-8, and two code points that are not
# characters.
_NOT_XML = re.compile("[\ud800-\udfff\ufffe\uffff]")
_CONTROL = re.compile("[\x00-\x1f\x7f]")


def check_characters(text: str) -> str | None:
    """XML has no place for control characters, and none for what is not Unicode."""
    if _NOT_XML.search(text):
        return f"{text[:100]!a} is not valid Unicode"
    return f"{text[:100]!r} contains a control character" if _CONTROL.search(text) else None


# What libvirt takes beyond these runs commands (command, netcat) or reads other places. The roles have this, too.
URI_PATTERN = (
    r"test:///[\w./-]+|(qemu(\+unix)?:///|qemu(\+(ssh|tls))?://([\w.-]+@)?(\w[\w.-]*|\[[0-9A-Fa-f:]+\])(:[0-9]+)?/)"
    r"(system|session)([?&]((socket|keyfile)=/[\w./-]+|no_verify=1))*"
)
_URI = re.compile(URI_PATTERN, re.ASCII)


def check_uri(uri: str) -> str | None:
    """A connection of libvirt that only connects: some parameters of a URI are commands that libvirt runs."""
    if _URI.fullmatch(uri):
        return None
    return (
        f"{uri[:200]!r} is not qemu:///system, qemu:///session or a remote form of these with no other parameters than"
        " socket, keyfile and no_verify=1"
    )


def check_document(text: str) -> str | None:
    """An XML document; what is wrong in it is found when it is parsed."""
    return None if text.strip() else "the document is empty"


def check_known_name(name: str) -> str | None:
    """A name that libvirt may have given a domain, a pool or a volume: it becomes a file name and XML text."""
    problem = check_characters(name.replace("\t", " "))
    if problem:
        return problem
    if not name:
        return "the name is empty"
    if "/" in name or name in (".", ".."):
        return f"{name!r} is not a file name"
    if len(name.encode()) > FILE_NAME_BYTES:
        return f"the name has {len(name.encode())} bytes, a file name has at most {FILE_NAME_BYTES}"
    return None


def check_new_name(name: str) -> str | None:
    """The name of a new domain, which may become a word on a command line, too: refuse what would be misread there."""
    problem = check_known_name(name) or check_characters(name)
    if problem:
        return problem
    if len(name.encode()) > NAME_BYTES:
        return (
            f"the name has {len(name.encode())} bytes; the file names that libvirt derives allow at most {NAME_BYTES}"
        )
    forbidden = sorted(set("<>&\"'") & set(name))
    if forbidden:
        return f"the name contains characters that are not allowed: {' '.join(forbidden)}"
    if name[0] in "-. " or name.endswith(" "):
        return "the name starts with a dash, a dot or a space, or ends with a space"
    return None


def check_tag(tag: str) -> str | None:
    """The rules of QEMU and of mount(8) for a mount tag."""
    problem = check_characters(tag)
    if problem:
        return problem
    if not tag:
        return "the tag is empty"
    size = len(tag.encode())
    if size > TAG_BYTES:
        return f"the tag has {size} bytes, QEMU takes at most {TAG_BYTES}"
    return None


def check_absolute(path: str) -> str | None:
    """A path in the domain's XML is used by daemons with another working directory."""
    problem = check_characters(path)
    if problem:
        return problem
    if not path.startswith("/"):
        return f"{path[:100]!r} is not an absolute path"
    if len(path.encode()) > PATH_BYTES:
        return f"the path has {len(path.encode())} bytes, Linux allows at most {PATH_BYTES}"
    if any(len(part.encode()) > FILE_NAME_BYTES for part in path.split("/")):
        return f"a part of the path has more than {FILE_NAME_BYTES} bytes, the most that a file name has"
    return None


def check_file(path: str) -> str | None:
    """A path that can be a file's."""
    return check_absolute(path) or (f"{path} is a directory" if plain_path(path) == "/" else None)


def check_mount_point(path: str) -> str | None:
    """A directory of a guest that a unit of systemd can name as it is written."""
    problem = check_absolute(path)
    if problem:
        return problem
    if plain_path(path) == "/" or ".." in path.split("/"):
        return f"{path!r} is not a directory below / without .."
    return f"{path!r} contains a backslash, or ends with a blank" if "\\" in path or path != path.rstrip() else None


_PLAIN_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]*")


def check_mounted_tag(tag: str) -> str | None:
    """A tag that systemd and mount(8) take for nothing else."""
    if _PLAIN_TAG.fullmatch(tag):
        return None
    return f"{tag!r} cannot be mounted with mount_point: only letters, digits and . _ : @ + - may be in the tag"


def check_source(path: str) -> str | None:
    """A source must be read back from the XML as it was written there."""
    if bound_source(path) is not None:
        return f"{path!r} is named like a bind mount of this collection, and would be read back as another directory"
    return check_absolute(path)


def plain_uuid(uuid: str | None) -> str:
    """libvirt ignores the case, dashes and blanks of a uuid."""
    return re.sub(r"[\s-]", "", uuid or "").lower()


def plain_path(path: str) -> str:
    """The same path without what only lengthens it: empty parts, dots that stay where they are, a slash at the end."""
    if not path.startswith("/"):
        return path
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


CPU_MODES = ("host-passthrough", "host-model", "maximum")


def check_cpu(name: str) -> str | None:
    """The name of a CPU model, or a mode. Which models exist only libvirt knows."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        return None
    return f"{name[:100]!r} is neither a mode ({', '.join(CPU_MODES)}) nor a CPU model"


def check_cmdline(text: str) -> str | None:
    """Linux drops what exceeds its buffer (COMMAND_LINE_SIZE) without a word; init= may be in that."""
    if not text:
        return "the command line is empty"
    size = len(text.encode(errors="replace"))
    if size > CMDLINE_BYTES:
        return f"the command line has {size} bytes, Linux reads at most {CMDLINE_BYTES}"
    return check_characters(text)


def check_iso(path: str) -> str | None:
    """An empty path ejects the medium."""
    return check_absolute(path) if path else None


def check_storage(key: str) -> str | None:
    """A disk: its path, or pool/volume."""
    pool, _slash, volume = key.partition("/")
    return (check_known_name(pool) or check_known_name(volume)) if pool else check_absolute(key)


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


def check_prefix(prefix: str) -> str | None:
    """The first three bytes of IPv4 addresses."""
    return check_ipv4(f"{prefix}.1") and f"{prefix!r} must be three numbers, such as 192.168.100"


# Linux: the highest user or group id; 2**32 - 1 stands for none.
MAX_ID = 2**32 - 2
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
