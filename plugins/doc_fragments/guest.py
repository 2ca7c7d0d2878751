# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that reach a guest by ssh."""

from __future__ import annotations


class ModuleDocFragment:
    """Where the guest is."""

    DOCUMENTATION = r"""
options:
  name:
    description:
      - The machine's name. Messages name it, and its host key is looked up under it.
    type: str
    required: true
  address:
    description:
      - Where its ssh server is, as seen from the machine that runs the module. By default O(name).
    type: str
  port:
    description:
      - The ssh server's port.
    type: int
    default: 22
  user:
    description:
      - Who logs in. Anybody but V(root) needs sudo without a password.
    type: str
    default: root
  ssh_key:
    description:
      - File with the private key. By default ssh's own choice.
    type: path
  known_hosts:
    description:
      - File with the host keys. By default ssh's own. Every connection checks the host key, and none asks anything.
    type: path
"""
