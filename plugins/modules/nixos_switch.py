#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Switch a guest to another NixOS system. The guest rolls back by itself unless it is reached afterwards."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nixos_switch
short_description: Switch a guest to a NixOS system, with automatic rollback
version_added: 1.0.0
description:
  - Run it on the guest's host, where the system O(toplevel) is built.
  - If the guest sees the whole system in the share of its host's store, the store paths are registered in the guest's
    Nix database and nothing is copied. Otherwise the system is copied over ssh.
  - The activation runs as a unit of the guest, so it survives a lost connection. If the activation fails, or if this
    module does not reach the guest over a new connection within O(confirmation_timeout), the guest activates its
    previous system again by itself. The same happens if the new system cannot be made the boot default.
  - The new system becomes the boot default only after the confirmation. A power cut before that boots the previous
    system.
author: keystone contributors (@ncrmro)
attributes:
  check_mode:
    description: Predicts whether the guest would be switched.
    support: full
  diff_mode:
    description: Shows the two systems.
    support: full
extends_documentation_fragment:
  - keystone.virtiofs._guest
options:
  toplevel:
    description:
      - Store path of the system.
    type: path
    required: true
  activation_timeout:
    description:
      - Timeout for the activation in seconds.
    type: int
    default: 600
  confirmation_timeout:
    description:
      - How long the guest waits to be reached after the activation, in seconds.
    type: int
    default: 60
  restart:
    description:
      - Whether the guest is restarted if O(toplevel) needs other file systems from stage 1 than the booted system has
        mounted, which is the case when a system is the first one with the module C(virtiofs-guest), or the first one
        without. A switch would stop all services of the guest.
      - With V(never), such a system is refused. With V(if_required), the system becomes the boot default and the guest
        is restarted. A guest that does not come back must be rolled back in its boot loader.
    type: str
    choices: [never, if_required]
    default: never
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
  description: Number of store paths that were registered in the guest's Nix database because the share already provides
    them.
  returned: when the guest was switched
  type: int
  sample: 812
copied:
  description: Number of store paths of a system that was copied; 0 if nothing was copied.
  returned: when the guest was switched
  type: int
  sample: 0
failed_units:
  description: Units that failed to start although the switch succeeded. A warning names them, too.
  returned: when the guest was switched
  type: str
  sample: ""
log:
  description: Output of switch-to-configuration.
  returned: when the guest was switched, or has rolled back
  type: str
  sample: activating the configuration...
problem:
  description: What failed, and which system the guest runs.
  returned: failure
  type: str
  sample: "web: the guest was not reached within 60 s of the activation of /nix/store/..., and the guest rolled back"
fix:
  description: What to do about the problem; may be empty.
  returned: failure
  type: str
  sample: Increase activation_timeout (role variable nixos_guest_activation_timeout).
failed_domain:
  description: The domain that the problem concerns; null if it concerns none in particular.
  returned: failure
  type: str
  sample: null
failed_share:
  description: The mount tag of the share that the problem concerns; null if it concerns none in particular.
  returned: failure
  type: str
  sample: null
"""

from dataclasses import asdict
from typing import Any

# Ends on a Python that is too old for the rest.
from ..module_utils import _python  # noqa: F401 pylint: disable=unused-import
from ..module_utils._errors import InvalidInput
from ..module_utils._module import Module
from ..module_utils._nixos import ssh
from ..module_utils._nixos.inspection import needs_restart
from ..module_utils._nixos.options import check_options
from ..module_utils._nixos.switch import Provided, Systems, Timeouts, activate, provide, restart


def switch(module: Module) -> dict[str, Any]:
    params = module.params
    check_options(params)
    guest, toplevel = ssh.Connection(ssh.Target.of(params, module.tmpdir)), params["toplevel"]
    systems = Systems.of(guest, toplevel)
    must_restart = needs_restart(systems.booted_fstab, toplevel)
    if must_restart and params["restart"] == "never":
        raise InvalidInput(
            f"{params['name']}: {toplevel} needs other file systems than stage 1 of the booted system has mounted, and"
            " a switch would stop all services of the guest",
            fix="Set restart (role variable nixos_guest_restart) to if_required, to restart the guest into the system.",
        )
    result = {
        "changed": {systems.current, systems.boot_default} != {toplevel},
        "previous": systems.current,
        "diff": {"before": f"{systems.current}\n", "after": f"{toplevel}\n"},
    }
    if module.check_mode or not result["changed"]:
        return result
    provided = Provided() if systems.is_valid else provide(guest, toplevel)
    timeouts = Timeouts(params["activation_timeout"], params["confirmation_timeout"])
    run = restart if must_restart else activate
    status = run(guest, toplevel, systems.rollback_target(toplevel), timeouts)
    if status.failed_units:
        module.warn(f"{params['name']} runs {toplevel}, but these units failed: {status.failed_units}")
    return {**result, **asdict(provided), "failed_units": status.failed_units, "log": status.log}


def main() -> None:
    module = Module(
        argument_spec={
            **ssh.ARGUMENT_SPEC,
            "toplevel": {"type": "path", "required": True},
            "activation_timeout": {"type": "int", "default": 600},
            "confirmation_timeout": {"type": "int", "default": 60},
            "restart": {"type": "str", "choices": ["never", "if_required"], "default": "never"},
        },
        supports_check_mode=True,
    )
    module.run(lambda: switch(module))


if __name__ == "__main__":
    main()
