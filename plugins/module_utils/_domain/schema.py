# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of a domain and of its parts, named once.

One row per option: its name, where it lives in libvirt's XML, how the value is written there, and which values are
allowed. The argument specs of the modules, the rendering, the parsing and the comparison of XML all derive from these
rows, so that they cannot drift apart. Reference for places and versions: https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Callable, Optional
from urllib.parse import quote

Check = Callable[[Any], Optional[str]]
"""Returns what is wrong with a value, or None."""

STATES = ("present", "running", "stopped", "absent")
SHARE_STATES = ("present", "absent")
RESTART_POLICIES = ("never", "if_required")
WAITS = ("running", "address", "agent", "ssh")

# QEMU copies the tag into a 36 byte field (struct virtio_fs_config) and refuses longer ones when the device is created.
TAG_BYTES = 36
# libvirt names files after the domain (NAME-fs0-virtiofsd.log); Linux limits a file name to 255 bytes.
NAME_BYTES = 200
FILE_NAME_BYTES = 255
# The smallest guest that boots a Linux kernel; below it the value is a unit mistake (MiB, not GiB).
MEMORY_MIN = 64
MEMORY_MAX = 64 * 1024 * 1024
VCPUS_MAX = 4096
STORE = "/nix/store"


class Codec(Enum):
    """How a value is written in XML; the functions are in domain_xml."""

    TEXT = "text"
    INT = "int"
    ON_OFF = "on/off"
    FLAG = "an element that is there or not"
    MIB = "an amount of memory"
    CPU = "a CPU model or mode"
    FIRMWARE = "firmware autoselection"
    SECURE_BOOT = "firmware features"
    TPM = "a TPM device"
    ISO = "the medium of the CD-ROM drive"
    SERIAL_LOG = "the log of the serial port"
    GRAPHICS = "a graphics device"
    GUEST_AGENT = "the channel of the guest agent"
    DISK_PATH = "an image file or block device"
    SOURCE = "a directory, or a read-only bind mount of it"
    READ_ONLY = "the readonly element, or a bind mount as source"
    CACHE = "the cache element, or a flag of the virtiofsd wrapper"
    WRAPPER = "a flag of the virtiofsd wrapper"
    IDMAP = "uid and gid maps"


@dataclass(frozen=True)
class Field:
    """One option.

    ``place`` is the path below the owning element (``binary/cache/@mode``); an empty place means that the option has
    no place of its own in the XML. ``initial`` is what a new element gets when the option is not given; an option that
    is not given is never compared, so libvirt's own choice stands. ``feature`` names the row of features.FEATURES that
    the value needs, ``needs_feature`` the values that need it (all of them when empty).
    """

    option: str
    place: str = ""
    codec: Codec = Codec.TEXT
    type: str = "str"
    choices: tuple[str, ...] = ()
    required: bool = False
    default: Any = None
    initial: Any = None
    fields: tuple[Field, ...] = ()
    elements: str = ""
    feature: str = ""
    needs_feature: tuple[Any, ...] = ()
    check: Check | None = None

    def argument(self) -> dict[str, Any]:
        """The option as an entry of an argument_spec."""
        spec: dict[str, Any] = {"type": self.type}
        if self.choices:
            spec["choices"] = list(self.choices)
        if self.required:
            spec["required"] = True
        if self.default is not None:
            spec["default"] = self.default
        if self.elements:
            spec["elements"] = self.elements
        if self.fields:
            spec["options"] = argument_spec(self.fields)
        return spec


def argument_spec(fields: Iterable[Field]) -> dict[str, Any]:
    """An Ansible argument_spec for the given options."""
    return {field.option: field.argument() for field in fields}


def _has_control_characters(text: str) -> bool:
    return any(ord(character) < 32 or ord(character) == 127 for character in text)


def check_name(name: str) -> str | None:
    """Domain names become file names, XML text and words on command lines: refuse what any of these would misread."""
    if not name:
        return "the name is empty"
    if len(name.encode()) > NAME_BYTES:
        return (
            f"the name has {len(name.encode())} bytes, at most {NAME_BYTES} fit in the file names libvirt makes of it"
        )
    if _has_control_characters(name):
        return "the name contains a control character"
    forbidden = sorted(set("/<>&\"'") & set(name))
    if forbidden:
        return f"the name contains {' '.join(forbidden)}"
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


def _between(low: int, high: int, unit: str = "") -> Check:
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


_IDMAP_RANGE = (
    Field("start", "@start", Codec.INT, "int", required=True),
    Field("target", "@target", Codec.INT, "int", required=True),
    Field("count", "@count", Codec.INT, "int", required=True),
)

SHARE: tuple[Field, ...] = (
    Field("tag", "target/@dir", required=True, check=check_tag, feature="share"),
    Field("source", "source/@dir", Codec.SOURCE, "path", check=check_source),
    Field("socket", "source/@socket", type="path", check=check_absolute, feature="socket"),
    Field("read_only", "readonly", Codec.READ_ONLY, "bool"),
    # 1024 is what libvirt's own documentation uses; virtiofs needs one request slot per page batch in flight.
    Field("queue_size", "driver/@queue", Codec.INT, "int", initial=1024, check=check_queue_size),
    Field(
        "cache",
        "binary/cache/@mode",
        Codec.CACHE,
        choices=("none", "auto", "always", "metadata"),
        feature="cache_metadata",
        needs_feature=("metadata",),
    ),
    Field("xattr", "binary/@xattr", Codec.ON_OFF, "bool", feature="xattr"),
    Field("sandbox", "binary/sandbox/@mode", choices=("namespace", "chroot"), feature="sandbox"),
    Field(
        "thread_pool_size",
        "binary/thread_pool/@size",
        Codec.INT,
        "int",
        feature="thread_pool_size",
        check=_between(0, 1024),
    ),
    Field(
        "open_files",
        "binary/openfiles/@max",
        Codec.INT,
        "int",
        feature="open_files",
        check=_between(64, 2**30),
    ),
    Field("posix_lock", "binary/lock/@posix", Codec.ON_OFF, "bool", feature="lock"),
    Field("flock", "binary/lock/@flock", Codec.ON_OFF, "bool", feature="lock"),
    Field(
        "inode_file_handles",
        "inode-file-handles",
        Codec.WRAPPER,
        choices=("never", "prefer", "mandatory"),
        feature="inode_file_handles",
    ),
    Field(
        "idmap",
        "idmap",
        Codec.IDMAP,
        "dict",
        feature="idmap",
        fields=(
            Field("uid", "uid", type="list", elements="dict", fields=_IDMAP_RANGE),
            Field("gid", "gid", type="list", elements="dict", fields=_IDMAP_RANGE),
        ),
    ),
)

DISK: tuple[Field, ...] = (
    Field("path", "source/@file", Codec.DISK_PATH, "path", check=check_absolute),
    Field("pool", "source/@pool", check=check_name),
    Field("volume", "source/@volume", check=check_name),
    # The same bound as memory: a size is in MiB, larger than a PiB is a unit mistake.
    Field("size", type="int", check=_between(1, 2**30, "MiB")),
    Field("format", "driver/@type", choices=("qcow2", "raw"), initial="qcow2"),
    Field("backing", type="path", check=check_absolute),
    Field("bus", "target/@bus", choices=("virtio", "sata"), initial="virtio"),
)

FORWARD: tuple[Field, ...] = (
    Field("address", default="127.0.0.1", check=check_ipv4),
    Field("host_port", type="int", required=True, check=_between(1, 65535)),
    Field("guest_port", type="int", required=True, check=_between(1, 65535)),
    Field("next_free", type="bool", default=False),
)

INTERFACE: tuple[Field, ...] = (
    Field("type", "@type", choices=("network", "bridge", "user"), default="network"),
    Field("source", "source/@network", check=check_text),
    Field("mac", "mac/@address", check=check_mac),
    Field("model", "model/@type", choices=("virtio", "e1000e")),
    Field("forwards", type="list", elements="dict", fields=FORWARD),
)

DOMAIN: tuple[Field, ...] = (
    Field("memory", "memory", Codec.MIB, "int", initial=2048, check=_between(MEMORY_MIN, MEMORY_MAX, "MiB")),
    Field("vcpus", "vcpu", Codec.INT, "int", initial=2, check=_between(1, VCPUS_MAX)),
    Field("virt_type", "@type", choices=("auto", "kvm", "qemu")),
    Field("cpu", "cpu", Codec.CPU, check=check_text),
    Field("firmware", "os", Codec.FIRMWARE, choices=("bios", "uefi")),
    Field("secure_boot", "os/firmware", Codec.SECURE_BOOT, choices=("off", "setup", "enrolled")),
    Field("tpm", "devices/tpm", Codec.TPM, "bool"),
    Field("iso", "devices/disk", Codec.ISO, check=check_iso),
    Field("kernel", "os/kernel", type="path", check=check_absolute),
    Field("initrd", "os/initrd", type="path", check=check_absolute),
    Field("cmdline", "os/cmdline", check=check_text),
    Field("serial_log", "devices/serial", Codec.SERIAL_LOG, "path", check=check_absolute),
    Field("graphics", "devices/graphics", Codec.GRAPHICS, choices=("none", "vnc", "spice")),
    Field("guest_agent", "devices/channel", Codec.GUEST_AGENT, "bool", initial=True),
)

# Parts of a domain that are lists, and options that are not part of its XML.
PARTS: tuple[Field, ...] = (
    Field("shares", type="list", elements="dict", fields=SHARE),
    Field("disks", type="list", elements="dict", fields=DISK),
    Field("interfaces", type="list", elements="dict", fields=INTERFACE),
    # A default q35 machine has one spare port; 4 leaves room for a few shares added later.
    Field("hotplug_ports", type="int", initial=4, check=_between(0, 32)),
)

STOPPING: tuple[Field, ...] = (
    Field("shutdown_timeout", type="int", default=60, check=_between(0, 86400, "seconds")),
    Field("force_stop", type="bool", default=False),
)

BEHAVIOUR: tuple[Field, ...] = (
    Field("state", choices=STATES, default="present"),
    Field("autostart", type="bool"),
    Field("restart", choices=RESTART_POLICIES, default="never"),
    *STOPPING,
    Field("wait_for", choices=WAITS),
    Field("wait_timeout", type="int", default=300, check=_between(1, 86400, "seconds")),
    Field("remove_storage", type="list", elements="str"),
    Field("remove_nvram", type="bool", default=False),
    Field("remove_tpm_state", type="bool", default=False),
    Field("xml"),
)

NAME = Field("name", required=True, check=check_name)
URI = Field("uri", default="qemu:///system")
OF_DOMAIN = (NAME, *DOMAIN, *PARTS, *BEHAVIOUR)

OF_SHARE = (
    Field("domain", required=True, check=check_name),
    *SHARE,
    Field("state", choices=SHARE_STATES, default="present"),
    Field("restart", choices=RESTART_POLICIES, default="never"),
    *STOPPING,
    Field("detach_timeout", type="int", default=30, check=_between(1, 3600, "seconds")),
)

OF_DOMAINS = (
    Field("domains", type="list", elements="dict", required=True),
    Field("purge", type="bool", default=False),
)

OF_DOMAIN_INFO = (
    Field("names", type="list", elements="str"),
    Field("host_keys", type="bool", default=False),
)


def problems(fields: Iterable[Field], values: Mapping[str, Any], within: str = "") -> list[str]:
    """What is wrong with single values, each as ``option: problem``; rules that span options are the planner's."""
    found = []
    for field in fields:
        value = values.get(field.option)
        if value is None:
            continue
        label = f"{within}{field.option}"
        problem = field.check(value) if field.check else None
        if problem:
            found.append(f"{label}: {problem}")
        if field.elements == "dict" and field.fields:
            for index, item in enumerate(value):
                found += problems(field.fields, item, f"{label}[{index}].")
        elif field.fields:
            found += problems(field.fields, value, f"{label}.")
    return found


def normalised(share: Mapping[str, Any], real_path: Callable[[str], str] = posixpath.normpath) -> dict[str, Any]:
    """The share with what its options leave open decided.

    The Nix store, by whatever path it is reached, and what lies in or around it is read-only unless the task says
    otherwise.
    """
    share = dict(share)
    if share.get("idmap"):
        share["idmap"] = {kind: share["idmap"].get(kind) or [] for kind in ("uid", "gid")}
    if share.get("read_only") is None and share.get("source") and _touches_store(real_path(share["source"])):
        share["read_only"] = True
    return share


def is_below(path: str, directory: str) -> bool:
    """A path is a directory, or lies in it."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _touches_store(path: str) -> bool:
    return is_below(path, STORE) or is_below(STORE, path)
