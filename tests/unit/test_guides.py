# SPDX-License-Identifier: GPL-3.0-or-later
"""The YAML blocks in what users read are plays, tasks and inventories that Ansible takes, with variables that exist.

The modules' own examples run in the molecule scenarios lifecycle and default.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
COLLECTION = "keystone.virtiofs"
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
GUIDES = [path for path in CHECKOUT.rglob("*.md") if not {".venv", ".cache", ".ansible"} & set(path.parts)]
BLOCKS = {
    f"{path.relative_to(CHECKOUT)}-{number}": yaml.safe_load(text)
    for path in sorted(GUIDES)
    for number, text in enumerate(BLOCK.findall(path.read_text()), 1)
}
LISTS = {name: block for name, block in BLOCKS.items() if isinstance(block, list)}


def as_plays(block: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A block of plays as it is, a block of tasks as a play."""
    return block if "hosts" in block[0] or "import_playbook" in block[0] else [{"hosts": "all", "tasks": block}]


def names(options: dict[str, Any]) -> Iterator[str]:
    """The names of options, and of those within them."""
    for name, option in options.items():
        yield name
        yield from names(option.get("options", {}))


def role_options() -> dict[str, set[str]]:
    specifications = {
        path.parts[-3]: yaml.safe_load(path.read_text())["argument_specs"]
        for path in CHECKOUT.glob("roles/*/meta/argument_specs.yml")
    }
    return {
        f"{COLLECTION}.{role}": {name for entry in entries.values() for name in names(entry.get("options", {}))}
        for role, entries in specifications.items()
    }


def role_uses(node: Any) -> Iterator[tuple[str, set[str]]]:
    """Every role that is used, and the variables with a role's prefix that it is given there."""
    if isinstance(node, list):
        for child in node:
            yield from role_uses(child)
    elif isinstance(node, dict):
        if "role" in node:
            yield node["role"], set(node) | set(node.get("vars", {}))
        for action in ("ansible.builtin.include_role", "ansible.builtin.import_role"):
            if action in node:
                yield node[action]["name"], set(node.get("vars", {}))
        yield from role_uses(list(node.values()))


def test_there_are_examples() -> None:
    assert BLOCKS


def test_ansible_takes_every_play_and_task(tmp_path: Path) -> None:
    playbooks = []
    for number, block in enumerate(LISTS.values()):
        playbook = tmp_path / f"{number}.yml"
        playbook.write_text(yaml.safe_dump(as_plays(block)))
        playbooks.append(str(playbook))
    command = ["ansible-playbook", "--syntax-check", "--inventory", "localhost,", *playbooks]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("block", LISTS.values(), ids=LISTS)
def test_roles_are_given_variables_that_they_have(block: list[dict[str, Any]]) -> None:
    for role, variables in role_uses(block):
        options = role_options()[role]
        prefix = f"{role.rpartition('.')[2]}_"
        assert {name for name in variables if name.startswith(prefix)} <= options, role


@pytest.mark.parametrize("name", sorted(BLOCKS.keys() - LISTS.keys()))
def test_variables_in_inventories_exist(name: str) -> None:
    every_option = set().union(*role_options().values())
    prefixes = tuple(f"{role.rpartition('.')[2]}_" for role in role_options())
    used = set(re.findall(r"\b[a-z_]+(?=:)", yaml.safe_dump(BLOCKS[name])))
    assert {variable for variable in used if variable.startswith(prefixes)} <= every_option


def test_what_an_author_has_written_is_data(tmp_path: Path) -> None:
    """As docs/security.md reads an author's file; instead of the role, a task that uses its variables."""
    (task,) = next(block for block in LISTS.values() if "authors_vm" in str(block))
    template = f"{{{{ lookup('ansible.builtin.pipe', 'touch {tmp_path}/owned') }}}}"
    written = {"memory": 64, "network": template, "shares": [{"source": template}]}
    (tmp_path / "web.json").write_text(json.dumps(written))
    copy = {
        "content": {name: f"{{{{ vm_{name} }}}}" for name in written},
        "dest": f"{tmp_path}/used.json",
        "mode": "0600",
    }
    variables = json.loads(json.dumps(task["vars"]).replace("/srv/authors", str(tmp_path)))
    variables["ansible_python_interpreter"] = sys.executable
    play = {"hosts": "localhost", "tasks": [{"ansible.builtin.copy": copy, "vars": variables}], "gather_facts": False}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    command = ["ansible-playbook", "--inventory", "localhost,", "--connection", "local", str(tmp_path / "play.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout
    assert json.loads((tmp_path / "used.json").read_text()) == written
    assert not (tmp_path / "owned").exists()
