# SPDX-License-Identifier: GPL-3.0-or-later
"""The dependency rule of plugins/, by folder. `pytest tests/unit/test_layering.py -k graph -s` prints the graph."""

from __future__ import annotations

import ast
import runpy
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PLUGINS = CHECKOUT / "plugins"
COLLECTION = "ansible_collections.keystone.virtiofs"
SHARED = "shared"  # the files next to the packages of module_utils

# Which other packages of module_utils each package may import; the files next to them import no package.
MAY_IMPORT: Mapping[str, set[str]] = {
    SHARED: set(),
    "_domain": {SHARED},
    "_host": {SHARED, "_domain"},
    "_apply": {SHARED, "_domain", "_host"},
    "_nixos": {SHARED},
    "_guest": {SHARED},
    # Everything that Ansible loads: modules, the inventory plugin, filters, doc fragments.
    "plugins": {SHARED, "_domain", "_host", "_apply", "_nixos", "_guest"},
}
# These decide from values alone: no Ansible, no libvirt, no files, no processes, no clock, no randomness.
PURE = (
    *("_domain/", "_errors.py", "_features.py", "_packages.py", "_untrusted.py", "_host/findings.py"),
    "_nixos/decision.py",
)
OUTSIDE_WORLD = {
    *("ansible", "datetime", "glob", "io", "os", "pathlib", "random", "secrets", "shutil", "socket"),
    *("subprocess", "sys", "tempfile", "time", "urllib.request", "uuid"),
}
LIBVIRT = {"libvirt", "libvirt_qemu", "libvirt_lxc"}
GATEWAY = "_host/gateway.py"
IMPORT_LIBVIRT = ("_host/connection.py", GATEWAY)
# Code that can reach the gateway can bypass the plan, so modules and plugins go through _apply or the survey.
USERS_OF_GATEWAY = ("_host/", "_apply/")

LONGEST_FILE = 400
MOST_FILES = 13


def sources(plugins: Path = PLUGINS) -> dict[str, str]:
    return {path.relative_to(plugins).as_posix(): path.read_text() for path in sorted(plugins.rglob("*.py"))}


SOURCES = sources()


def in_module_utils(file: str) -> str:
    """The path below module_utils; empty for any other file."""
    return file.removeprefix("module_utils/") if file.startswith("module_utils/") else ""


def package_of(file: str) -> str:
    below = in_module_utils(file)
    if not below:
        return "plugins"
    return below.partition("/")[0] if "/" in below else SHARED


def executed(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING`: names for type hints are not a dependency."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        yield node
        yield from executed(node)


def imported_names(file: str, source: str) -> Iterator[str]:
    """Dotted names of everything that a file imports; for `from a import b` both a and a.b."""
    here = [*COLLECTION.split("."), "plugins", *file.split("/")[:-1]]
    for node in executed(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = here[: len(here) + 1 - node.level] if node.level else []
            module = ".".join([*package, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def own_imports(file: str, source: str, files: Mapping[str, str]) -> set[str]:
    """The files below plugins/ that a file imports."""
    prefix = f"{COLLECTION}.plugins."
    names = (name.removeprefix(prefix) for name in imported_names(file, source) if name.startswith(prefix))
    return {path for name in names if (path := name.replace(".", "/") + ".py") in files}


def imports_any(names: Iterator[str], forbidden: set[str]) -> set[str]:
    return {rule for name in names for rule in forbidden if f"{name}.".startswith(f"{rule}.")}


def opens_files(source: str) -> bool:
    calls = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return any(isinstance(function, ast.Name) and function.id == "open" for function in calls)


def violations(file: str, source: str, files: Mapping[str, str] = SOURCES) -> set[str]:
    """What breaks a rule: the package, the file or the library that must not be imported, or `open`."""
    package, below = package_of(file), in_module_utils(file)
    imported = own_imports(file, source, files)
    found = {other for path in imported if (other := package_of(path)) not in MAY_IMPORT[package] | {package}}
    if below not in IMPORT_LIBVIRT:
        found |= imports_any(imported_names(file, source), LIBVIRT)
    if f"module_utils/{GATEWAY}" in imported and not below.startswith(USERS_OF_GATEWAY):
        found.add(GATEWAY)
    if below.startswith(PURE):
        found |= imports_any(imported_names(file, source), OUTSIDE_WORLD)
        found |= {path for path in map(in_module_utils, imported) if path and not path.startswith(PURE)}
        found |= {"open"} if opens_files(source) else set()
    return found


def graph(files: Mapping[str, str] = SOURCES) -> dict[str, set[str]]:
    """The packages that each package imports."""
    edges: dict[str, set[str]] = defaultdict(set)
    for file, source in files.items():
        others = {package_of(path) for path in own_imports(file, source, files)}
        edges[package_of(file)] |= others - {package_of(file)}
    return dict(edges)


def levels(edges: Mapping[str, set[str]]) -> list[list[str]]:
    """The packages from the bottom up; raises ValueError for a cycle."""
    left = {name: set(targets) for name, targets in edges.items()}
    result = []
    while left:
        level = sorted(name for name, targets in left.items() if not targets & left.keys())
        if not level:
            raise ValueError(f"cycle among {', '.join(sorted(left))}")
        result.append(level)
        left = {name: targets for name, targets in left.items() if name not in level}
    return result


@pytest.mark.parametrize("file", SOURCES)
def test_a_file_imports_only_what_its_layer_may(file: str) -> None:
    assert violations(file, SOURCES[file]) == set()


def test_the_graph_of_packages_has_one_direction() -> None:
    edges = graph()
    for level in reversed(levels(edges)):
        for name in level:
            print(f"{name} -> {', '.join(sorted(edges[name])) or 'nothing'}")


def test_the_picture_of_the_packages_is_up_to_date() -> None:
    """scripts/package-graph draws docs/images/packages.svg."""
    drawing = runpy.run_path(str(CHECKOUT / "scripts/package-graph"))
    assert drawing["PICTURE"].read_text() == drawing["picture"](graph())


@pytest.mark.parametrize("name", PURE)
def test_the_rules_name_what_exists(name: str) -> None:
    assert (PLUGINS / "module_utils" / name).exists()


def test_every_package_has_a_rule() -> None:
    assert set(map(package_of, SOURCES)) == set(MAY_IMPORT)


def test_no_file_of_logic_and_no_folder_outgrows_its_reader() -> None:
    """Documentation in modules and fragments is not logic, and is as long as it has to be."""
    files = [path for path in PLUGINS.rglob("*.py") if "doc_fragments" not in path.parts]
    long = {path.name: lines for path in files if (lines := _lines_of_logic(path.read_text())) > LONGEST_FILE}
    folders = {path.parent for path in PLUGINS.rglob("*.py")}
    full = {folder.name: count for folder in folders if (count := len(list(folder.glob("*.py")))) > MOST_FILES}
    assert (long, full) == ({}, {})


def _lines_of_logic(source: str) -> int:
    """Lines but those of the documentation that Ansible reads (DOCUMENTATION, EXAMPLES, RETURN)."""
    documentation = (
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper()
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    )
    return len(source.splitlines()) - sum((node.end_lineno or 0) - node.lineno + 1 for node in documentation)


@pytest.mark.parametrize(
    ("file", "source", "found"),
    [
        ("module_utils/_domain/planner.py", "import libvirt", {"libvirt"}),
        ("module_utils/_domain/planner.py", "from os import path", {"os"}),
        ("module_utils/_domain/planner.py", "import os.path", {"os"}),
        ("module_utils/_domain/planner.py", "def f():\n    import time", {"time"}),
        ("module_utils/_domain/planner.py", "open('/etc/passwd')", {"open"}),
        ("module_utils/_domain/planner.py", "import ossaudiodev", set()),
        ("module_utils/_domain/xml/document.py", "from ansible.module_utils.basic import AnsibleModule", {"ansible"}),
        ("module_utils/_domain/xml/document.py", "from ..schema import DISK", set()),
        ("module_utils/_domain/planner.py", "from .._waiting import wait_until", {"_waiting.py"}),
        ("module_utils/_domain/schema.py", "from .._host.kvm import KvmProbe", {"_host", "_host/kvm.py"}),
        ("module_utils/_domain/schema.py", "if TYPE_CHECKING:\n    from .._host.kvm import KvmProbe", set()),
        ("module_utils/_host/findings.py", "from .probe import Firmware", {"_host/probe.py"}),
        ("module_utils/_nixos/decision.py", "from .ssh import Target", {"_nixos/ssh.py"}),
        ("module_utils/_errors.py", "from ._domain.schema import DISK", {"_domain"}),
        ("module_utils/_host/probe.py", "from .._apply.task import run", {"_apply"}),
        ("module_utils/_host/probe.py", "from .._apply import task", {"_apply"}),
        ("module_utils/_nixos/ssh.py", "from .._domain.schema import DISK", {"_domain"}),
        ("module_utils/_apply/controller.py", "from .._host.gateway import Gateway", set()),
        ("module_utils/_apply/controller.py", "try:\n    import libvirt\nexcept ImportError: pass", {"libvirt"}),
        ("module_utils/_apply/controller.py", "from .._nixos.ssh import Target", {"_nixos"}),
        ("module_utils/_host/gateway.py", "import libvirt", set()),
        ("modules/domain.py", f"from {COLLECTION}.plugins.module_utils._host.gateway import Gateway", {GATEWAY}),
        ("modules/domain.py", "from ..module_utils._host import gateway", {GATEWAY}),
        ("modules/domain.py", "from ..module_utils._apply import task", set()),
        ("inventory/domains.py", "import libvirt", {"libvirt"}),
    ],
)
def test_the_rules_can_fail(file: str, source: str, found: set[str]) -> None:
    assert violations(file, source) == found


def test_a_cycle_is_found() -> None:
    with pytest.raises(ValueError, match="cycle among _apply, _host"):
        levels({"_domain": set(), "_host": {"_apply"}, "_apply": {"_host", "_domain"}})
