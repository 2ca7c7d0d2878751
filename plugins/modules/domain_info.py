#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Gather information about libvirt domains and their virtiofs shares."""

from __future__ import annotations

DOCUMENTATION = r"""
module: domain_info
short_description: Gather information about libvirt domains and their virtiofs shares
version_added: 1.0.0
description:
  - Returns state, addresses, shares, memory backing, disks and virtiofsd logs of each domain.
author: keystone contributors (@ncrmro)
extends_documentation_fragment:
  - keystone.virtiofs._options.connection
  - keystone.virtiofs._options.info_attributes
options:
  names:
    description:
      - Names of the domains to return. By default all domains. Names that do not exist are ignored.
    type: list
    elements: str
  host_keys:
    description:
      - Whether to ask the guest agents for the guests' ssh host keys (ed25519), returned as C(ssh_host_key); null if
        the agent does not answer. Unlike C(ssh-keyscan), the result cannot be spoofed on the network. The
        guest itself may report the key of another machine.
    type: bool
    default: false
seealso:
  - module: keystone.virtiofs.domain
  - module: keystone.virtiofs.host_info
"""

EXAMPLES = r"""
- name: Gather information about one domain
  keystone.virtiofs.domain_info:
    names: [test-vm]
  register: found

- name: Show where its ssh server is
  ansible.builtin.debug:
    msg: "{{ found.domains['test-vm'].ssh }}"
"""

RETURN = r"""
domains:
  description:
    - The domains by name. Each has the keys of RV(keystone.virtiofs.domain#module:domain), and others on request.
    - C(shares) are those of the running domain, C(persistent_shares) those of its definition. C(shared_memory) says
      whether shares can be added, C(free_ports) how many of them by hot plug. C(managed) says whether this collection
      created the domain. C(dead_shares) are the tags whose virtiofsd has ended; the guest waits for them indefinitely.
      C(stale_shares) are the tags whose virtiofsd serves an earlier directory, because the source was replaced or
      mounted over.
  returned: success
  type: dict
  sample:
    test-vm:
      name: test-vm
      state: running
      uuid: 6f9f5a0e-6b4b-4d0c-8d51-0c4a8b3c9d3e
      addresses: [192.168.122.20]
      ssh: {host: 192.168.122.20, port: 22}
      shared_memory: true
      free_ports: 4
      shares:
        - {tag: nix-store-share, source: /nix/store, read_only: true, queue_size: 1024, cache: auto}
      virtiofsd_logs: [/var/log/libvirt/qemu/test-vm-fs0-virtiofsd.log]
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
        argument_spec=schema.argument_spec((*schema.OF_DOMAIN_INFO, schema.URI)),
        supports_check_mode=True,
    )
    names, host_keys = module.params["names"], module.params["host_keys"]
    task.run(
        module,
        lambda controller: {"changed": False, "domains": controller.describe_domains(names, host_keys)},
    )


if __name__ == "__main__":
    main()
