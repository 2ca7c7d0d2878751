# SPDX-License-Identifier: GPL-3.0-or-later
"""All that a task may change on a host: read it whole, and go back to the beginning."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
from cases import ETC, IMAGES, MEDIA, SOURCES, URI

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.xml.document import DomainXml
from ansible_collections.keystone.virtiofs.plugins.module_utils._mounts import read_mounts
from ansible_collections.keystone.virtiofs.tests.unit.faults import definition

STATE = Path("/var/lib/keystone-virtiofs")
LIBVIRT = Path("/var/lib/libvirt")
TABLE = STATE / "mounts"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def prepare() -> None:
    for name in ("sealed dir", "data", "tuned"):
        (SOURCES / name).mkdir(parents=True, exist_ok=True)
    (ETC / "libvirt/qemu/autostart").mkdir(exist_ok=True)  # libvirt's own, made when it is first needed
    for medium in MEDIA:
        Path(medium).write_bytes(bytes(2**20))
    reset()


def reset() -> None:
    """Back to a host on which nothing was done, without the collection's help."""
    connection = libvirt.open(URI)
    for domain in connection.listAllDomains():
        if domain.isActive():
            domain.destroy()
        if domain.isPersistent():
            flags = libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            domain.undefineFlags(flags)
    connection.close()
    for mount in reversed(read_mounts()):
        if mount.mount_point.startswith((f"{STATE}/", f"{SOURCES}/")):
            subprocess.run(["umount", "--lazy", mount.mount_point], check=True)
    shutil.rmtree(STATE, ignore_errors=True)
    for left in (*IMAGES.iterdir(), *LIBVIRT.glob("swtpm/*"), *LIBVIRT.glob("qemu/nvram/*"), *ETC.glob(".keystone*")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()


def read() -> dict[str, Any]:
    """Everything, in a form in which two runs can be compared: identifiers that libvirt draws are left out."""
    found: dict[str, Any] = {"mounts at boot": sorted(TABLE.read_text().split("\n")) if TABLE.exists() else []}
    for mount in read_mounts():
        if mount.mount_point.startswith((f"{STATE}/", f"{SOURCES}/")):
            found.setdefault(f"mounts at {mount.mount_point}", []).append(mount.options)
    found.update(_domains())
    for path in (path for path in _below(STATE) if path != TABLE):
        found[str(path)] = (*_facts(path), path.read_bytes() if path.is_file() else b"")
    for path in _below(ETC):
        found[str(path)] = _facts(path)
    for path in _below(IMAGES):
        found[str(path)] = (oct(path.lstat().st_mode), _virtual_size(path))
    for path in (*_below(LIBVIRT / "qemu/nvram"), *_below(LIBVIRT / "swtpm")):
        found[UUID.sub("UUID", str(path))] = "exists"
    return found


def _domains() -> dict[str, Any]:
    found = {}
    connection = libvirt.open(URI)
    for domain in connection.listAllDomains():
        name = f"domain {domain.name()}"
        found[f"{name} runs"] = domain.state()[0]
        if domain.isPersistent():
            found[f"{name} autostart"] = domain.autostart()
            found[name] = definition(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
        if domain.isActive():
            live = DomainXml(domain.XMLDesc(0))
            found[f"{name} live"] = (live.options(), live.shares(), live.share_paths(), live.disks())
    connection.close()
    return found


def _below(top: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(top):
        yield from (Path(folder, name) for name in sorted([*folders, *files]))


def _facts(path: Path) -> tuple[Any, ...]:
    found = path.lstat()
    is_definition = path.is_relative_to(ETC / "libvirt")  # its length depends on identifiers
    size = 0 if is_definition or path.is_dir() else found.st_size
    return oct(found.st_mode), found.st_uid, found.st_gid, size


def _virtual_size(path: Path) -> int:
    """Of a qcow2 image, from its header; what a guest wrote does not matter."""
    if not path.is_file():
        return 0
    with path.open("rb") as image:
        return int.from_bytes(image.read(32)[24:], "big")
