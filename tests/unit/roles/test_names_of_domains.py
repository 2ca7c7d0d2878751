# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles refuse names of domains that lead out of their directories, or start an option, before anything else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain import values

CHECKOUT = Path(__file__).parents[3]
TASKS = {"vm": ("main",), "verify": ("main", "absent")}
REFUSED = "must not contain a slash or a control character, or start with a dot, a dash or a space"


def run_tasks(tmp_path: Path, role: str, tasks: str, **variables: str) -> str:
    """In check mode, so that a name that is not refused does no harm."""
    play = {
        "name": "Run the tasks of a role",
        "hosts": "localhost",
        "connection": "local",
        "gather_facts": False,
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": [
            {
                "name": "Run the tasks",
                "ansible.builtin.include_role": {"name": f"keystone.virtiofs.{role}", "tasks_from": tasks},
            }
        ],
    }
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(yaml.safe_dump([play]))
    command = ["ansible-playbook", "--check", "--inventory", "localhost,", "--extra-vars", json.dumps(variables)]
    done = subprocess.run([*command, str(playbook)], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split())


@pytest.mark.parametrize("name", ["../../../../srv/victim", "..", ".", "a/b", "-all", "x\ny", ""])
@pytest.mark.parametrize(("role", "tasks"), [(role, name) for role, names in TASKS.items() for name in names])
def test_a_name_that_is_a_path_or_an_option_is_refused_first(tmp_path: Path, role: str, tasks: str, name: str) -> None:
    said = run_tasks(tmp_path, role, tasks, **{f"{role}_{'name' if role == 'vm' else 'domain'}": name})
    assert REFUSED in said
    assert said.count("TASK [") <= 3, "only the role's inclusion and the check of its variables come before"


URI = "qemu+ext://x/system?command=/bin/false"


@pytest.mark.parametrize(("role", "tasks"), [(role, name) for role, names in TASKS.items() for name in names])
def test_a_uri_that_is_a_command_is_refused_before_virsh_runs(tmp_path: Path, role: str, tasks: str) -> None:
    names = {"vm": {"vm_name": "x"}, "verify": {"verify_domain": "x"}}[role]
    said = run_tasks(tmp_path, role, tasks, **names, **{f"{role}_uri": URI})
    assert f"{role}_uri ({json.dumps(URI)}) must be qemu:///system" in said.replace('\\"', '"')


@pytest.mark.parametrize("file", ["roles/vm/vars/main.yml", "roles/verify/vars/main/scripts.yml"])
def test_roles_and_modules_take_the_same_uris(file: str) -> None:
    assert f"(?a)({values.URI_PATTERN})\\Z" in (CHECKOUT / file).read_text()


@pytest.mark.parametrize(
    ("name", "log", "is_removed"),
    [
        *(("web", f"web{end}", True) for end in (".log", ".log.0", "-serial.log", "-fs0-virtiofsd.log", "-swtpm.log")),
        *(("web", log, False) for log in ("web2.log", "web.log.log", "web-two.log", "web-serial-2.log", "a-web.log")),
        ("*", "web.log", False),
        ("w.b", "web.log", False),
        ("[w]eb", "web.log", False),
    ],
)
def test_only_the_logs_of_the_vm_are_removed(name: str, log: str, is_removed: bool) -> None:
    tasks = yaml.safe_load((CHECKOUT / "roles/vm/tasks/absent.yml").read_text())
    find = next(task["ansible.builtin.find"] for task in tasks if task["name"] == "Find the logs of the VM")
    assert find["use_regex"]
    [pattern] = find["patterns"]
    said = pattern.replace("{{ vm_name | regex_escape }}", re.escape(name))
    assert bool(re.match(said, log)) is is_removed


@pytest.mark.parametrize("name", ["my web", "web-1.example.org"])
@pytest.mark.parametrize(("role", "tasks"), [("verify", "absent")])
def test_a_plain_name_is_accepted(tmp_path: Path, role: str, tasks: str, name: str) -> None:
    assert REFUSED not in run_tasks(tmp_path, role, tasks, verify_domain=name)
