# SPDX-License-Identifier: GPL-3.0-or-later
"""The role nixos_guest refuses names that lead out of its directories."""

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
