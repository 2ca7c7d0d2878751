#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Install NixOS on a machine with nixos-anywhere."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nixos_anywhere
short_description: Install NixOS on a machine with nixos-anywhere
description:
  - Wipes the machine. Ask M(keystone.virtiofs.nixos_guest_info) before, which is what the role
    P(keystone.virtiofs.nixos_guest#role) does.
  - Runs nixos-anywhere with a limit, since it waits for ever for a machine that it does not reach, and keeps its
    output, line by line as it comes and without the password, in a log that only its owner may read.
  - nixos-anywhere does not check host keys, and no option makes it do so.
author:
  - keystone contributors (@ncrmro)
attributes:
  check_mode:
    description: Returns the command line and runs nothing.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
extends_documentation_fragment:
  - keystone.virtiofs.guest
options:
  command:
    description:
      - How nixos-anywhere is run.
    type: list
    elements: str
    default: [nixos-anywhere]
  flake:
    description:
      - The system as C(FLAKE#CONFIGURATION).
    type: str
  toplevel:
    description:
      - Store path of the system, with O(disko_script) instead of O(flake).
    type: path
  disko_script:
    description:
      - Store path of the script that partitions the disks.
    type: path
  log:
    description:
      - File for the output.
    type: path
    required: true
  limit:
    description:
      - How long it may take, in seconds.
    type: int
    default: 3600
  password:
    description:
      - The ssh password, where no key is let in yet. nixos-anywhere then needs sshpass.
    type: str
  phases:
    description:
      - Which of its phases it runs; all when not given.
    type: list
    elements: str
    choices: [kexec, disko, install, reboot]
  kexec:
    description:
      - Another tarball to boot the installer from, a file or a URL.
    type: str
  post_kexec_port:
    description:
      - Port of the installer's ssh server after kexec, where a port of another machine is forwarded to it. By default
        22, whatever O(port) is.
    type: int
  build_on:
    description:
      - Where the system is built.
    type: str
    choices: [auto, local, remote]
  hardware_config:
    description:
      - Have the machine's hardware configuration generated; needs O(flake).
    type: dict
    suboptions:
      backend:
        description:
          - What generates it.
        type: str
        choices: [nixos-facter, nixos-generate-config]
        required: true
      path:
        description:
          - The file it is written to.
        type: path
        required: true
  extra_files:
    description:
      - Directory whose content is copied to the root of the new system.
    type: path
  disk_encryption_keys:
    description:
      - Files with keys that are given to the installer.
    type: list
    elements: dict
    suboptions:
      remote:
        description:
          - Where the installer finds it.
        type: path
        required: true
      local:
        description:
          - Where it is now.
        type: path
        required: true
  copy_host_keys:
    description:
      - Whether the new system keeps the host keys that the machine has now.
    type: bool
    default: false
  extra_arguments:
    description:
      - More arguments for nixos-anywhere.
    type: list
    elements: str
    default: []
seealso:
  - name: nixos-anywhere
    description: Its own reference.
    link: https://github.com/nix-community/nixos-anywhere/blob/main/docs/reference.md
"""

EXAMPLES = r"""
- name: Install
  keystone.virtiofs.nixos_anywhere:
    name: web
    address: 192.168.100.20
    flake: /etc/nixos#web
    log: /var/log/keystone-virtiofs/web-install.log
"""

RETURN = r"""
command:
  description: The command line.
  returned: success
  type: list
  elements: str
  sample: [nixos-anywhere, --flake, "/etc/nixos#web", --target-host, root@192.168.100.20, --ssh-port, "22"]
log_end:
  description: The last lines of the log.
  returned: when it has run
  type: list
  elements: str
  sample: ["### Done! ###"]
"""

import shutil
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._errors import InvalidInput, VirtiofsError
from ..module_utils._nixos import nixos_anywhere, ssh


def install(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    command = [*params["command"], *nixos_anywhere.arguments(ssh.Target.of(params), params)]
    if shutil.which(command[0]) is None:
        raise InvalidInput(
            f"{command[0]} is not there",
            fix="Install nixos-anywhere, run this in the flake's development shell, or set nixos_guest_anywhere.",
        )
    result: dict[str, Any] = {"changed": True, "command": command}
    if check_mode:
        return result
    log = Path(params["log"])
    return {**result, "log_end": nixos_anywhere.run(command, log, params["limit"], params["password"])}


def main() -> None:
    key = {"remote": {"type": "path", "required": True}, "local": {"type": "path", "required": True}}
    hardware = {
        "backend": {"type": "str", "choices": ["nixos-facter", "nixos-generate-config"], "required": True},
        "path": {"type": "path", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            **ssh.ARGUMENT_SPEC,
            "command": {"type": "list", "elements": "str", "default": ["nixos-anywhere"]},
            "flake": {"type": "str"},
            "toplevel": {"type": "path"},
            "disko_script": {"type": "path"},
            "log": {"type": "path", "required": True},
            "limit": {"type": "int", "default": 3600},
            "password": {"type": "str", "no_log": True},
            "phases": {"type": "list", "elements": "str", "choices": ["kexec", "disko", "install", "reboot"]},
            "kexec": {"type": "str"},
            "post_kexec_port": {"type": "int"},
            "build_on": {"type": "str", "choices": ["auto", "local", "remote"]},
            "hardware_config": {"type": "dict", "options": hardware},
            "extra_files": {"type": "path"},
            "disk_encryption_keys": {"type": "list", "elements": "dict", "options": key, "no_log": False},
            "copy_host_keys": {"type": "bool", "default": False},
            "extra_arguments": {"type": "list", "elements": "str", "default": []},
        },
        mutually_exclusive=[("flake", "toplevel"), ("hardware_config", "toplevel")],
        required_one_of=[("flake", "toplevel")],
        required_together=[("toplevel", "disko_script")],
        supports_check_mode=True,
    )
    try:
        result = install(module.params, module.check_mode)
    except VirtiofsError as error:
        module.fail_json(exception=error, **error.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
