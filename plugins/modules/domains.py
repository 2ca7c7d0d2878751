#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Manage many libvirt domains in one task."""

from __future__ import annotations

DOCUMENTATION = r"""
module: domains
short_description: Manage many libvirt domains with virtiofs shares in one task
version_added: 0.1.0
description:
  - Does for a list of domains what M(keystone.virtiofs.domain) does for one, over one connection.
  - All domains are checked and planned before the first is touched.
author: keystone contributors (@ncrmro)
extends_documentation_fragment:
  - keystone.virtiofs.options.connection
  - keystone.virtiofs.options.attributes
options:
  domains:
    description:
      - The domains. Each takes the options of M(keystone.virtiofs.domain), apart from C(uri).
    type: list
    elements: dict
    required: true
  purge:
    description:
      - Remove the domains that this collection has defined and that are not listed. Their disks, UEFI variables and TPM
        state stay. Domains of other tools are left alone.
    type: bool
    default: false
seealso:
  - module: keystone.virtiofs.domain
"""

EXAMPLES = r"""
- name: Exactly these two
  keystone.virtiofs.domains:
    purge: true
    domains:
      - name: web
        state: running
        shares:
          - {tag: nix-store-share, source: /nix/store}
      - name: database
        state: running
        memory: 8192
        shares:
          - {tag: nix-store-share, source: /nix/store}
"""

RETURN = r"""
domains:
  description: What M(keystone.virtiofs.domain) returns, for every domain by name; purged domains are included.
  returned: success
  type: dict
  sample:
    web: {changed: true, actions: [Start], restart_required: false, restart_reasons: []}
restart_required:
  description: At least one running domain needs a restart.
  returned: success
  type: bool
  sample: false
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ..module_utils._apply import task
from ..module_utils._domain import schema


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec=schema.argument_spec((*schema.OF_DOMAINS, schema.URI)),
        supports_check_mode=True,
    )
    validator = ArgumentSpecValidator(schema.argument_spec(schema.OF_DOMAIN))
    wanted = []
    for index, options in enumerate(module.params["domains"]):
        result = validator.validate(options)
        if result.error_messages:
            module.fail_json(msg=f"domains[{index}]: {'; '.join(result.error_messages)}")
        wanted.append(result.validated_parameters)
    task.run(module, lambda controller: controller.apply_domains(wanted, module.params["purge"]))


if __name__ == "__main__":
    main()
