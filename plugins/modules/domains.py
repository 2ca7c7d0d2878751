#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Manage many libvirt domains in one task."""

from __future__ import annotations

DOCUMENTATION = r"""
module: domains
short_description: Manage many libvirt domains with virtiofs shares in one task
version_added: 1.0.0
description:
  - Manages a list of domains as M(keystone.virtiofs.domain) manages one, over one connection.
  - All domains are checked and planned before the first one is changed.
author: keystone contributors (@ncrmro)
extends_documentation_fragment:
  - keystone.virtiofs._options.connection
  - keystone.virtiofs._options.attributes
options:
  domains:
    description:
      - The domains, each with the options of M(keystone.virtiofs.domain) except C(uri). An option that is null counts
        as omitted.
    type: list
    elements: dict
    required: true
  purge:
    description:
      - Whether to remove domains that this collection created and that are not listed. Their disks, UEFI variables and
        TPM state are kept, and so are domains of other tools.
    type: bool
    default: false
seealso:
  - module: keystone.virtiofs.domain
"""

EXAMPLES = r"""
- name: Have exactly two domains
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
  description: The return values of M(keystone.virtiofs.domain) by domain name, including purged domains.
  returned: success
  type: dict
  sample:
    web: {changed: true, actions: [Start], restart_required: false, restart_reasons: []}
restart_required:
  description: Whether at least one running domain needs a restart.
  returned: success
  type: bool
  sample: false
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

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

# Ends on a Python that is too old for the rest.
from ..module_utils import _python  # noqa: F401 pylint: disable=unused-import
from ..module_utils._apply import task
from ..module_utils._domain import schema
from ..module_utils._module import Module, unfit_values


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec=schema.argument_spec((*schema.OF_DOMAINS, schema.URI)),
        supports_check_mode=True,
    )
    spec = schema.argument_spec(schema.OF_DOMAIN)
    wanted = []
    for index, given in enumerate(module.params["domains"]):
        options = {option: value for option, value in given.items() if value is not None}
        found = unfit_values(spec, options)
        result = None if found else ArgumentSpecValidator(spec).validate(options)
        if found or result.error_messages:
            module.fail_json(msg=f"domains[{index}]: {'; '.join(found or result.error_messages)}")
        wanted.append(result.validated_parameters)
    task.run(module, lambda controller: controller.apply_domains(wanted, module.params["purge"]))


if __name__ == "__main__":
    main()
