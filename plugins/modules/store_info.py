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

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._guest.store import describe_store


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
