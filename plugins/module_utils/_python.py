# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends a module on a Python that is too old. Modules import this before all else, which would fail to load."""

from __future__ import annotations

import json
import sys

OLDEST = (3, 9)


def check() -> None:
    """End with a message, as ansible-core does: AnsibleModule is out of reach until everything has loaded."""
    version = sys.version_info[:2]
    if version < OLDEST:
        found, needed = (".".join(map(str, numbers)) for numbers in (version, OLDEST))
        fix = "Set ansible_python_interpreter to a newer Python of the host."
        problem = (
            f"keystone.virtiofs needs Python {needed} or later on the host, and {sys.executable} is Python {found}"
        )
        result = {"failed": True, "msg": f"{problem}. {fix}", "problem": problem, "fix": fix}
        sys.stdout.write(json.dumps(result))
        raise SystemExit(1)


check()
