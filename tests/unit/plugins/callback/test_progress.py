# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress and changes of real runs of ansible-playbook, whose output goes to pipes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.keystone.virtiofs.plugins.callback import progress

CHECKOUT = Path(__file__).parents[4]
LIMIT = 600  # seconds; the machine may be busy


def start(
    folder: Path, play: dict[str, Any], interval: float, *arguments: str, errors: int = subprocess.PIPE
) -> subprocess.Popen[str]:
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {"all": {"hosts": {"web": None, "database": None}, "vars": local}}
    (folder / "inventory.yml").write_text(yaml.safe_dump(inventory))
    (folder / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, **play}]))
    environment = {
        "ANSIBLE_CALLBACKS_ENABLED": "keystone.virtiofs.progress",
        "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".ansible/collections"),
        "KEYSTONE_PROGRESS_INTERVAL": str(interval),
    }
    return subprocess.Popen(
        ["ansible-playbook", "--inventory", "inventory.yml", *arguments, "play.yml"],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONUNBUFFERED": ""},
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
    )


def without_times(text: str) -> str:
    return re.sub(r"\d:\d\d:\d\d", "H:MM:SS", text)


def test_a_run_is_reported_while_it_lasts_and_when_it_ends(tmp_path: Path) -> None:
    changed_on_web = {"changed_when": "inventory_hostname == 'web'"}
    tasks = [
        {
            "name": "Wait \x1b[2J\nTotal",
            "ansible.builtin.wait_for": {"path": str(tmp_path / "seen"), "timeout": LIMIT},
            "notify": "Restart",
            **changed_on_web,
        },
        {"name": "Fail", "ansible.builtin.fail": None, "ignore_errors": True, **changed_on_web},
    ]
    handlers = [{"name": "Restart", "ansible.builtin.debug": None, "changed_when": True}]
    run = start(tmp_path, {"name": "Prepare the hosts", "tasks": tasks, "handlers": handlers}, 0.2)
    assert run.stderr
    shown = "running: [database, web] Wait \N{REPLACEMENT CHARACTER}[2J Total (H:MM:SS)\n"
    for _line in range(2):
        assert any(without_times(line) == shown for line in run.stderr), "no such line before the end"
    (tmp_path / "seen").touch()
    output, errors = run.communicate(timeout=LIMIT)
    assert run.returncode == 0, output
    assert without_times(errors).partition("CHANGES\n")[2].splitlines() == [
        "Prepare the hosts: H:MM:SS, 3 changes",
        "  Wait \N{REPLACEMENT CHARACTER}[2J Total [web]",
        "  Fail [web]",
        "  Restart [web]",
        "Total: H:MM:SS, 3 changes",
    ]
    assert "running:" not in output
    assert "Total:" not in output


def test_check_mode_predicts_and_short_tasks_are_not_reported(tmp_path: Path) -> None:
    directory = {"ansible.builtin.file": {"path": str(tmp_path / "new"), "state": "directory"}}
    play = {"name": "Prepare", "strategy": "free", "tasks": [{"name": "Create the directory", **directory}]}
    output, errors = start(tmp_path, play, 600, "--check", "--limit", "web").communicate(timeout=LIMIT)
    assert without_times(errors).splitlines() == [
        "PREDICTED CHANGES",
        "Prepare: H:MM:SS, 1 change",
        "  Create the directory [web]",
        "Total: H:MM:SS, 1 change",
    ], output


def test_the_changes_follow_the_output_in_the_same_file(tmp_path: Path) -> None:
    """As in `make vm > log 2>&1`, with more output than Python keeps in a buffer."""
    play = {"name": "Prepare", "tasks": [{"ansible.builtin.debug": {"msg": "x" * 8000}}]}
    output, _errors = start(tmp_path, play, 0, errors=subprocess.STDOUT).communicate(timeout=LIMIT)
    assert re.search(r"^web .*failed=0.*^CHANGES$.*^Total: ", output, re.DOTALL | re.MULTILINE), output


def test_a_short_phase_without_changes_is_left_out() -> None:
    phases = [progress._Phase("Check", 0, 0.9), progress._Phase("Verify", 1, 62)]
    lines = progress._summary(phases, is_predicted=False)
    assert lines == ["CHANGES", "Verify: 0:01:01, no changes", "Total: 0:01:01, no changes"]
