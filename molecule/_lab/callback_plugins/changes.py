# SPDX-License-Identifier: GPL-3.0-or-later
"""Append what each run of ansible-playbook changed, or in check mode would change, to the file in KEYSTONE_CHANGES.

One line of JSON per run: {"check": false, "changed": ["HOST: TASK", ...], "actions": {"HOST: TASK": [...]}}.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: changes
type: notification
short_description: Record what runs change
description:
  - For tests that compare runs.
"""


class CallbackModule(CallbackBase):
    """The plugin, under the name that Ansible looks for."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "changes"

    def __init__(self) -> None:
        super().__init__()
        self._changed: list[str] = []
        self._actions: dict[str, list[str]] = {}

    def v2_runner_on_ok(self, result: Any) -> None:
        task = f"{result.host.get_name()}: {result.task.get_name()}"
        if result.result.get("changed"):
            self._changed.append(task)
        for one in (result.result, *result.result.get("domains", {}).values()):
            if "actions" in one:
                self._actions[task] = self._actions.get(task, []) + one["actions"]

    def v2_playbook_on_stats(self, stats: Any) -> None:
        # Ansible also loads this plugin for the playbooks of the lab, in scenarios that record nothing.
        if "KEYSTONE_CHANGES" not in os.environ:
            return
        run = {"check": context.CLIARGS["check"], "changed": self._changed, "actions": self._actions}
        with Path(os.environ["KEYSTONE_CHANGES"]).open("a") as record:
            record.write(json.dumps(run) + "\n")
