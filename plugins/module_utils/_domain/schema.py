# SPDX-License-Identifier: GPL-3.0-or-later
"""Every option of a domain and of its parts, and of a network, named once.

One row per option: its name, where it lives in libvirt's XML, how the value is written there, and which values are
allowed. The argument specs of the modules, the rendering, the parsing and the comparison of XML all derive from these
rows, so that they cannot drift apart. Reference for places and versions: https://libvirt.org/formatdomain.html
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Callable

from .values import (
    MAX_ID,
    Check,
    between,
    check_absolute,
    check_characters,
    check_cmdline,
    check_cpu,
    check_document,
    check_file,
    check_ipv4,
    check_iso,
    check_known_name,
    check_mac,
    check_mount_point,
    check_prefix,
    check_queue_size,
    check_source,
    check_storage,
    check_tag,
    check_translation,
)
from .xml import codecs
from .xml.places import Element

STATES = ("present", "running", "stopped", "absent")
SHARE_STATES = ("present", "absent")
RESTART_POLICIES = ("never", "if_required")
WAITS = ("running", "address", "agent", "ssh")

# The smallest guest that boots a Linux kernel; below it the value is a unit mistake (MiB, not GiB).
MEMORY_MIN = 64
MEMORY_MAX = 64 * 1024 * 1024
VCPUS_MAX = 4096
STORE = "/nix/store"


@dataclass(frozen=True)
class Field:
    """One option.

    ``place`` is the path below the owning element (``binary/cache/@mode``); an empty place means that the option has
    no place of its own in the XML. ``initial`` is what a new element gets when the option is not given; an option that
    is not given is never compared, so libvirt's own choice stands. ``feature`` names the row of features.FEATURES that
    any value needs, ``value_features`` the rows that single values need.
    """

    option: str
    place: str = ""
    codec: codecs.Codec = codecs.TEXT
    type: str = "str"
    choices: tuple[str, ...] = ()
    required: bool = False
    default: Any = None
    initial: Any = None
    fields: tuple[Field, ...] = ()
    elements: str = ""
    feature: str = ""
    value_features: tuple[tuple[str, str], ...] = ()
    check: Check | None = None

    def read(self, element: Element) -> Any:
        """The value in an element's XML, None where the XML says nothing."""
        return self.codec.read(element, self.place)

    def write(self, element: Element, value: Any) -> None:
        if self.codec.write is None:
            raise TypeError(f"{self.option} is written together with other options")
        self.codec.write(element, self.place, value)

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value, None when nothing is."""
        check = self.check or (check_characters if isinstance(value, str) else None)
        return check(value) if check else None

    def needs(self, value: Any) -> str:
        """The feature that a value needs, "" for none."""
        if value is None:
            return ""
        return next((feature for choice, feature in self.value_features if choice == value), self.feature)

    def same(self, one: Any, other: Any) -> bool:
        """Two values of the option mean the same, however they are written."""
        if one is None or other is None:
            return one is other
        return bool(self.codec.meaning(one) == self.codec.meaning(other))

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


def read_fields(fields: Iterable[Field], element: Element) -> dict[str, Any]:
    """The options of an element that have a place in the XML."""
    return {field.option: field.read(element) for field in fields if field.place}


def argument_spec(fields: Iterable[Field]) -> dict[str, Any]:
    """An Ansible argument_spec for the given options."""
    return {field.option: field.argument() for field in fields}


_IDMAP_RANGE = (
    Field("start", "@start", codecs.INT, "int", required=True, check=between(0, MAX_ID)),
    Field("target", "@target", codecs.INT, "int", required=True, check=between(0, MAX_ID)),
    Field("count", "@count", codecs.INT, "int", required=True, check=between(1, MAX_ID)),
)

SHARE: tuple[Field, ...] = (
    Field("tag", "target/@dir", required=True, check=check_tag, feature="share"),
    Field("source", "source/@dir", codecs.SOURCE, "path", check=check_source),
    Field("socket", "source/@socket", codecs.PATH, "path", check=check_absolute, feature="socket"),
    Field("read_only", "readonly", codecs.READ_ONLY, "bool"),
    Field("nosuid", type="bool"),
    # 1024 is what libvirt's own documentation uses; virtiofs needs one request slot per page batch in flight.
    Field("queue_size", "driver/@queue", codecs.INT, "int", initial=1024, check=check_queue_size),
    Field(
        "cache",
        "binary/cache/@mode",
        codecs.CACHE,
        choices=("none", "auto", "always", "metadata", "store"),
        value_features=(("metadata", "cache_metadata"), ("store", "cache_store")),
    ),
    Field("xattr", "binary/@xattr", codecs.ON_OFF, "bool", feature="xattr"),
    Field("sandbox", "binary/sandbox/@mode", choices=("namespace", "chroot"), feature="sandbox"),
    Field(
        "thread_pool_size",
        "binary/thread_pool/@size",
        codecs.INT,
        "int",
        feature="thread_pool_size",
        check=between(0, 1024),
    ),
    Field(
        "open_files",
        "binary/openfiles/@max",
        codecs.INT,
        "int",
        feature="open_files",
        check=between(1024, 2**30),  # virtiofsd itself refuses less than 610
    ),
    Field("posix_lock", "binary/lock/@posix", codecs.ON_OFF, "bool", feature="lock"),
    Field("flock", "binary/lock/@flock", codecs.ON_OFF, "bool", feature="lock"),
    Field(
        "inode_file_handles",
        "inode-file-handles",
        codecs.WRAPPER_VALUE,
        choices=("never", "prefer", "mandatory"),
        feature="inode_file_handles",
    ),
    Field("translate_uid", "translate-uid", codecs.WRAPPER_VALUE, check=check_translation, feature="translate"),
    Field("translate_gid", "translate-gid", codecs.WRAPPER_VALUE, check=check_translation, feature="translate"),
    Field(
        "idmap",
        "idmap",
        codecs.IDMAP,
        "dict",
        feature="idmap",
        fields=(
            Field("uid", "uid", type="list", elements="dict", fields=_IDMAP_RANGE),
            Field("gid", "gid", type="list", elements="dict", fields=_IDMAP_RANGE),
        ),
    ),
)

DISK: tuple[Field, ...] = (
    Field("path", "source/@file", codecs.DISK_PATH, "path", check=check_file),
    Field("pool", "source/@pool", check=check_known_name),
    Field("volume", "source/@volume", check=check_known_name),
    # The same bound as memory: a size is in MiB, larger than a PiB is a unit mistake.
    Field("size", type="int", check=between(1, 2**30, "MiB")),
    Field("format", "driver/@type", choices=("qcow2", "raw"), initial="qcow2"),
    Field("read_only", "readonly", codecs.ELEMENT, "bool"),
    Field("pmem", "source/slices", codecs.PMEM, "bool"),
    Field("backing", type="path", check=check_absolute),
    Field("backing_format", choices=("qcow2", "raw")),
    Field("bus", "target/@bus", choices=("virtio", "sata"), initial="virtio"),
)

FORWARD: tuple[Field, ...] = (
    Field("address", default="127.0.0.1", check=check_ipv4),
    Field("host_port", type="int", required=True, check=between(1, 65535)),
    Field("guest_port", type="int", required=True, check=between(1, 65535)),
    Field("next_free", type="bool", default=False),
)

INTERFACE: tuple[Field, ...] = (
    Field("type", "@type", choices=("network", "bridge", "user"), default="network"),
    Field("source", "source/@network", check=check_known_name),
    Field("mac", "mac/@address", check=check_mac),
    Field("model", "model/@type", choices=("virtio", "e1000e")),
    Field("forwards", type="list", elements="dict", fields=FORWARD),
    Field("restrict", type="bool"),
)

DOMAIN: tuple[Field, ...] = (
    Field("memory", "memory", codecs.MEMORY, "int", initial=2048, check=between(MEMORY_MIN, MEMORY_MAX, "MiB")),
    Field("vcpus", "vcpu", codecs.INT, "int", initial=2, check=between(1, VCPUS_MAX)),
    Field("virt_type", "@type", choices=("auto", "kvm", "qemu")),
    Field("cpu", "cpu", codecs.CPU, check=check_cpu),
    Field("firmware", "os", codecs.FIRMWARE, choices=("bios", "uefi")),
    Field("secure_boot", "os/firmware", codecs.SECURE_BOOT, choices=("off", "setup", "enrolled")),
    Field("tpm", "devices/tpm", codecs.TPM, "bool"),
    Field("vsock", "devices/vsock", codecs.VSOCK, "bool"),
    Field("iso", "devices/disk", codecs.ISO, check=check_iso),
    Field("kernel", "os/kernel", codecs.PATH, "path", check=check_absolute),
    Field("initrd", "os/initrd", codecs.PATH, "path", check=check_absolute),
    Field("cmdline", "os/cmdline", check=check_cmdline),
    Field("serial_log", "devices/serial", codecs.SERIAL_LOG, "path", check=check_absolute),
    Field("graphics", "devices/graphics", codecs.GRAPHICS, choices=("none", "vnc", "spice")),
    Field("guest_agent", "devices/channel", codecs.GUEST_AGENT, "bool", initial=True),
)

# Parts of a domain that are lists, and options that are not part of its XML.
PARTS: tuple[Field, ...] = (
    Field("shares", type="list", elements="dict", fields=SHARE),
    Field("disks", type="list", elements="dict", fields=DISK),
    Field("interfaces", type="list", elements="dict", fields=INTERFACE),
    # A default q35 machine has one spare port; 4 leaves room for a few shares added later.
    Field("hotplug_ports", type="int", initial=4, check=between(0, 32)),
)

# Of every task that names files of the host.
SAFETY: tuple[Field, ...] = (Field("allow_unsafe_paths", type="bool", default=False),)

STOPPING: tuple[Field, ...] = (
    Field("shutdown_timeout", type="int", default=60, check=between(0, 86400, "seconds")),
    Field("force_stop", type="bool", default=False),
)

BEHAVIOUR: tuple[Field, ...] = (
    Field("state", choices=STATES, default="present"),
    Field("autostart", type="bool"),
    Field("restart", choices=RESTART_POLICIES, default="never"),
    *STOPPING,
    *SAFETY,
    Field("wait_for", choices=WAITS),
    Field("wait_timeout", type="int", default=300, check=between(1, 86400, "seconds")),
    Field("remove_storage", type="list", elements="str", check=check_storage),
    Field("remove_nvram", type="bool", default=False),
    Field("remove_tpm_state", type="bool", default=False),
    Field("xml", check=check_document),
)

NAME = Field("name", required=True, check=check_known_name)
URI = Field("uri", default="qemu:///system")
OF_DOMAIN = (NAME, *DOMAIN, *PARTS, *BEHAVIOUR)

OF_SHARE = (
    Field("domain", required=True, check=check_known_name),
    *SHARE,
    Field("state", choices=SHARE_STATES, default="present"),
    Field("restart", choices=RESTART_POLICIES, default="never"),
    *STOPPING,
    *SAFETY,
    Field("replug", type="bool", default=False),
    Field("detach_timeout", type="int", default=30, check=between(1, 3600, "seconds")),
    Field("mount_point", check=check_mount_point),
    Field("mount_timeout", type="int", default=60, check=between(1, 3600, "seconds")),
)

OF_DOMAINS = (
    Field("domains", type="list", elements="dict", required=True),
    Field("purge", type="bool", default=False),
)

OF_DOMAIN_INFO = (
    Field("names", type="list", elements="str"),
    Field("host_keys", type="bool", default=False),
)

OF_NETWORK = (
    NAME,
    Field("state", choices=("present", "absent"), default="present"),
    Field("prefix", check=check_prefix),
    Field("firewall", type="bool", default=True),
    Field("ignore_domains", type="list", elements="str"),
)


def problems(fields: Iterable[Field], values: Mapping[str, Any], within: str = "") -> list[str]:
    """What is wrong with single values, each as ``option: problem``; rules that span options are the planner's."""
    found = []
    for field in fields:
        value = values.get(field.option)
        if value is None:
            continue
        label = f"{within}{field.option}"
        items = (
            [(f"{label}[{index}]", item) for index, item in enumerate(value)] if field.elements else [(label, value)]
        )
        for where, item in items:
            if field.fields:
                found += problems(field.fields, item, f"{where}.")
            elif problem := field.problem(item):
                found.append(f"{where}: {problem}")
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
