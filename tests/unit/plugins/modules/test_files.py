# SPDX-License-Identifier: GPL-3.0-or-later
"""Module files: several files and links in one call."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.keystone.virtiofs.plugins.modules import files

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*wanted: dict[str, str], check_mode: bool = False) -> dict[str, Any]:
        with patch_module_args({"files": list(wanted), "_ansible_check_mode": check_mode}), pytest.raises(SystemExit):
            files.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return call


@pytest.fixture
def wanted(tmp_path: Path) -> list[dict[str, str]]:
    return [
        {"path": f"{tmp_path}/bin/program", "content": "#!/bin/sh\n", "mode": "0755"},
        {"path": f"{tmp_path}/wants/program", "target": "../bin/program"},
    ]


def test_files_and_links_are_installed_once(run: Run, wanted: list[dict[str, str]], tmp_path: Path) -> None:
    first = run(*wanted)
    assert (first["changed"], first["paths"]) == (True, [file["path"] for file in wanted])
    program, link = tmp_path / "bin/program", tmp_path / "wants/program"
    assert (program.read_text(), program.stat().st_mode & 0o7777) == ("#!/bin/sh\n", 0o755)
    assert link.resolve() == program
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bin", "program", "program", "wants"]
    again = run(*wanted)
    assert (again["changed"], again["paths"], again["diff"]) == (False, [], [])


def test_check_mode_predicts_and_changes_nothing(run: Run, wanted: list[dict[str, str]], tmp_path: Path) -> None:
    predicted = run(*wanted, check_mode=True)
    assert list(tmp_path.iterdir()) == []
    assert predicted == run(*wanted) | {"invocation": predicted["invocation"]}


@pytest.mark.parametrize(
    ("change", "before"),
    [
        (lambda path: path.chmod(0o600), "mode 0600\n#!/bin/sh\n"),
        (lambda path: path.write_text("other"), "mode 0755\nother"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/null")), "symbolic link\n/dev/null"),
        (lambda path: path.unlink(), ""),
    ],
    ids=["mode", "content", "link", "absent"],
)
def test_only_what_differs_changes(
    change: Callable[[Path], object], before: str, run: Run, wanted: list[dict[str, str]], tmp_path: Path
) -> None:
    run(*wanted)
    program = tmp_path / "bin/program"
    change(program)
    again = run(*wanted)
    assert again["paths"] == [str(program)]
    assert again["diff"][0]["before"] == before
    assert (program.read_text(), program.lstat().st_mode & 0o7777) == ("#!/bin/sh\n", 0o755)


def test_nothing_changes_if_a_path_is_a_directory(run: Run, wanted: list[dict[str, str]], tmp_path: Path) -> None:
    (tmp_path / "wants/program").mkdir(parents=True)
    assert "neither a file nor a link" in run(*wanted)["msg"]
    assert not (tmp_path / "bin").exists()


def test_a_mode_that_is_not_octal_is_refused(run: Run, wanted: list[dict[str, str]]) -> None:
    assert "is not octal" in run(wanted[0] | {"mode": "u+x"})["msg"]


def test_what_a_killed_run_has_left_is_removed(run: Run, wanted: list[dict[str, str]], tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    left = tmp_path / "bin/.keystone-new-program-abcd1234"
    left.write_text("half")
    run(*wanted)
    assert not left.exists()
