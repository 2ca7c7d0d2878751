#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Gather information about the mounts and the state of a guest's Nix store."""

from __future__ import annotations

DOCUMENTATION = r"""
module: store_info
short_description: Gather information about the mounts and the state of a guest's Nix store
version_added: 1.0.0
description:
  - Run this module in a guest. It reports whether the virtiofs share and the overlay over it are mounted, whether the
    store can be read and written, which layer holds a path, how full the writable layer is, and which paths are stale.
  - The module only reads, so RV(writable) depends on mounts and permissions alone; the role
    P(keystone.virtiofs.verify#role) proves it by writing.
author:
  - keystone contributors (@ncrmro)
options:
  mount_point:
    description:
      - Mount point of the overlay.
    type: path
    default: /nix/store
  ro_store:
    description:
      - Mount point of the share.
    type: path
    default: /sysroot/nix/.ro-store
  rw_store:
    description:
      - Mount point of the file system that holds the overlay's writable layer.
    type: path
    default: /sysroot/nix/.rw-store
  tag:
    description:
      - Mount tag of the share.
    type: str
    default: nix-store-share
  paths:
    description:
      - Paths below O(mount_point) to look up, see RV(paths).
    type: list
    elements: path
    default: []
  stale_sample:
    description:
      - Number of entries of the store to check for RV(stale), in addition to O(paths).
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
- name: Inspect the guest's store
  keystone.virtiofs.store_info:
    paths:
      - "{{ built_path }}"
  register: store

- name: Require that the guest sees the path through the share
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
      description: Whether the share with tag O(tag) is mounted at O(ro_store).
      type: bool
      sample: true
    source:
      description: The source of the mount; null if nothing is mounted there.
      type: str
      sample: nix-store-share
    type:
      description: The file system type.
      type: str
      sample: virtiofs
    options:
      description: The mount options.
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
      description: The source of the mount; null if nothing is mounted there.
      type: str
      sample: overlay
    type:
      description: The file system type.
      type: str
      sample: overlay
    options:
      description: The mount options.
      type: list
      elements: str
      sample: [rw, relatime]
    read_only:
      description: Whether it is mounted read-only.
      type: bool
      sample: false
    lower:
      description: Read-only layers, the topmost first, with the paths that they had when the overlay was mounted.
      type: list
      elements: str
      sample: [/nix/store, /sysroot/nix/.ro-store]
    upper:
      description: The writable layer; null without one.
      type: str
      sample: /sysroot/nix/.rw-store/upper
    work:
      description: The overlay's work directory; null without one.
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
  description: Number of entries in the store, including hidden ones; null if the store cannot be listed.
  returned: success
  type: int
  sample: 1234
share_entries:
  description: Number of entries in the share, including hidden ones; null if the share cannot be listed.
  returned: success
  type: int
  sample: 1200
rw_layer:
  description: The file system mounted at O(rw_store); null if none is mounted there.
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
      description: Number of files that it can hold; 0 without a limit.
      type: int
      sample: 253839
    inodes_used:
      description: Number of files that it holds.
      type: int
      sample: 7
paths:
  description: The result for each of O(paths), in the same order.
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
        - The layers that hold the path; the first one decides what the guest sees.
        - V(upper) was written in the guest, V(deleted) was deleted in the guest, V(share) is the host's, V(own) is the
          guest's own store. The overlay covers the own store, so V(own) is only returned for a path in no other layer.
      type: list
      elements: str
      sample: [share]
hidden:
  description:
    - Paths of the host that were deleted in the guest, for instance by its garbage collector. The host has them still.
    - A NixOS guest recovers them (C(systemctl start keystone-store-recovery)). In another guest, delete their character
      devices in the writable layer, then remount the overlay as for C(stale).
  returned: success
  type: list
  elements: str
  sample: []
stale:
  description:
    - Paths for which the guest's kernel has cached outdated information. The host has removed or replaced a path after
      the guest had read it, or has added a path after the guest had found that it does not exist.
    - C(/etc/keystone/remount-store) in a guest with the Nix module fixes this. In another guest, run
      C(mount -o remount overlay) and then C(mount -o remount,bind,OPTIONS) with O(mount_point) and its mount options,
      which the first remount drops. The source C(overlay) is required, because mount would otherwise add the layers
      from fstab, which the kernel refuses as a change.
  returned: success
  type: list
  elements: str
  sample: []
nix:
  description: Whether the guest has Nix.
  returned: success
  type: bool
  sample: true
problem:
  description: What failed. C(msg) combines it with RV(fix).
  returned: failure
  type: str
  sample: "paths: not below /nix/store: /etc/hostname"
fix:
  description: What to do about the problem; may be empty.
  returned: failure
  type: str
  sample: Correct paths, or set mount_point to the directory that they are in.
failed_domain:
  description: Always null, because the guest does not know its domain.
  returned: failure
  type: str
  sample: null
failed_share:
  description: Always null, because the module looks at the guest's own mounts.
  returned: failure
  type: str
  sample: null
"""

from pathlib import Path

# Ends on a Python that is too old for the rest.
from ..module_utils import _python  # noqa: F401 pylint: disable=unused-import
from ..module_utils._guest.store import describe_store
from ..module_utils._module import Module


def main() -> None:
    module = Module(
        argument_spec={
            "mount_point": {"type": "path", "default": "/nix/store"},
            "ro_store": {"type": "path", "default": "/sysroot/nix/.ro-store"},
            "rw_store": {"type": "path", "default": "/sysroot/nix/.rw-store"},
            "tag": {"type": "str", "default": "nix-store-share"},
            "paths": {"type": "list", "elements": "path", "default": []},
            "stale_sample": {"type": "int", "default": 100},
        },
        supports_check_mode=True,
    )
    store = Path(module.params["mount_point"])
    outside = [path for path in module.params["paths"] if store not in Path(path).parents]
    if outside:
        module.fail_json(
            msg=f"paths: not below {store}: {', '.join(outside)}",
            fix="Correct paths, or set mount_point to the directory that they are in.",
        )
    if module.params["stale_sample"] < 0:
        module.fail_json(msg="stale_sample: the number is negative", fix="Set stale_sample to 0 or more.")
    module.exit_json(changed=False, **describe_store(module.params))


if __name__ == "__main__":
    main()
