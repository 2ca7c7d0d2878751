#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Install NixOS on a machine with nixos-anywhere."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nixos_anywhere
short_description: Install NixOS on a machine with nixos-anywhere
version_added: 1.0.0
description:
  - Erases the machine's disks. Run M(keystone.virtiofs.nixos_guest_info) first, as the role
    P(keystone.virtiofs.nixos_guest#role) does.
  - Runs nixos-anywhere with a timeout, because it waits indefinitely for an unreachable machine. Its output is written
    to a log that only its owner can read; the password is removed.
  - nixos-anywhere does not check host keys, so O(host_key) and O(known_hosts) have no effect.
author: keystone contributors (@ncrmro)
attributes:
  check_mode:
    description: Returns the command line and runs nothing.
    support: full
  diff_mode:
    description: An installation has no diff.
    support: none
extends_documentation_fragment:
  - keystone.virtiofs._guest
options:
  command:
    description:
      - The command that runs nixos-anywhere.
    type: list
    elements: str
    default: [nixos-anywhere]
  flake:
    description:
      - The system as C(FLAKE#CONFIGURATION).
    type: str
  toplevel:
    description:
      - Store path of the system, together with O(disko_script); an alternative to O(flake).
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
  timeout:
    description:
      - Timeout for the installation in seconds.
    type: int
    default: 3600
  password:
    description:
      - The ssh password of a machine that accepts no key yet. nixos-anywhere then needs sshpass.
    type: str
  phases:
    description:
      - The phases of nixos-anywhere to run. By default all.
    type: list
    elements: str
    choices: [kexec, disko, install, reboot]
  kexec:
    description:
      - A tarball to boot the installer from instead of the default one, as a file or a URL.
    type: str
  post_kexec_ssh_port:
    description:
      - Port of the installer's ssh server after kexec, needed where a port of another machine is forwarded to it. By
        default 22, whatever O(port) is.
    type: int
  build_on:
    description:
      - Where to build the system.
    type: str
    choices: [auto, local, remote]
  hardware_config:
    description:
      - Generate the machine's hardware configuration. Requires O(flake).
    type: dict
    suboptions:
      backend:
        description:
          - The program that generates the configuration.
        type: str
        choices: [nixos-facter, nixos-generate-config]
        required: true
      path:
        description:
          - The file to write.
        type: path
        required: true
  extra_files:
    description:
      - Directory whose content is copied to the root of the new system.
    type: path
  disk_encryption_keys:
    description:
      - Files with keys to copy to the installer.
    type: list
    elements: dict
    suboptions:
      remote:
        description:
          - Path of the file in the installer.
        type: path
        required: true
      local:
        description:
          - Path of the file on the machine that runs the module.
        type: path
        required: true
  copy_host_keys:
    description:
      - Whether the new system keeps the current host keys of the machine.
    type: bool
    default: false
  extra_arguments:
    description:
      - Additional arguments for nixos-anywhere.
    type: list
    elements: str
    default: []
seealso:
  - name: nixos-anywhere
    description: The reference of nixos-anywhere.
    link: https://github.com/nix-community/nixos-anywhere/blob/main/docs/reference.md
"""

EXAMPLES = r"""
- name: Install the system web
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
  returned: when nixos-anywhere was run
  type: list
  elements: str
  sample: ["### Done! ###"]
problem:
  description: What failed, with the end of the log.
  returned: failure
  type: str
  sample: nixos-anywhere did not end within 3600 s; the end of /var/log/keystone-virtiofs/web-install.log
fix:
  description: What to do about the problem; may be empty.
  returned: failure
  type: str
  sample: Install nixos-anywhere, or set command (role variable nixos_guest_anywhere).
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

import shutil
from pathlib import Path
from typing import Any

# Ends on a Python that is too old for the rest.
from ..module_utils import _python  # noqa: F401 pylint: disable=unused-import
from ..module_utils._errors import InvalidInput
from ..module_utils._module import Module
from ..module_utils._nixos import nixos_anywhere, ssh
from ..module_utils._nixos.options import check_options


def install(module: Module) -> dict[str, Any]:
    params = module.params
    check_options(params)
    command = [*params["command"], *nixos_anywhere.arguments(ssh.Target.of(params, module.tmpdir), params)]
    if shutil.which(command[0]) is None:
        raise InvalidInput(
            f"command: {command[0]} is not installed",
            fix="Install nixos-anywhere, or set command (role variable nixos_guest_anywhere).",
        )
    result: dict[str, Any] = {"changed": True, "command": command}
    if module.check_mode:
        return result
    log = Path(params["log"])
    return {**result, "log_end": nixos_anywhere.run(command, log, params["timeout"], params["password"])}


def main() -> None:
    key = {"remote": {"type": "path", "required": True}, "local": {"type": "path", "required": True}}
    hardware = {
        "backend": {"type": "str", "choices": ["nixos-facter", "nixos-generate-config"], "required": True},
        "path": {"type": "path", "required": True},
    }
    module = Module(
        argument_spec={
            **ssh.ARGUMENT_SPEC,
            "command": {"type": "list", "elements": "str", "default": ["nixos-anywhere"]},
            "flake": {"type": "str"},
            "toplevel": {"type": "path"},
            "disko_script": {"type": "path"},
            "log": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 3600},
            "password": {"type": "str", "no_log": True},
            "phases": {"type": "list", "elements": "str", "choices": ["kexec", "disko", "install", "reboot"]},
            "kexec": {"type": "str"},
            "post_kexec_ssh_port": {"type": "int"},
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
    module.run(lambda: install(module))


if __name__ == "__main__":
    main()
