# SPDX-License-Identifier: GPL-3.0-or-later
"""The role nixos_guest refuses names and links that lead out of its directories, and records what it has deployed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CHECKOUT = Path(__file__).parents[3]
ABSENT = {
    "name": "Remove everything kept for a guest",
    "hosts": "localhost",
    "connection": "local",
    "gather_facts": False,
    "vars": {"ansible_python_interpreter": sys.executable, "nixos_guest_state": "absent"},
    "roles": ["keystone.virtiofs.nixos_guest"],
}


def run_role(tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """In check mode, so that a name that is not refused does no harm."""
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(yaml.safe_dump([ABSENT]))
    names = json.dumps({"nixos_guest_known_hosts": str(tmp_path / "known_hosts"), **variables})
    command = ["ansible-playbook", "--check", "--inventory", "localhost,", "--extra-vars", names, str(playbook)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("name", "domain"),
    [
        ("web", "../../../../srv/victim"),
        ("web", "..\n"),
        ("../web", "web"),
        ("web,*", ""),
    ],
)
def test_a_name_that_is_a_path_or_a_pattern_is_refused(tmp_path: Path, name: str, domain: str) -> None:
    result = run_role(tmp_path, nixos_guest_name=name, nixos_guest_domain=domain)
    assert result.returncode == 2
    assert "nixos_guest_domain" in result.stdout
    assert "must not contain a slash or a control character" in " ".join(result.stdout.split())


@pytest.mark.parametrize("domain", ["", "my web"])
def test_a_plain_name_is_accepted(tmp_path: Path, domain: str) -> None:
    result = run_role(tmp_path, nixos_guest_name="web-1.example.org", nixos_guest_domain=domain)
    assert result.returncode == 0, result.stdout + result.stderr


def run_tasks(tmp_path: Path, tasks_from: str, *systems: str) -> subprocess.CompletedProcess[str]:
    """Run a file of the role's tasks for each of the systems."""
    include = {"name": "keystone.virtiofs.nixos_guest", "tasks_from": tasks_from}
    names = {"nixos_guest_name": "web", "nixos_guest_state": "absent", "_nixos_guest_gc_roots": str(tmp_path)}
    tasks = [
        {"name": "Run", "ansible.builtin.include_role": include, "vars": {**names, "nixos_guest_system": system}}
        for system in systems
    ]
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(yaml.safe_dump([{**ABSENT, "roles": [], "tasks": tasks}]))
    command = ["ansible-playbook", "--inventory", "localhost,", str(playbook)]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(
    ("deployed", "previous"),
    [("A", None), ("AA", None), ("AB", "A"), ("ABA", "A"), ("ABAA", "A"), ("ABB", "A"), ("ABAC", "A"), ("ABC", "B")],
)
def test_a_rollback_is_to_what_was_deployed_before(tmp_path: Path, deployed: str, previous: str | None) -> None:
    result = run_tasks(tmp_path, "deployed_system", *(f"/nix/store/{system}" for system in deployed))
    assert result.returncode == 0, result.stdout
    assert (tmp_path / "deployed").readlink() == Path(f"/nix/store/{deployed[-1]}")
    link = tmp_path / "previous"
    assert (link.readlink().name if link.is_symlink() else None) == previous


def test_a_kernel_outside_of_the_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for name in ("kernel", "initrd", "kernel-params"):
        (tmp_path / name).symlink_to("secret")
    result = run_tasks(tmp_path, "boot_files", str(tmp_path))
    assert result.returncode == 2
    assert f"{tmp_path}/kernel leads to {tmp_path}/secret, which is not in the store" in " ".join(result.stdout.split())
