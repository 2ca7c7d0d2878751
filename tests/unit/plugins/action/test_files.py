# SPDX-License-Identifier: GPL-3.0-or-later
"""The action of the module files: the module is called when something differs, and only then."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.action.files import command_that_compares
from ansible_collections.keystone.virtiofs.tests.unit.roles.plays import run_tasks


def wanted(directory: Path) -> list[dict[str, str]]:
    return [
        {"path": f"{directory}/program", "content": "#!/bin/sh\necho 'ä'\n", "mode": "0755"},
        {"path": f"{directory}/text", "content": "text\n"},
        {"path": f"{directory}/empty", "content": ""},
        {"path": f"{directory}/link", "target": "/etc/somewhere"},
    ]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    for entry in wanted(tmp_path):
        path = Path(entry["path"])
        if "target" in entry:
            path.symlink_to(entry["target"])
        else:
            path.write_text(entry["content"])
            path.chmod(int(entry.get("mode", "0644"), 8))
    return tmp_path


def is_in_place(files: Any) -> bool:
    command = command_that_compares({"files": files})
    assert command
    return subprocess.run(["/bin/sh", "-c", command], capture_output=True, check=False, timeout=60).returncode == 0


def test_nothing_differs(installed: Path) -> None:
    assert is_in_place(wanted(installed))


def replace_by_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def replace_link(path: Path) -> None:
    path.with_name("link").unlink()
    path.with_name("link").symlink_to("/etc/elsewhere")


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("other\n"),
        lambda path: path.chmod(0o600),
        lambda path: path.chmod(0o4644),
        lambda path: path.unlink(),
        replace_by_link,
        lambda path: path.with_name("program").chmod(0o644),
        lambda path: path.with_name("empty").write_text("\n"),
        lambda path: path.with_name("link").unlink(),
        replace_link,
    ],
)
def test_a_difference(installed: Path, change: Callable[[Path], Any]) -> None:
    change(installed / "text")
    assert not is_in_place(wanted(installed))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"files": []} | {"other": 1},
        {"files": "text"},
        {"files": ["text"]},
        {"files": [{"path": "/x"}]},
        {"files": [{"path": "/x", "content": 1}]},
        {"files": [{"path": "/x", "content": "", "target": "/y"}]},
        {"files": [{"path": "~/x", "content": ""}]},
        {"files": [{"path": "/a b", "content": ""}]},
        {"files": [{"path": "/$(touch x)", "content": ""}]},
        {"files": [{"path": "/x\n", "content": ""}]},
        {"files": [{"path": "/x", "target": "/y; touch x"}]},
        {"files": [{"path": "/x", "content": "", "mode": "u=rw"}]},
        {"files": [{"path": "/x", "content": "", "owner": "root"}]},
    ],
)
def test_arguments_that_only_the_module_judges(arguments: dict[str, Any]) -> None:
    assert command_that_compares(arguments) is None


def test_text_that_is_not_valid_unicode(tmp_path: Path) -> None:
    assert not is_in_place([{"path": f"{tmp_path}/x", "content": "\ud800"}])


def test_without_a_difference_no_module_runs(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A module would fail: the host's Python does not exist."""
    files = wanted(installed)
    hosts = {
        "same": {"ansible_python_interpreter": "/nonexistent", "wanted": files},
        "other": {
            "ansible_python_interpreter": "/nonexistent",
            "wanted": [*files, {"path": "/nonexistent", "content": ""}],
        },
    }
    task = {"keystone.virtiofs.files": {"files": "{{ wanted }}"}}
    ends = run_tasks(tmp_path_factory.mktemp("play"), [task], hosts)
    assert ends["same"].message == ""
    assert ends["other"].message
