#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Manage a virtual network of libvirt."""

from __future__ import annotations

DOCUMENTATION = r"""
module: network
short_description: Manage a virtual network of libvirt
version_added: 1.0.0
description:
  - Creates a network with NAT, DHCP and DNS for domains, or starts an existing network. The network then starts with
    the host.
  - An active network is not changed. A new network that cannot be started is removed again.
  - Several tasks on one host may create or remove the same network at the same time.
  - The role P(keystone.virtiofs.vm#role) creates the network C(vm_network), and removes it with the last VM.
author: keystone contributors (@ncrmro)
extends_documentation_fragment:
  - keystone.virtiofs._options.connection
attributes:
  check_mode:
    description:
      - Predicts whether the network is created, started or removed. Whether the service C(keystone-firewall) runs and
        whether libvirt can start the network is not checked.
    support: full
  diff_mode:
    description: Shows the facts of the network, before and after.
    support: full
  platform:
    description: Where the module runs.
    platforms: linux
    support: full
options:
  name:
    description: Name of the network.
    type: str
    required: true
  state:
    description:
      - V(present) provides an active network.
      - V(absent) removes a network that this module created and that no domain uses. Other networks are left as they
        are.
    type: str
    choices: [present, absent]
    default: present
  prefix:
    description:
      - The first three bytes of the addresses in a new network, for example V(192.168.100). By default the first of
        V(192.168.100) to V(192.168.199) that no other network and no route of the host covers.
      - An existing network keeps its addresses; if they differ, the task fails.
    type: str
  firewall:
    description:
      - Whether guests of a new network reach no service of the host, at none of its addresses, except DHCP and DNS of
        the network. The service C(keystone-firewall), which the role P(keystone.virtiofs.host#role) installs on hosts
        with systemd, has the rules, and must run.
      - An existing network keeps its bridge, to whose name the rules apply.
    type: bool
    default: true
  ignore_domains:
    description:
      - Domains that do not keep O(state=absent) from removing the network, for instance because an earlier task in
        check mode has only predicted their removal.
    type: list
    elements: str
seealso:
  - module: keystone.virtiofs.domain
"""

EXAMPLES = r"""
- name: Provide a network for domains
  keystone.virtiofs.network:
    name: keystone-net
    firewall: false
  register: provided

- name: Show the addresses of the network
  ansible.builtin.debug:
    msg: "{{ provided.network.addresses }}"

- name: Remove the network, unless a domain uses the network
  keystone.virtiofs.network:
    name: keystone-net
    state: absent
"""

RETURN = r"""
network:
  description:
    - Facts of the network after the task, in check mode as predicted; null if the network does not exist.
  returned: success
  type: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: keystone-net
    active:
      description: Whether the network is active.
      type: bool
      sample: true
    autostart:
      description: Whether the network starts with the host.
      type: bool
      sample: true
    managed:
      description: Whether this collection created the network.
      type: bool
      sample: true
    addresses:
      description: The host's addresses in the network, each with the size of the network.
      type: list
      elements: str
      sample: [192.168.100.1/24]
problem:
  description: What failed. C(msg) combines it with RV(fix).
  returned: failure
  type: str
  sample: "prefix: network keystone-net exists and has other addresses than 10.20.30"
fix:
  description: What to do about the problem; may be empty.
  returned: failure
  type: str
  sample: Omit prefix (role variable vm_network_prefix).
failed_domain:
  description: Always null, because a network does not belong to a domain.
  returned: failure
  type: str
  sample: null
failed_share:
  description: Always null, because a network does not belong to a share.
  returned: failure
  type: str
  sample: null
libvirt_code:
  description: Error code of libvirt.
  returned: failure of libvirt
  type: int
  sample: 1
libvirt_message:
  description: Error message of libvirt.
  returned: failure of libvirt
  type: str
  sample: "internal error: Network is already in use by interface virbr1"
"""

# Ends on a Python that is too old for the rest.
from ..module_utils import _python  # noqa: F401 pylint: disable=unused-import
from ..module_utils._apply import task
from ..module_utils._domain import schema
from ..module_utils._module import Module


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec=schema.argument_spec((*schema.OF_NETWORK, schema.URI)),
        supports_check_mode=True,
    )
    task.run(module, lambda controller: controller.apply_network(module.params))


if __name__ == "__main__":
    main()
