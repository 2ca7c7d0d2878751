# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that reach a guest over ssh."""

from __future__ import annotations


class ModuleDocFragment:
    """Where the guest is."""

    DOCUMENTATION = r"""
options:
  name:
    description:
      - Name of the machine, used in messages and to look up the host key.
    type: str
    required: true
  address:
    description:
      - Address of the ssh server, as seen from the machine that runs the module. By default O(name).
    type: str
  port:
    description:
      - Port of the ssh server. By default 22.
    type: int
  user:
    description:
      - Login user. Users other than V(root) need passwordless sudo.
    type: str
    default: root
  ssh_key:
    description:
      - File with the private key. By default ssh's own choice.
    type: path
  host_key:
    description:
      - The ssh host key of the machine, C(TYPE KEY). By default the key in O(known_hosts).
    type: str
  known_hosts:
    description:
      - File with host keys. By default ssh's own files. Host keys are always checked, without prompting.
    type: path
attributes:
  platform:
    description: Where the module runs.
    platforms: linux
    support: full
"""
