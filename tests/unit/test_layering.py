# SPDX-License-Identifier: GPL-3.0-or-later
"""The dependency rule: plugins -> controller -> planner (pure) -> schema; only the gateway knows libvirt."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"
FILES = sorted(path.relative_to(PLUGINS).as_posix() for path in PLUGINS.rglob("*.py"))
MODULE_UTILS = "ansible_collections.keystone.virtiofs.plugins.module_utils"

# They decide from values alone: no Ansible, no libvirt, no files, no processes, no clock, no chance.
PURE = {
    *("errors", "features", "findings", "schema", "state_paths"),
    *("domain_xml", "xml_codecs", "xml_network", "xml_places", "xml_share"),
    *("checks", "deployment", "plan", "planner", "target"),
}
OUTSIDE_WORLD = {
    *("ansible", "libvirt", "libvirt_qemu"),
    *("datetime", "glob", "io", "os", "pathlib", "random", "secrets", "shutil", "socket"),
    *("subprocess", "sys", "tempfile", "time", "urllib.request", "uuid"),
    *(f"{MODULE_UTILS}.{name}" for name in ("controller", "executor", "gateway", "preflight")),
    *(f"{MODULE_UTILS}.{name}" for name in ("hostfs", "kvm", "nixos_anywhere", "probe", "ssh", "switching", "waiting")),
}
LIBVIRT = {"libvirt", "libvirt_qemu", "libvirt_lxc"}
GATEWAY = {f"{MODULE_UTILS}.gateway"}


def forbidden_to(file: str) -> set[str]:
    """What a file, by its path below plugins/, must not import."""
    kind, _separator, name = file.partition("/")
    if kind != "module_utils":
        return LIBVIRT | GATEWAY
    if name == "gateway.py":
        return set()
    return LIBVIRT | (OUTSIDE_WORLD if name.removesuffix(".py") in PURE else set())


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but what stands below `if TYPE_CHECKING`: names for type hints are no dependency."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from executed(node)


def imports(source: str) -> Iterator[str]:
    """Dotted names of all that is imported; of `from a import b` both a and a.b."""
    for node in executed(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # One dot occurs in module_utils only, two in what lies beside it.
            package = {0: "", 1: MODULE_UTILS, 2: MODULE_UTILS.rpartition(".")[0]}[node.level]
            module = ".".join(part for part in (package, node.module) if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def opens_files(source: str) -> bool:
    calls = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return any(isinstance(function, ast.Name) and function.id == "open" for function in calls)


def violations(file: str, source: str) -> set[str]:
    found = {rule for name in imports(source) for rule in forbidden_to(file) if f"{name}.".startswith(f"{rule}.")}
    if Path(file).stem in PURE and opens_files(source):
        found.add("open")
    return found


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_what_its_layer_may(file: str) -> None:
    assert violations(file, (PLUGINS / file).read_text()) == set()


@pytest.mark.parametrize("name", PURE)
def test_the_rule_names_files_that_exist(name: str) -> None:
    assert (PLUGINS / f"module_utils/{name}.py").is_file()


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("module_utils/planner.py", "import libvirt", {"libvirt"}),
        ("module_utils/planner.py", "from os import path", {"os"}),
        ("module_utils/planner.py", "import os.path", {"os"}),
        ("module_utils/planner.py", "def f():\n    import time", {"time"}),
        ("module_utils/planner.py", "open('/etc/passwd')", {"open"}),
        ("module_utils/planner.py", "import ossaudiodev", set()),
        ("module_utils/schema.py", "from ansible.module_utils.basic import AnsibleModule", {"ansible"}),
        ("module_utils/schema.py", "from .gateway import Gateway", GATEWAY),
        ("module_utils/schema.py", "from . import gateway", GATEWAY),
        ("module_utils/schema.py", f"from {MODULE_UTILS} import gateway", GATEWAY),
        ("module_utils/schema.py", "if TYPE_CHECKING:\n    from .probe import KvmProbe", set()),
        ("module_utils/controller.py", "from .gateway import Gateway", set()),
        ("module_utils/controller.py", "try:\n    import libvirt\nexcept ImportError: pass", {"libvirt"}),
        ("module_utils/gateway.py", "import libvirt", set()),
        ("modules/domain.py", f"from {MODULE_UTILS}.gateway import Gateway", GATEWAY),
        ("modules/domain.py", f"from {MODULE_UTILS}.controller import run", set()),
        ("inventory/domains.py", "import libvirt", {"libvirt"}),
    ],
)
def test_the_rule_can_fail(file: str, source: str, found: set[str]) -> None:
    assert violations(file, source) == found
