# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles refuse names of domains that lead out of their directories, or start an option, before anything else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain import values
from ansible_collections.keystone.virtiofs.tests.unit.roles.plays import run_tasks

CHECKOUT = Path(__file__).parents[3]
NAME_OF = {"vm": "vm_name", "verify": "verify_domain"}
ROLES = [("vm", "main"), ("verify", "main"), ("verify", "absent")]
BAD_NAMES = ["../../../../srv/victim", "..", ".", "a/b", "-all", "x\ny", ""]
PLAIN_NAMES = ["my web", "web-1.example.org"]
REFUSED = "must not contain a slash or a control character, or start with a dot, a dash or a space"
URI = "qemu+ext://x/system?command=/bin/false"


@pytest.mark.parametrize(("role", "tasks"), ROLES)
def test_what_is_a_path_an_option_or_a_command_is_refused_first(tmp_path: Path, role: str, tasks: str) -> None:
    names = {f"bad{number}": {NAME_OF[role]: name} for number, name in enumerate(BAD_NAMES)}
    hosts = {**names, "uri": {NAME_OF[role]: "x", f"{role}_uri": URI}}
    include = {"name": f"keystone.virtiofs.{role}", "tasks_from": tasks}
    # In check mode, so that a name that is not refused does no harm.
    ends = run_tasks(tmp_path, [{"name": "Run", "ansible.builtin.include_role": include}], hosts, "--check")
    for host in names:
        assert REFUSED in ends[host].message, (host, ends[host])
        assert ends[host].tasks <= 3, "only the role's inclusion and the check of its variables come before"
    assert f"{role}_uri ({json.dumps(URI)}) must be qemu:///system" in ends["uri"].message


def test_what_only_a_present_vm_needs_is_not_required_for_a_removal(tmp_path: Path) -> None:
    mistaken = {"vm_name": "x", "vm_store_paths": ["/run/current-system"], "vm_uri": URI}
    hosts = {state: {**mistaken, "vm_state": state} for state in ("present", "absent")}
    include = {"name": "Run", "ansible.builtin.include_role": {"name": "keystone.virtiofs.vm"}}
    ends = run_tasks(tmp_path, [include], hosts, "--check")
    refused = {host: "entries that are not store paths: /run/current-system" in ends[host].message for host in hosts}
    assert refused == {"present": True, "absent": False}
    assert all("must be qemu:///system" in ends[host].message for host in hosts), "reported together"


def test_a_plain_name_is_accepted(tmp_path: Path) -> None:
    hosts = {f"plain{number}": {"verify_domain": name} for number, name in enumerate(PLAIN_NAMES)}
    include = {"name": "keystone.virtiofs.verify", "tasks_from": "absent"}
    ends = run_tasks(tmp_path, [{"name": "Run", "ansible.builtin.include_role": include}], hosts, "--check")
    assert not any(REFUSED in end.message for end in ends.values()), ends


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
