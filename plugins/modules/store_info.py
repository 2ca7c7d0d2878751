#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell a guest's view of its store: share, overlay, writable layer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: store_info
short_description: How a guest's Nix store is put together, and in what state it is
description:
  - Run it in a guest. It reports whether the virtiofs share and the overlay over it are mounted, whether the
    store can be read and written, which layer holds a path, how full the writable layer is, and paths that
    went stale.
  - It reads only, so RV(writable) is what the mounts and permissions say; the role
    P(keystone.virtiofs.verify#role) proves it by writing.
author:
  - keystone contributors (@ncrmro)
options:
  mount_point:
    description:
      - Where the overlay is mounted.
    type: path
    default: /nix/store
  ro_store:
    description:
      - Where the share is mounted.
    type: path
    default: /sysroot/nix/.ro-store
  rw_store:
    description:
      - The file system that holds the overlay's writable layer.
    type: path
    default: /sysroot/nix/.rw-store
  share_name:
    description:
      - Mount tag of the share.
    type: str
    default: nix-store-share
  paths:
    description:
      - Paths below O(mount_point) to look up; see RV(paths).
    type: list
    elements: path
    default: []
  stale_sample:
    description:
      - How many entries of the store to look at for RV(stale), besides O(paths).
    type: int
    default: 100
attributes:
  check_mode:
    description: Can run in check mode and return the same as in a normal run.
    support: full
  diff_mode:
    description: Shows what was changed.
    support: N/A
    details: Nothing is ever changed.
seealso:
  - module: keystone.virtiofs.host_info
"""

EXAMPLES = r"""
- name: Look at the guest's store
  keystone.virtiofs.store_info:
    paths:
      - "{{ built_path }}"
  register: store

- name: The guest sees what the host built, through the share
  ansible.builtin.assert:
    that:
      - store.share.mounted
      - store.paths[0].layers == ['share']
"""

RETURN = r"""
share:
  description: The virtiofs share.
  returned: success
  type: dict
  contains:
    mounted:
      description: Whether the share with tag O(share_name) is mounted at O(ro_store).
      type: bool
      sample: true
    source:
      description: What is mounted there; null when nothing is.
      type: str
      sample: nix-store-share
    type:
      description: Its file system type.
      type: str
      sample: virtiofs
    options:
      description: Its mount options.
      type: list
      elements: str
      sample: [ro, relatime]
    read_only:
      description: Whether it is mounted read-only. The host enforces that in any case.
      type: bool
      sample: true
overlay:
  description: The overlay.
  returned: success
  type: dict
  contains:
    mounted:
      description: Whether an overlay is mounted at O(mount_point).
      type: bool
      sample: true
    source:
      description: What is mounted there; null when nothing is.
      type: str
      sample: overlay
    type:
      description: Its file system type.
      type: str
      sample: overlay
    options:
      description: Its mount options.
      type: list
      elements: str
      sample: [rw, relatime]
    read_only:
      description: Whether it is mounted read-only.
      type: bool
      sample: false
    lower:
      description: Read-only layers, the topmost first, as they were named when it was mounted.
      type: list
      elements: str
      sample: [/nix/store, /sysroot/nix/.ro-store]
    upper:
      description: The writable layer; null without one.
      type: str
      sample: /sysroot/nix/.rw-store/upper
    work:
      description: The overlay's work folder; null without one.
      type: str
      sample: /sysroot/nix/.rw-store/work
readable:
  description: Whether the store can be listed.
  returned: success
  type: bool
  sample: true
writable:
  description: Whether mounts and permissions allow writing to the store.
  returned: success
  type: bool
  sample: true
entries:
  description: How many entries the store has, hidden ones included; null when it cannot be listed.
  returned: success
  type: int
  sample: 1234
share_entries:
  description: How many entries the share has, hidden ones included; null when it cannot be listed.
  returned: success
  type: int
  sample: 1200
rw_layer:
  description: The file system at O(rw_store); null when there is none.
  returned: success
  type: dict
  contains:
    type:
      description: Its type.
      type: str
      sample: tmpfs
    size:
      description: Its size in bytes.
      type: int
      sample: 1039728640
    used:
      description: Bytes in use.
      type: int
      sample: 1048576
    inodes:
      description: How many files it can hold; 0 without a limit.
      type: int
      sample: 253839
    inodes_used:
      description: How many it holds.
      type: int
      sample: 7
paths:
  description: What was found for each of O(paths), in that order.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The path.
      type: str
      sample: /nix/store/00000000000000000000000000000000-hello
    exists:
      description: Whether the guest sees it.
      type: bool
      sample: true
    layers:
      description:
        - The layers that hold it, the deciding one first.
        - V(upper) written in the guest; V(deleted) deleted in the guest; V(share) the host's; V(own) the
          guest's own store, which the overlay covers, so it is only told for what is in no other layer.
      type: list
      elements: str
      sample: [share]
stale:
  description:
    - Paths of which the guest remembers what is no longer so. The host has removed or replaced one that the guest had
      read, or has added one that the guest had looked for in vain, and now lists but does not find.
    - C(mount -o remount overlay) with O(mount_point) mends it. The source must be named, or the layers in fstab count
      as a change, which is refused.
  returned: success
  type: list
  elements: str
  sample: []
nix:
  description: Whether the guest has Nix.
  returned: success
  type: bool
  sample: true
"""

import errno
import os
import re
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.module_utils.basic import AnsibleModule

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo."""

    mount_point: str
    options: tuple[str, ...]
    type: str
    source: str
    super_options: tuple[str, ...]

    @property
    def read_only(self) -> bool:
        return "ro" in self.options or "ro" in self.super_options


@dataclass(frozen=True)
class OverlayLayers:
    """The folders of an overlay as its mount options name them."""

    lower: tuple[str, ...] = ()
    upper: str | None = None
    work: str | None = None


def parse_mountinfo(text: str) -> list[Mount]:
    """Every mount, in the order of mounting (proc(5): optional fields end with a lone dash)."""
    mounts = []
    for line in text.splitlines():
        head, _dash, tail = line.partition(" - ")
        _id, _parent, _device, _root, mount_point, options = head.split(" ")[:6]
        fs_type, source, super_options = tail.split(" ", 2)
        mounts.append(
            Mount(
                _unescape(mount_point),
                tuple(options.split(",")),
                fs_type,
                _unescape(source),
                tuple(_unescape(option) for option in super_options.split(",")),
            )
        )
    return mounts


def _unescape(field: str) -> str:
    """The kernel writes space, tab, newline and backslash as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), field)


def mount_at(mounts: Iterable[Mount], mount_point: str) -> Mount | None:
    """The mount that is seen at a place: the last one made there."""
    here = [mount for mount in mounts if mount.mount_point == mount_point]
    return here[-1] if here else None


def overlay_layers(options: Iterable[str]) -> OverlayLayers:
    """The layers, from "lowerdir=a:b" as well as from one "lowerdir+=" for each (Linux 6.8)."""
    lower: list[str] = []
    named: dict[str, str] = {}
    for option in options:
        name, _equals, value = option.partition("=")
        if name == "lowerdir":
            lower += [_unprotect(part) for part in re.split(r"(?<!\\):+", value)]
        elif name == "lowerdir+":
            lower.append(_unprotect(value))
        else:
            named[name] = _unprotect(value)
    return OverlayLayers(tuple(lower), named.get("upperdir"), named.get("workdir"))


def _unprotect(path: str) -> str:
    """Overlay options protect colon, comma and backslash with a backslash."""
    return re.sub(r"\\(.)", r"\1", path)


def upper_folder(layers: OverlayLayers, rw_store: str) -> Path | None:
    """The writable layer's folder as it is reached now.

    An initrd mounts below /sysroot, and the options keep the names of then.
    """
    if layers.upper is None:
        return None
    before_switch_root = f"/sysroot{rw_store}/"
    prefix = "/sysroot" if layers.upper.startswith(before_switch_root) else ""
    return Path(layers.upper[len(prefix) :])


def layers_of(name: Path, mount_point: Path, share: Path, upper: Path | None) -> list[str]:
    """Which layers hold a name, the deciding one first."""
    layers = []
    if upper is not None and os.path.lexists(upper / name):
        layers.append("deleted" if _is_whiteout(upper / name) else "upper")
    if os.path.lexists(share / name):
        layers.append("share")
    if not layers and os.path.lexists(mount_point / name):
        layers.append("own")
    return layers


def _is_whiteout(path: Path) -> bool:
    """Overlayfs marks a deletion by a character device 0:0."""
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_stale(path: Path, listed: bool) -> bool:
    """Whether the guest remembers what is no longer so: a path that is gone, or that one is missing which has come."""
    try:
        path.lstat()
    except OSError as error:
        return error.errno == errno.ESTALE or (listed and error.errno == errno.ENOENT)
    return False


def list_folder(folder: Path) -> list[str] | None:
    """The names in a folder, sorted; None when it cannot be listed."""
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return None


def describe_mount(mount: Mount | None, expected: bool) -> dict[str, Any]:
    return {
        "mounted": mount is not None and expected,
        "source": mount.source if mount else None,
        "type": mount.type if mount else None,
        "options": list(mount.options) if mount else [],
        "read_only": mount is not None and mount.read_only,
    }


def describe_space(rw_store: str, mount: Mount | None) -> dict[str, Any] | None:
    if mount is None:
        return None
    space = os.statvfs(rw_store)
    return {
        "type": mount.type,
        "size": space.f_blocks * space.f_frsize,
        "used": (space.f_blocks - space.f_bfree) * space.f_frsize,
        "inodes": space.f_files,
        "inodes_used": space.f_files - space.f_ffree,
    }


def describe_path(path: str, mount_point: Path, share: Path, upper: Path | None) -> dict[str, Any]:
    layers = layers_of(Path(path).relative_to(mount_point), mount_point, share, upper)
    return {"path": path, "exists": os.path.lexists(path), "layers": layers}


def describe_store(params: dict[str, Any]) -> dict[str, Any]:
    store, share_folder = Path(params["mount_point"]), Path(params["ro_store"])
    mounts = parse_mountinfo(_MOUNTINFO.read_text(encoding="utf-8"))
    share = mount_at(mounts, params["ro_store"])
    overlay = mount_at(mounts, params["mount_point"])
    is_overlay = overlay is not None and overlay.type == "overlay"
    layers = overlay_layers(overlay.super_options) if overlay and is_overlay else OverlayLayers()
    upper = upper_folder(layers, params["rw_store"])
    names, share_names = list_folder(store), list_folder(share_folder)
    listed = [str(store / name) for name in names or []]
    candidates = dict.fromkeys(params["paths"] + listed[: params["stale_sample"]])
    return {
        "share": describe_mount(
            share, share is not None and (share.type, share.source) == ("virtiofs", params["share_name"])
        ),
        "overlay": {
            **describe_mount(overlay, is_overlay),
            "lower": list(layers.lower),
            "upper": layers.upper,
            "work": layers.work,
        },
        "readable": names is not None,
        "writable": os.access(store, os.W_OK),
        "entries": None if names is None else len(names),
        "share_entries": None if share_names is None else len(share_names),
        "rw_layer": describe_space(params["rw_store"], mount_at(mounts, params["rw_store"])),
        "paths": [describe_path(path, store, share_folder, upper) for path in params["paths"]],
        "stale": [path for path in candidates if is_stale(Path(path), path in listed)],
        "nix": shutil.which("nix-store") is not None,
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "mount_point": {"type": "path", "default": "/nix/store"},
            "ro_store": {"type": "path", "default": "/sysroot/nix/.ro-store"},
            "rw_store": {"type": "path", "default": "/sysroot/nix/.rw-store"},
            "share_name": {"type": "str", "default": "nix-store-share"},
            "paths": {"type": "list", "elements": "path", "default": []},
            "stale_sample": {"type": "int", "default": 100},
        },
        supports_check_mode=True,
    )
    store = Path(module.params["mount_point"])
    outside = [path for path in module.params["paths"] if store not in Path(path).parents]
    if outside:
        module.fail_json(msg=f"paths: not below {store}: {', '.join(outside)}")
    module.exit_json(changed=False, **describe_store(module.params))


if __name__ == "__main__":
    main()
