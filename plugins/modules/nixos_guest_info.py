#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell what a machine runs, and what has to be done so that it runs a NixOS system."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nixos_guest_info
short_description: What a machine runs, and what makes it run a NixOS system
description:
  - Looks at a machine over ssh and decides what has to be done so that it runs the system O(toplevel).
  - Run it where that system is built. It changes nothing, and fails where nothing may be done, for instance since the
    machine would be wiped without consent.
  - Made for the role P(keystone.virtiofs.nixos_guest#role).
author:
  - keystone contributors (@ncrmro)
attributes:
  check_mode:
    description: It changes nothing.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
extends_documentation_fragment:
  - keystone.virtiofs.guest
options:
  toplevel:
    description:
      - Store path of the wanted system.
    type: path
    required: true
  method:
    description:
      - V(install) with nixos-anywhere, V(switch) an installed NixOS, V(direct) boot of kernel and initrd from the
        host's store. V(auto) takes the one that fits what is found.
    type: str
    choices: [auto, install, switch, direct]
    default: auto
  domain:
    description:
      - State of the machine's libvirt domain. V(none) for a machine that is no VM of this host.
      - Only a machine that runs is looked at.
    type: str
    choices: [none, absent, "off", running]
    default: none
  boots_directly:
    description:
      - Whether the domain boots a system of the host's store.
    type: bool
    default: false
  password:
    description:
      - The ssh password, where no key is let in yet. It needs sshpass.
    type: str
  wipe:
    description:
      - Names of machines that an installation may wipe although they run something else than an installer.
    type: list
    elements: str
    default: []
  reinstall:
    description:
      - Whether an installed NixOS is installed anew.
    type: bool
    default: false
seealso:
  - module: keystone.virtiofs.nixos_switch
"""

EXAMPLES = r"""
- name: See what has to be done
  keystone.virtiofs.nixos_guest_info:
    name: web
    address: 192.168.100.20
    toplevel: /nix/store/4qbav8240fm46l37jzr65md9zi1393rh-nixos-system-web-26.05
  register: web
"""

RETURN = r"""
action:
  description: What has to be done. V(boot) is a direct boot.
  returned: success
  type: str
  sample: switch
reason:
  description: Why.
  returned: success
  type: str
  sample: it runs /nix/store/6c2p0v8rk1zfq7yv4h9b0n5q1m3xwdzs-nixos-system-web-26.05
machine:
  description:
    - What was found. C(current_system), and C(booted_system), the one that it was booted with, are store paths or null;
      C(profile) is the one that it boots next, if it has a choice, and C(registration) what its Nix was told at boot.
  returned: always
  type: dict
  sample:
    reachable: true
    os_id: nixos
    variant_id: ""
    current_system: /nix/store/6c2p0v8rk1zfq7yv4h9b0n5q1m3xwdzs-nixos-system-web-26.05
    booted_system: /nix/store/6c2p0v8rk1zfq7yv4h9b0n5q1m3xwdzs-nixos-system-web-26.05
    profile: /nix/store/6c2p0v8rk1zfq7yv4h9b0n5q1m3xwdzs-nixos-system-web-26.05
    registration: null
"""

from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._errors import VirtiofsError
from ..module_utils._nixos import decision, ssh

# One line for each: what os-release says (a NixOS may have it in ID_LIKE alone), then where the links lead.
_LOOK = """\
[ ! -r /etc/os-release ] || . /etc/os-release
echo "$ID $ID_LIKE"
echo "$VARIANT_ID"
for link in /run/current-system /run/booted-system /nix/var/nix/profiles/system; do
    if [ -e "$link" ]; then readlink -f "$link"; else echo; fi
done
sed 's/.*\\<regInfo=\\([^ ]*\\).*/\\1/; t; d' /proc/cmdline
"""


def look(params: dict[str, Any]) -> decision.Machine:
    domain = {"domain": params["domain"], "boots_directly": params["boots_directly"]}
    if params["domain"] in ("absent", "off"):
        return decision.Machine(**domain)
    try:
        answer = ssh.Connection(ssh.Target.of(params)).check(_LOOK)
    except VirtiofsError as error:
        return decision.Machine(**domain, problem=error.problem, fix=error.fix)
    ids, variant_id, *paths = answer.split("\n")[:6]
    current, booted, profile, registration = (path or None for path in paths)
    return decision.Machine(
        **domain,
        reachable=True,
        os_id="nixos" if "nixos" in ids.split() else ids.split(" ")[0],
        variant_id=variant_id,
        current_system=current,
        booted_system=booted,
        profile=profile,
        registration=registration,
    )


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **ssh.ARGUMENT_SPEC,
            "toplevel": {"type": "path", "required": True},
            "method": {"type": "str", "choices": list(decision.METHODS), "default": "auto"},
            "domain": {"type": "str", "choices": list(decision.DOMAIN_STATES), "default": "none"},
            "boots_directly": {"type": "bool", "default": False},
            "password": {"type": "str", "no_log": True},
            "wipe": {"type": "list", "elements": "str", "default": []},
            "reinstall": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    machine = look(params)
    wanted = decision.Wanted(
        name=params["name"],
        toplevel=params["toplevel"],
        method=params["method"],
        may_wipe=params["name"] in params["wipe"],
        reinstall=params["reinstall"],
    )
    try:
        decided = decision.decide(machine, wanted)
    except VirtiofsError as error:
        module.fail_json(exception=error, machine=asdict(machine), **error.as_result())
    module.exit_json(changed=False, machine=asdict(machine), **asdict(decided))


if __name__ == "__main__":
    main()
