#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Manage an image of store paths on a hypervisor."""

from __future__ import annotations

DOCUMENTATION = r"""
module: store_image
short_description: Manage a read-only image of paths in a host's Nix store
version_added: 1.0.0
description:
  - Writes the closure of store paths to an erofs image, which a guest that has the image as a disk reads as fast as a
    local file system.
  - A guest with C(storeImage) of the Nix guest module mounts the image between its own store and the share. Every
    directory of the image hides what the share has at the same path, so a store path is never a mixture of both.
  - The image is made again when the closure has other paths, or when a path was rebuilt with other contents. A new
    image replaces the previous one in one step, and a running guest keeps the image that it was started with.
  - With O(update_path), a second image takes the paths that the first one lacks, so that a new version of a system does
    not write the whole closure again. The guest has both images, the second one above the first one.
  - Images in one directory with the same contents are one file with several names, which exists until the last name
    is removed.
  - The role P(keystone.virtiofs.vm#role) makes an image of C(vm_store_image) and adds it to the VM's disks.
  - Requires root, Nix and C(mkfs.erofs) on the machine that runs it, and as much free space as the closure takes, or
    twice as much if the image and the store are on different file systems.
  - On btrfs and XFS, an image on the file system of the store shares the data of the store's files (C(mkfs.erofs) 1.8).
author: keystone contributors (@ncrmro)
attributes:
  check_mode:
    description: Predicts whether the image is made or removed.
    support: full
  diff_mode:
    description: Shows the store paths in the image with the hashes of their contents.
    support: full
options:
  path:
    description:
      - File of the image, which belongs to root with mode 0444. Attach it to a domain as a read-only disk.
      - The list of what the image holds is kept next to it, with C(.paths) at the end of its name.
      - A file that is not a store image is neither replaced nor removed.
    type: path
    required: true
  update_path:
    description:
      - File of the second image. It always exists, and is empty as long as the first one is complete.
      - A guest mounts the second image (UUID 6b657973-746f-6e65-7374-6f7265757064) above the first one (UUID
        6b657973-746f-6e65-7374-6f7265696d67), as C(storeImage) of the Nix guest module does.
      - When the first image has to be written, the module links another one in the same directory instead if that one
        meets O(update_limit).
    type: path
  update_limit:
    description:
      - How much the first image may lack or hold without use, in percent of the size of the closure. Above that, the
        module writes the whole closure to the first image and empties the second one. V(0) always does so, as is
        necessary if the guest must not see other paths than those of the closure.
    type: int
    default: 30
  state:
    description:
      - Whether the images exist. V(absent) removes them and their lists.
    type: str
    choices: [present, absent]
    default: present
  store_paths:
    description:
      - Store paths whose closure the image holds. Required with O(state=present).
    type: list
    elements: path
    default: []
  store_root:
    description:
      - Directory that contains the Nix store, as C(nix/store) and C(nix/var).
    type: path
    default: /
  timeout:
    description:
      - Time limit in seconds for copying the closure, and again for writing the image.
    type: int
    default: 1800
seealso:
  - module: keystone.virtiofs.domain
"""

EXAMPLES = r"""
- name: Make an image of a guest's system
  keystone.virtiofs.store_image:
    path: /var/lib/libvirt/images/web-store.erofs
    update_path: /var/lib/libvirt/images/web-store-update.erofs
    store_paths:
      - "{{ system }}"

- name: Remove the image
  keystone.virtiofs.store_image:
    path: /var/lib/libvirt/images/web-store.erofs
    update_path: /var/lib/libvirt/images/web-store-update.erofs
    state: absent
"""

RETURN = r"""
path:
  description: File of the image.
  returned: success
  type: str
  sample: /var/lib/libvirt/images/web-store.erofs
update_path:
  description: File of the second image; null without O(update_path).
  returned: success
  type: str
  sample: /var/lib/libvirt/images/web-store-update.erofs
exists:
  description: Whether every image exists. In check mode, whether it exists already.
  returned: success
  type: bool
  sample: true
size:
  description: Size of the existing image in bytes; null without one.
  returned: success
  type: int
  sample: 1073741824
update_size:
  description: Size of the existing second image in bytes; null without one.
  returned: success
  type: int
  sample: 2097152
store_path_count:
  description: Number of store paths in the closure; 0 with O(state=absent).
  returned: success
  type: int
  sample: 812
unused_roots:
  description:
    - Paths in the first image that the closure does not have, without those that another of these paths refers to. The
      guest sees these paths, so make them roots of Nix's garbage collector.
  returned: success
  type: list
  elements: str
  sample: []
problem:
  description: What failed. C(msg) combines it with RV(fix).
  returned: failure
  type: str
  sample: "store_paths: not below /nix/store: /run/current-system"
fix:
  description: What to do about the problem; may be empty.
  returned: failure
  type: str
  sample: List at least one path in /nix/store, such as the one that a link resolves to.
failed_domain:
  description: Always null, because an image does not belong to a domain.
  returned: failure
  type: str
  sample: null
failed_share:
  description: Always null, because an image does not belong to a share.
  returned: failure
  type: str
  sample: null
"""

# Ends on a Python that is too old for the rest.
from ..module_utils import _python  # noqa: F401 pylint: disable=unused-import
from ..module_utils._host.store import layers
from ..module_utils._module import Module


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec={
            "path": {"type": "path", "required": True},
            "update_path": {"type": "path"},
            "update_limit": {"type": "int", "default": 30},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "store_paths": {"type": "list", "elements": "path", "default": []},
            "store_root": {"type": "path", "default": "/"},
            "timeout": {"type": "int", "default": 1800},
        },
        supports_check_mode=True,
    )
    module.run(lambda: layers.manage(module.params, module.check_mode))


if __name__ == "__main__":
    main()
