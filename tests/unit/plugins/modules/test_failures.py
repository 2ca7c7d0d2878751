# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed module returns, whether the collection or Ansible itself has found the problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.keystone.virtiofs.plugins.modules import domain, host_info

Run = Callable[..., dict[str, Any]]


def test_the_message_of_a_failure_contains_the_fix(run: Run) -> None:
    by_module = run(host_info, uri="qemu+ssh://other/system")
    by_ansible = run(domain, name="vm", memory="much")
    for result, fix in ((by_module, "Run the task on that machine."), (by_ansible, "Correct the option")):
        assert result["fix"].startswith(fix)
        assert result["msg"] == f"{result['problem']}. {result['fix']}"
        assert (result["failed_domain"], result["failed_share"]) == (None, None)
