#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Facts of libvirt domains and their virtiofs shares."""

from __future__ import annotations

DOCUMENTATION = r"""
module: domain_info
short_description: Facts of libvirt domains and their virtiofs shares
version_added: 0.1.0
description:
  - Tells for each domain its state, addresses, shares, memory backing, disks, and where virtiofsd logs.
author: keystone contributors (@ncrmro)
extends_documentation_fragment:
  - keystone.virtiofs.options.connection
  - keystone.virtiofs.options.info_attributes
options:
  names:
    description:
      - The domains to tell of; all when not given. One that does not exist is left out.
    type: list
    elements: str
  host_keys:
    description:
      - Also ask the guest agents for the guests' ssh host keys (ed25519), as C(ssh_host_key); it is null where there is
        no answer. Nobody on the network can put in another.
    type: bool
    default: false
seealso:
  - module: keystone.virtiofs.domain
  - module: keystone.virtiofs.host_info
"""

EXAMPLES = r"""
- name: Look at one domain
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
    - The domains by name, with the options of M(keystone.virtiofs.domain) that they have.
    - C(shares) are those of the running domain, C(persistent_shares) those of its definition. C(shared_memory) tells
      whether shares can be added, C(free_ports) how many while it runs.
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
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._apply import task
from ..module_utils._domain import schema


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
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
