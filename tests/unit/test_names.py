# SPDX-License-Identifier: GPL-3.0-or-later
"""Names in roles and playbooks: no variable collides with the user's, and a task's name can be read alone, in a log."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).parents[2]
ROLES = sorted(path.name for path in CHECKOUT.glob("roles/*"))
PARTS = ("defaults", "handlers", "tasks", "vars")
FILES = {
    path.relative_to(CHECKOUT).as_posix(): yaml.safe_load(path.read_text())
    for folder in ("playbooks", *(f"roles/{role}/{part}" for role in ROLES for part in PARTS))
    for path in sorted((CHECKOUT / folder).rglob("*.yml"))
}
PLAYBOOKS = [name for name in FILES if name.startswith("playbooks/")]
OF_ROLES = [name for name in FILES if name.startswith("roles/")]

# Documented variables of the inventory that the playbooks themselves set.
PUBLIC_OF_PLAYBOOKS = {"virtiofs_host", "virtiofs_host_key"}
# Actions whose arguments are variables, and their arguments that are not.
ARGUMENTS = {"ansible.builtin.set_fact": {"cacheable"}, "ansible.builtin.add_host": {"name", "groups"}}
# Their nouns are elsewhere, and a log shows a task's name only.
POINTS_ELSEWHERE = re.compile(r"\b(it|its|them|these|there|that)\b", re.IGNORECASE)
TEMPLATE = re.compile(r"{{.*?}}")

# What an inventory may well have, in values that refer to each other.
INVENTORY = {
    "domain_name": "example.org",
    "vm_name": "web.{{ domain_name }}",
    "domain": "{{ domain_name }}",
    "ssh_host": "bastion.{{ domain_name }}",
    "ssh_directory": "/etc/ssh/{{ domain_name }}",
    "virtiofs_ssh_directory": "{{ ssh_directory }}",
    "ssh_proxy_command": "ssh -W %h:%p {{ ssh_host }}",
    "virtiofs_proxy_command": "{{ ssh_proxy_command }}",
}


def nodes(content: Any) -> Iterator[dict[str, Any]]:
    """Every play, block and task, and the mappings below them."""
    if isinstance(content, list):
        for element in content:
            yield from nodes(element)
    elif isinstance(content, dict):
        yield content
        yield from nodes([value for key, value in content.items() if key != "vars"])


def defined_variables(content: Any) -> Iterator[str]:
    """The names that tasks define, or in a file of variables all of its names."""
    if isinstance(content, dict):
        yield from content
        return
    for node in nodes(content):
        yield from node.get("vars", {})
        yield from (node[key] for key in ("register", "loop_var", "index_var") if key in node)
        for action, arguments in ARGUMENTS.items():
            yield from sorted(node.get(action, {}).keys() - arguments)


@cache
def documented(role: str) -> set[str]:
    """The role's options, and the facts that its documentation says it leaves."""
    return set(re.findall(rf"\b{role}_\w+", (CHECKOUT / f"roles/{role}/meta/argument_specs.yml").read_text()))


def is_allowed(name: str, prefix: str, public: set[str]) -> bool:
    of_roles = set().union(*map(documented, ROLES))
    return name.startswith((prefix, "ansible_")) or name in public | of_roles


@pytest.mark.parametrize("file", PLAYBOOKS)
def test_a_playbooks_own_variables_carry_the_collections_name(file: str) -> None:
    names = defined_variables(FILES[file])
    assert [name for name in names if not is_allowed(name, "_virtiofs_", PUBLIC_OF_PLAYBOOKS)] == []


@pytest.mark.parametrize("file", OF_ROLES)
def test_a_roles_own_variables_carry_its_name(file: str) -> None:
    role = file.split("/")[1]
    assert [name for name in defined_variables(FILES[file]) if not is_allowed(name, f"_{role}_", set())] == []


def used_variables(role: str) -> set[str]:
    """Every word with the role's prefix in its tasks, variables and templates."""
    files = (path for path in (CHECKOUT / f"roles/{role}").rglob("*") if path.suffix in (".yml", ".j2"))
    texts = (path.read_text() for path in files if path.parent.name != "files")
    return {word for text in texts for word in re.findall(rf"(?<![\w./-])_?{role}_\w+", text)}


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_of_a_role_is_defined(role: str) -> None:
    own = {name for file in OF_ROLES if file.startswith(f"roles/{role}/") for name in defined_variables(FILES[file])}
    everywhere = own.union(*map(documented, ROLES))
    assert sorted(used_variables(role) - everywhere) == []


@pytest.mark.parametrize("file", FILES)
def test_a_task_name_names_its_object(file: str) -> None:
    names = [node["name"] for node in nodes(FILES[file]) if isinstance(node.get("name"), str)]
    assert [name for name in names if POINTS_ELSEWHERE.search(TEMPLATE.sub("", name))] == []


def test_an_inventory_may_use_any_name(tmp_path: Path) -> None:
    """A run against libvirt's test driver, up to a guest that check mode cannot verify because no domain is defined."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_become": False}
    guest = {**local, **INVENTORY, "virtiofs_host": "hypervisor", "vm_uri": "test:///default"}
    groups = {"virtiofs_hosts": {"hosts": {"hypervisor": local}}, "virtiofs_guests": {"hosts": {"web": guest}}}
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(yaml.safe_dump(groups))
    command = ["ansible-playbook", "--check", "--inventory", str(inventory), "playbooks/verify.yml"]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Gather information about the VMs" in result.stdout


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ([{"vars": {"a": {"vars": {"no": 1}}}, "register": "b"}], ["a", "b"]),
        (
            [{"block": [{"register": "a"}], "rescue": [{"ansible.builtin.set_fact": {"b": 1, "cacheable": True}}]}],
            ["a", "b"],
        ),
        ([{"tasks": [{"loop": [], "loop_control": {"loop_var": "a"}}]}], ["a"]),
        ([{"ansible.builtin.add_host": {"name": "x", "groups": "y", "a": 1}}], ["a"]),
        ({"a": {"vars": {"no": 1}}}, ["a"]),
    ],
)
def test_every_definition_is_found(content: Any, names: list[str]) -> None:
    assert list(defined_variables(content)) == names


@pytest.mark.parametrize(("name", "found"), [("Start it", True), ("Its disk", True), ("Start {{ that }}", False)])
def test_words_that_point_elsewhere_are_found(name: str, found: bool) -> None:
    assert bool(POINTS_ELSEWHERE.search(TEMPLATE.sub("", name))) is found
