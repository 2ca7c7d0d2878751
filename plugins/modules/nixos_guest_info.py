#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Find out what a machine runs, and what must be done so that it runs a NixOS system."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nixos_guest_info
short_description: Gather information about a NixOS guest and what makes it run a system
version_added: 1.0.0
description:
  - Inspects a machine and its libvirt domain, and decides what must be done so that the machine runs the system
    O(toplevel).
  - Run it where the system is built. It changes nothing. It fails if no action is permitted, for example because the
    machine would be erased without consent.
  - Made for the role P(keystone.virtiofs.nixos_guest#role).
author: keystone contributors (@ncrmro)
attributes:
  check_mode:
    description: Never changes anything.
    support: full
  diff_mode:
    description: Nothing is ever changed.
    support: N/A
extends_documentation_fragment:
  - keystone.virtiofs._guest
  - keystone.virtiofs._options.connection
options:
  toplevel:
    description:
      - Store path of the requested system.
    type: path
    required: true
  method:
    description:
      - V(install) installs with nixos-anywhere, V(switch) switches an installed NixOS, V(direct) boots kernel and
        initrd from the host's store. V(auto) chooses the method that fits the machine.
    type: str
    choices: [auto, install, switch, direct]
    default: auto
  domain:
    description:
      - Name of the machine's libvirt domain. Omit this option for a machine that is not a VM of this host.
      - A machine with an O(address) whose domain does not exist counts as not a VM of this host.
    type: str
  address:
    description:
      - Address of the ssh server, as seen from the machine that runs the module. By default the address that libvirt
        reports for O(domain), otherwise O(name).
    type: str
  port:
    description:
      - Port of the ssh server. By default the port of the host that O(domain) forwards to it, otherwise 22.
    type: int
  host_key:
    description:
      - The ssh host key of the machine, C(TYPE KEY). By default the key that the guest agent of a running O(domain)
        reports (ed25519), otherwise the key in O(known_hosts).
    type: str
  password:
    description:
      - The ssh password of a machine that accepts no key yet. Requires sshpass.
    type: str
  wipe:
    description:
      - Names of machines that an installation may erase although they run another system than a NixOS installer.
    type: list
    elements: str
    default: []
  reinstall:
    description:
      - Whether to reinstall an installed NixOS.
    type: bool
    default: false
seealso:
  - module: keystone.virtiofs.nixos_switch
  - module: keystone.virtiofs.nixos_anywhere
  - module: keystone.virtiofs.domain_info
"""

EXAMPLES = r"""
- name: Find out what makes a VM run the system
  keystone.virtiofs.nixos_guest_info:
    name: web
    domain: web
    toplevel: /nix/store/4qbav8240fm46l37jzr65md9zi1393rh-nixos-system-web-26.05
  register: plan

- name: The same for a machine that is not a VM of this host
  keystone.virtiofs.nixos_guest_info:
    name: printer
    address: 192.168.100.20
    toplevel: /nix/store/4qbav8240fm46l37jzr65md9zi1393rh-nixos-system-web-26.05
"""

RETURN = r"""
action:
  description: What must be done; V(none), V(boot) (directly, from the host's store), V(install) or V(switch).
  returned: success
  type: str
  sample: switch
reason:
  description: The reason for the action.
  returned: success
  type: str
  sample: the guest runs /nix/store/6c2p0v8rk1zfq7yv4h9b0n5q1m3xwdzs-nixos-system-web-26.05
direct_boot:
  description: Whether the domain boots directly from the host's store, so that its kernel and initrd must be those of
    O(toplevel).
  returned: success
  type: bool
  sample: false
vm:
  description:
    - The domain as M(keystone.virtiofs.domain_info) returns it; C(direct_system) is the store path of the system that
      the domain boots directly, or null. C(state) is V(absent) if the domain does not exist.
    - null for a machine that is not a VM of this host.
  returned: always, unless libvirt fails
  type: dict
  sample:
    name: web
    state: running
    direct_system: null
    addresses: [192.168.100.20]
    ssh: {host: 192.168.100.20, port: 22}
address:
  description: Address of the ssh server.
  returned: always, unless libvirt fails
  type: str
  sample: 192.168.100.20
port:
  description: Port of the ssh server.
  returned: always, unless libvirt fails
  type: int
  sample: 22
host_key:
  description: The ssh host key that O(host_key) or the guest agent names; null if only O(known_hosts) has it.
  returned: always, unless libvirt fails
  type: str
  sample: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2cBXq3M6Ybq1nq8hVYQ1sK7nRkP5b9Xw2m4c6d8e0f
machine:
  description: What the machine runs. A domain that does not run is not inspected.
  returned: always, unless libvirt fails
  type: dict
  contains:
    reachable:
      description: Whether the machine was inspected over ssh.
      type: bool
    problem:
      description: Why the machine is not reachable; empty if it is.
      type: str
    fix:
      description: What to do about that problem.
      type: str
    os_id:
      description: C(ID) of its C(/etc/os-release).
      type: str
    variant_id:
      description: C(VARIANT_ID) of its C(/etc/os-release).
      type: str
    current_system:
      description: Store path of the system that it runs, or null.
      type: str
    booted_system:
      description: Store path of the system that it ran after the boot, or null.
      type: str
    profile:
      description: Store path of the boot default; null for a system without one.
      type: str
    registration:
      description: Store path with the registration that Nix loaded at boot, or null.
      type: str
    uuid:
      description: UUID of its firmware, null without SMBIOS. A machine with another UUID than its domain is refused.
      type: str
    needs_restart:
      description: Whether O(toplevel) needs other file systems than stage 1 of the booted system has mounted.
      type: bool
  sample:
    reachable: true
    problem: ""
    fix: ""
    os_id: nixos
    variant_id: ""
    current_system: /nix/store/6c2p0v8rk1zfq7yv4h9b0n5q1m3xwdzs-nixos-system-web-26.05
    booted_system: /nix/store/6c2p0v8rk1zfq7yv4h9b0n5q1m3xwdzs-nixos-system-web-26.05
    profile: /nix/store/6c2p0v8rk1zfq7yv4h9b0n5q1m3xwdzs-nixos-system-web-26.05
    registration: null
    uuid: 0d6ac5ab-5e0f-4b3b-9f6e-2f8f5f7f3a11
    needs_restart: false
problem:
  description: Why no action is permitted, or what failed.
  returned: failure
  type: str
  sample: "web runs debian; an installation would erase its disks"
fix:
  description: What to do about the problem; may be empty.
  returned: failure
  type: str
  sample: "To allow this, list the machine in wipe (role variable nixos_guest_wipe): [web]."
failed_domain:
  description: The domain that the problem concerns; null if it concerns none in particular.
  returned: failure
  type: str
  sample: web
failed_share:
  description: The mount tag of the share that the problem concerns; null if it concerns none in particular.
  returned: failure
  type: str
  sample: null
libvirt_code:
  description: Error code of libvirt.
  returned: failure of libvirt
  type: int
  sample: 38
libvirt_message:
  description: Error message of libvirt.
  returned: failure of libvirt
  type: str
  sample: "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory"
"""

from dataclasses import asdict
from typing import Any

# Ends on a Python that is too old for the rest.
from ..module_utils import _python  # noqa: F401 pylint: disable=unused-import
from ..module_utils._apply import task
from ..module_utils._apply.controller import Controller
from ..module_utils._domain import schema
from ..module_utils._errors import VirtiofsError, WaitTimeout
from ..module_utils._module import Module
from ..module_utils._nixos import decision, ssh
from ..module_utils._nixos.inspection import inspect
from ..module_utils._nixos.options import check_options
from ..module_utils._waiting import wait_until

# The guest agent may start after the ssh server.
AGENT_TIMEOUT = 15.0


def find_domain(module: Module) -> tuple[dict[str, Any] | None, str | None]:
    """The facts of the machine's domain, if it has one, and the host key that its guest agent reports."""
    name = module.params["domain"]
    if not name:
        return None, None
    task.require_libraries(module)
    with task.connect(module, check_mode=True) as controller:
        facts = controller.describe_domains([name]).get(name, {"name": name, "state": "absent"})
        is_asked = facts["state"] == "running" and not module.params["host_key"]
        return facts, ask_host_key(controller, name) if is_asked else None


def ask_host_key(controller: Controller, name: str) -> str | None:
    """The host key that the guest agent reports; None if no agent answers."""
    try:
        return wait_until(lambda: controller.ask_host_key(name), AGENT_TIMEOUT, lambda: WaitTimeout("no answer"))
    except WaitTimeout:
        return None


def gather(module: Module, result: dict[str, Any]) -> None:
    """Fill in the result step by step, so that a failure returns what was found until then."""
    params = module.params
    check_options(params)
    facts, agents_key = find_domain(module)
    vm = decision.Vm.of(facts, params)
    endpoint = asdict(decision.Endpoint.of(params, vm, agents_key))
    result.update(endpoint, vm={**facts, "direct_system": vm.direct_system} if facts and vm else None)
    target = ssh.Target.of({**params, **endpoint}, module.tmpdir)
    is_off = vm is not None and not vm.is_running
    machine = decision.Machine() if is_off else inspect(ssh.Connection(target), params["toplevel"])
    result["machine"] = asdict(machine)
    request = decision.SystemRequest(
        name=params["name"],
        toplevel=params["toplevel"],
        method=params["method"],
        may_wipe=params["name"] in params["wipe"],
        reinstall=params["reinstall"],
    )
    result.update(asdict(decision.decide(vm, machine, request)))


def main() -> None:
    module = Module(
        argument_spec={
            **ssh.ARGUMENT_SPEC,
            **schema.argument_spec((schema.URI,)),
            "toplevel": {"type": "path", "required": True},
            "method": {"type": "str", "choices": list(decision.METHODS), "default": "auto"},
            "domain": {"type": "str"},
            "password": {"type": "str", "no_log": True},
            "wipe": {"type": "list", "elements": "str", "default": []},
            "reinstall": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    result: dict[str, Any] = {"changed": False}
    try:
        gather(module, result)
    except VirtiofsError as error:
        module.fail_json(exception=error, **{**result, **error.as_result()})
    module.exit_json(**result)


if __name__ == "__main__":
    main()
