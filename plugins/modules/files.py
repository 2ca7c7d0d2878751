#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Install several small files and symbolic links at once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Install several small files and symbolic links at once
version_added: 1.0.0
description:
  - Does for many files in one call what C(ansible.builtin.copy) and C(ansible.builtin.file) do with two calls for each.
  - A file changes in one step, also if the run is killed, and keeps its owner. Missing parent directories are created.
  - Nothing is changed if one of the paths cannot be read, or is a directory.
author: keystone contributors (@ncrmro)
attributes:
  check_mode:
    description: Predicts which files change.
    support: full
  diff_mode:
    description: Shows mode and content of each file that changes.
    support: full
options:
  files:
    description:
      - The files and links, installed in this order.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description:
          - Path of the file or link.
        type: path
        required: true
      content:
        description:
          - Content of the file. Not for secrets, because the verbose output of Ansible shows it.
        type: str
      mode:
        description:
          - Mode of the file, in octal.
        type: str
        default: "0644"
      target:
        description:
          - Target of a symbolic link, in place of C(content).
        type: str
seealso:
  - name: ansible.builtin.copy
    description: Copies a file of any size, and sets its owner.
    link: https://docs.ansible.com/ansible/latest/collections/ansible/builtin/copy_module.html
"""

EXAMPLES = r"""
- name: Install a service and let it start at boot
  keystone.virtiofs.files:
    files:
      - path: /etc/systemd/system/example.service
        content: "{{ lookup('ansible.builtin.file', 'example.service', rstrip=false) }}"
      - path: /etc/systemd/system/multi-user.target.wants/example.service
        target: /etc/systemd/system/example.service
"""

RETURN = r"""
paths:
  description: Paths of the files and links that changed.
  returned: success
  type: list
  elements: str
  sample: [/etc/systemd/system/example.service]
problem:
  description: What failed. C(msg) combines it with RV(fix).
  returned: failure
  type: str
  sample: "/etc/example.service: Permission denied"
fix:
  description: What to do about the problem; may be empty.
  returned: failure
  type: str
  sample: Make the path accessible to the user of the task, or choose another path.
failed_domain:
  description: Always null, because a file does not belong to a domain.
  returned: failure
  type: str
  sample: null
failed_share:
  description: Always null, because a file does not belong to a share.
  returned: failure
  type: str
  sample: null
"""

# Ends on a Python that is too old for the rest.
from ..module_utils import _python  # noqa: F401 pylint: disable=unused-import
from ..module_utils._host import installing
from ..module_utils._module import Module


def main() -> None:
    """Run the module."""
    module = Module(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str"},
                    "mode": {"type": "str", "default": "0644"},
                    "target": {"type": "str"},
                },
                "mutually_exclusive": [["content", "target"]],
                "required_one_of": [["content", "target"]],
            }
        },
        supports_check_mode=True,
    )
    module.run(lambda: installing.manage(module.params["files"], module.check_mode))


if __name__ == "__main__":
    main()
