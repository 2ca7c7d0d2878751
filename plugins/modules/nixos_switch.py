#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Switch a guest to another NixOS system; it goes back by itself when nobody reaches it afterwards."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nixos_switch
short_description: Switch a guest to a NixOS system, with a way back
description:
  - Run it on the guest's host, where the system O(toplevel) is built.
  - Where the guest sees the whole system already, through the share of its host's store, the guest's Nix is told of it
    and nothing is copied. Otherwise it is copied over ssh.
  - The activation runs as a unit of the guest, so it outlives the connection. Unless this module reaches the guest over
    a new connection within O(confirmation_limit), or when the activation fails, the guest activates its previous system
    again by itself. So it does when the new one cannot be made the one to boot next.
  - The new system is the one to be booted next only after that. A power cut before leaves the previous one.
author:
  - keystone contributors (@ncrmro)
attributes:
  check_mode:
    description: Tells whether the guest would be switched.
    support: full
  diff_mode:
    description: Shows the two systems.
    support: full
extends_documentation_fragment:
  - keystone.virtiofs.guest
options:
  toplevel:
    description:
      - Store path of the system.
    type: path
    required: true
  activation_limit:
    description:
      - How long the activation may take, in seconds.
    type: int
    default: 600
  confirmation_limit:
    description:
      - How long after the activation the guest waits to be reached, in seconds.
    type: int
    default: 60
seealso:
  - module: keystone.virtiofs.nixos_guest_info
"""

EXAMPLES = r"""
- name: Switch the guest
  keystone.virtiofs.nixos_switch:
    name: web
    address: 192.168.100.20
    toplevel: /nix/store/4qbav8240fm46l37jzr65md9zi1393rh-nixos-system-web-26.05
"""

RETURN = r"""
previous:
  description: The system that the guest ran before.
  returned: success
  type: str
  sample: /nix/store/6c2p0v8rk1zfq7yv4h9b0n5q1m3xwdzs-nixos-system-web-26.05
registered:
  description: How many store paths the guest's Nix was told of, because they are in the share.
  returned: when it was switched
  type: int
  sample: 812
copied:
  description: How many store paths the copied system consists of; 0 when nothing was copied.
  returned: when it was switched
  type: int
  sample: 0
failed_units:
  description: Units that did not start. The switch itself went well, and a warning names them.
  returned: when it was switched
  type: str
  sample: ""
log:
  description: What switch-to-configuration said.
  returned: when it was activated
  type: str
  sample: activating the configuration...
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._errors import VirtiofsError
from ..module_utils._nixos import ssh
from ..module_utils._nixos.switch import Provided, Systems, activate, provide


def switch(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    guest, toplevel = ssh.Connection(ssh.Target.of(params)), params["toplevel"]
    systems = Systems.of(guest, toplevel)
    result = {
        "changed": {systems.current, systems.booted_next} != {toplevel},
        "previous": systems.current,
        "diff": {"before": f"{systems.current}\n", "after": f"{toplevel}\n"},
    }
    if module.check_mode or not result["changed"]:
        return result
    provided = Provided() if systems.is_valid else provide(guest, toplevel)
    limits = (params["activation_limit"], params["confirmation_limit"])
    seen = activate(guest, toplevel, systems.way_back(toplevel), *limits)
    if seen.failed_units:
        module.warn(f"{params['name']} runs {toplevel}, and these units failed: {seen.failed_units}")
    return {**result, **asdict(provided), "failed_units": seen.failed_units, "log": seen.log}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **ssh.ARGUMENT_SPEC,
            "toplevel": {"type": "path", "required": True},
            "activation_limit": {"type": "int", "default": 600},
            "confirmation_limit": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        result = switch(module)
    except VirtiofsError as error:
        module.fail_json(exception=error, **error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
