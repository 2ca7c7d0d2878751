#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Manage one virtiofs share of a domain."""

from __future__ import annotations

DOCUMENTATION = r"""
module: share
short_description: Manage one virtiofs share of a libvirt domain
version_added: 1.0.0
description:
  - Adds, changes or removes one virtiofs share of an existing domain, in its definition and, when it runs, in the
    running domain by hot plug.
  - Shared memory, which virtiofs needs, is added to the definition if it is missing; the running domain then needs a
    restart. It is kept when the share is removed.
  - A change of a share that the running domain has already takes effect with a restart, because the guest may have the
    share mounted, for instance as its store. If it has not, O(replug) applies the change at once.
  - With O(mount_point) the guest also mounts the share. Otherwise RV(mount) says how to mount the share by other means,
    such as ssh.
author: keystone contributors (@ncrmro)
extends_documentation_fragment:
  - keystone.virtiofs._options.connection
  - keystone.virtiofs._options.share
  - keystone.virtiofs._options.attributes
options:
  domain:
    description:
      - Name of the domain. For O(state=absent) it need not exist.
    type: str
    required: true
  state:
    description:
      - Whether the domain has the share.
    type: str
    choices: [present, absent]
    default: present
  replug:
    description:
      - Whether a changed share of the running domain is unplugged and plugged in again. In a guest that has the share
        mounted, all access to the mount then fails until the guest mounts the share again; a guest whose store is on
        the share breaks.
    type: bool
    default: false
  detach_timeout:
    description:
      - Timeout for the guest to release the share, in seconds.
    type: int
    default: 30
  mount_point:
    description:
      - Directory of the guest in which the guest mounts the share, now and at each boot. It is created if it does not
        exist. With O(state=absent), the guest unmounts the share before the share is unplugged; the directory stays.
      - The guest must run systemd and the QEMU guest agent with its command C(guest-exec). The agent runs a shell
        script as root, which writes a mount unit to C(/etc/systemd/system). If a unit of another origin or an entry in
        C(/etc/fstab) mounts the share in the directory, the module uses that one, and does not remove it.
      - On NixOS the mount ends when the guest restarts. A warning contains the option for the guest's configuration
        that keeps the mount.
      - The domain must be running. The module reports an obstacle to the mount before it changes the share, unless only
        the guest's kernel finds the obstacle.
      - A mount of the share in another directory is left as it is.
    type: str
  mount_timeout:
    description:
      - Timeout for the guest agent to answer, and for the guest to mount or unmount the share, in seconds.
    type: int
    default: 60
seealso:
  - module: keystone.virtiofs.domain
"""

EXAMPLES = r"""
- name: Share the project directory with the running guest
  keystone.virtiofs.share:
    domain: test-vm
    tag: project
    source: /srv/project

- name: Add a share, with a restart if it needs one
  keystone.virtiofs.share:
    domain: old-vm
    tag: nix-store-share
    source: /nix/store
    restart: if_required

- name: Change a share that the running guest has not mounted
  keystone.virtiofs.share:
    domain: test-vm
    tag: project
    source: /srv/project
    cache: none
    replug: true

- name: Share the project directory and mount it in the guest
  keystone.virtiofs.share:
    domain: test-vm
    tag: project
    source: /srv/project
    mount_point: /mnt/project

- name: Unmount and remove the share, and keep the directory
  keystone.virtiofs.share:
    domain: test-vm
    tag: project
    mount_point: /mnt/project
    state: absent
"""

RETURN = r"""
domain:
  description: The domain after the task, as in M(keystone.virtiofs.domain).
  returned: success
  type: dict
  sample: {name: test-vm, state: running}
actions:
  description:
    - The steps that were executed, or would be in check mode. V(MountShare) and V(UnmountShare) are those in the guest.
  returned: success
  type: list
  elements: str
  sample: [Define, AttachShare, MountShare]
mount:
  description: How to mount the share in the guest by other means. Without O(mount_point), in C(/mnt/<tag>).
  returned: success with O(state=present)
  type: dict
  contains:
    command:
      description: Command that mounts the share until the guest restarts.
      type: str
      sample: mkdir -p /mnt/project && mount -t virtiofs project /mnt/project
    fstab:
      description: Line of C(/etc/fstab) that mounts the share at each boot.
      type: str
      sample: project /mnt/project virtiofs nofail 0 0
    nixos:
      description: Option of a NixOS configuration that mounts the share at each boot.
      type: str
      sample: 'fileSystems."/mnt/project" = { device = "project"; fsType = "virtiofs"; options = [ "nofail" ]; };'
restart_required:
  description: Whether the change takes effect only after a restart of the running domain.
  returned: success
  type: bool
  sample: true
restart_reasons:
  description: Why a restart is needed.
  returned: success
  type: list
  elements: str
  sample: ["share project: the domain runs without shared memory"]
problem:
  description: What failed. C(msg) combines it with RV(fix), the domain and the share.
  returned: failure
  type: str
  sample: source /srv/data does not exist
fix:
  description: What to do about the problem; may be empty.
  returned: failure
  type: str
  sample: Create the directory, or correct source.
failed_domain:
  description: The domain that the problem concerns; null if it concerns none in particular.
  returned: failure
  type: str
  sample: web
failed_share:
  description: The mount tag of the share that the problem concerns; null if it concerns none in particular.
  returned: failure
  type: str
  sample: data
libvirt_code:
  description: Error code of libvirt.
  returned: failure of libvirt
  type: int
  sample: 55
libvirt_message:
  description: Error message of libvirt.
  returned: failure of libvirt
  type: str
  sample: "Requested operation is not valid: domain is not running"
"""

# Ends on a Python that is too old for the rest.
from ..module_utils import _python  # noqa: F401 pylint: disable=unused-import
from ..module_utils._apply import task
from ..module_utils._domain import schema
from ..module_utils._module import Module


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec=schema.argument_spec((*schema.OF_SHARE, schema.URI)),
        supports_check_mode=True,
    )
    task.run(module, lambda controller: controller.apply_share(module.params))


if __name__ == "__main__":
    main()
