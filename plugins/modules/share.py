#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Manage one virtiofs share of a domain."""

from __future__ import annotations

DOCUMENTATION = r"""
module: share
short_description: Manage one virtiofs share of a libvirt domain
version_added: 0.1.0
description:
  - Adds, changes or removes one virtiofs share of an existing domain, in its definition and, when it runs, in the
    running domain by hot plug.
  - Shared memory, which virtiofs needs, is added to the definition when it is missing; the running domain then needs a
    restart. It stays when the share goes.
  - A changed share is unplugged and plugged anew in the running domain; a guest that has it mounted must mount it
    again.
author: keystone contributors (@ncrmro)
extends_documentation_fragment:
  - keystone.virtiofs.options.connection
  - keystone.virtiofs.options.share
  - keystone.virtiofs.options.attributes
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
  detach_timeout:
    description:
      - How long to wait for the guest to release the share, in seconds.
    type: int
    default: 30
seealso:
  - module: keystone.virtiofs.domain
"""

EXAMPLES = r"""
- name: The project directory appears in the running guest
  keystone.virtiofs.share:
    domain: test-vm
    tag: project
    source: /srv/project

- name: A share that needs a restart gets one
  keystone.virtiofs.share:
    domain: old-vm
    tag: nix-store-share
    source: /nix/store
    restart: if_required

- name: The share goes, the directory stays
  keystone.virtiofs.share:
    domain: test-vm
    tag: project
    state: absent
"""

RETURN = r"""
domain:
  description: The domain as it is now, as in M(keystone.virtiofs.domain).
  returned: success
  type: dict
  sample: {name: test-vm, state: running}
actions:
  description: The steps that were taken, or in check mode would be.
  returned: success
  type: list
  elements: str
  sample: [Define, AttachShare]
restart_required:
  description: The running domain needs a restart before it has the share as wanted.
  returned: success
  type: bool
  sample: true
restart_reasons:
  description: Why.
  returned: success
  type: list
  elements: str
  sample: ["share project: the domain runs without shared memory"]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._apply import task
from ..module_utils._domain import schema


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=schema.argument_spec((*schema.OF_SHARE, schema.URI)),
        supports_check_mode=True,
    )
    task.run(module, lambda controller: controller.apply_share(module.params))


if __name__ == "__main__":
    main()
