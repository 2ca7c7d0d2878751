# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's description of itself is in step with what it contains."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).parents[2]
SHIPPED = ("meta", "playbooks", "plugins", "roles")
CODE = {".cfg", ".nix", ".py", ".sh", ".toml", ".yaml", ".yml"}

MODULES = sorted(path.stem for path in CHECKOUT.glob("plugins/modules/*.py"))
NEED_NO_LIBVIRT = ["files", "store_image", "store_info"]  # and have no uri
REACH_A_GUEST = [
    name for name in MODULES if "ssh.ARGUMENT_SPEC" in (CHECKOUT / f"plugins/modules/{name}.py").read_text()
]
REACH_ONLY_A_GUEST = [name for name in REACH_A_GUEST if name != "nixos_guest_info"]  # which reads its domain, too


def tracked(*paths: str) -> list[Path]:
    command = ["git", "ls-files", "-z", "--", *paths]
    names = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    return [CHECKOUT / name for name in names.split("\0") if (CHECKOUT / name).is_file()]


def read_yaml(path: str) -> Any:
    return yaml.safe_load((CHECKOUT / path).read_text())


def test_the_action_group_has_all_modules_that_talk_to_libvirt() -> None:
    assert read_yaml("meta/runtime.yml")["action_groups"]["libvirt"] == [
        name for name in MODULES if name not in {*NEED_NO_LIBVIRT, *REACH_ONLY_A_GUEST}
    ]


def test_the_action_group_has_all_modules_that_reach_a_guest() -> None:
    assert read_yaml("meta/runtime.yml")["action_groups"]["ssh"] == REACH_A_GUEST


def test_dependencies_are_the_collections_in_use() -> None:
    # An import from ansible.utils is one of ansible-core's own Python package.
    others = r"(?<!from )\b(?:ansible\.(?:posix|utils|netcommon)|community\.\w+|containers\.\w+)(?=\.[a-z]\w*)"
    text = "\n".join(path.read_text() for path in tracked(*SHIPPED) if path.suffix in {".py", ".yml"})
    assert set(re.findall(others, text)) == read_yaml("galaxy.yml")["dependencies"].keys()


def test_code_carries_the_licence_header() -> None:
    texts = {path: path.read_text(errors="replace") for path in tracked()}
    code = {path: text for path, text in texts.items() if path.suffix in CODE or text.startswith("#!")}
    bare = [path for path, text in code.items() if text and "SPDX-License-Identifier" not in text[:500]]
    assert [str(path.relative_to(CHECKOUT)) for path in bare] == []


def test_the_authors_have_one_spelling() -> None:
    spelling = "keystone contributors (@ncrmro)"
    named = {path: path.read_text() for path in tracked("plugins", "galaxy.yml", "docs/conf.py")}
    lines = {
        (path.name, line.strip())
        for path, text in named.items()
        for line in re.findall(r"^author.*(?:\n +- .*)?", text, re.MULTILINE)
    }
    assert lines
    assert [line for line in sorted(lines) if spelling not in line[1]] == []
