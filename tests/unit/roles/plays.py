# SPDX-License-Identifier: GPL-3.0-or-later
"""Run tasks of a role for many hosts at once, all of them this machine: one ansible-playbook for many cases."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

CHECKOUT = Path(__file__).parents[3]
# Of a task, or of an item of its loop.
FAILED = re.compile(r"^(?:fatal: \[([^]]+)\]: [A-Z]+!|failed: \[([^]]+)\] \(item=.*\)) => (.*)$")


class End(NamedTuple):
    """How a host's play ended: the error, empty after a success, and the number of tasks until then."""

    message: str
    tasks: int


def run_tasks(
    directory: Path, tasks: list[dict[str, Any]], hosts: dict[str, dict[str, Any]], *arguments: str
) -> dict[str, End]:
    """``hosts`` has the variables of each host."""
    common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = directory / "inventory.json"
    inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}))
    playbook = directory / "playbook.yml"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = subprocess.run(
        ["ansible-playbook", "--inventory", str(inventory), *arguments, str(playbook)],
        cwd=CHECKOUT,
        env=os.environ | {"ANSIBLE_CALLBACK_RESULT_FORMAT": "json", "ANSIBLE_FORKS": str(len(hosts))},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert "PLAY RECAP" in done.stdout, done.stdout + done.stderr
    return _ends(done.stdout, list(hosts))


def _ends(said: str, hosts: list[str]) -> dict[str, End]:
    ends: dict[str, End] = {}
    tasks = 0
    for line in said.splitlines():
        tasks += line.startswith("TASK [")
        if failed := FAILED.match(line):
            ends.setdefault(failed[1] or failed[2], End(json.loads(failed[3])["msg"], tasks))
    return {host: ends.get(host, End("", tasks)) for host in hosts}
