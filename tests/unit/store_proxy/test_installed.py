# SPDX-License-Identifier: GPL-3.0-or-later
"""The role host installs every file of the store proxy."""

from __future__ import annotations

import re
from pathlib import Path

ROLE = Path(__file__).parents[3] / "roles/host"


def test_the_role_lists_every_module_and_every_unit() -> None:
    listed = re.findall(r"lookup\('ansible.builtin.file', '(.+?)'", (ROLE / "tasks/live_store.yml").read_text())
    modules = [f"keystone_store_proxy/{path.name}" for path in (ROLE / "files/keystone_store_proxy").glob("*.py")]
    of_others = ("keystone-store-builder.", "keystone-store-views.")
    units = [path.name for path in (ROLE / "files").glob("keystone-store-*.s*") if not path.name.startswith(of_others)]
    assert sorted(listed) == sorted(modules + units)
