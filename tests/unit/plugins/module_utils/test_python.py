# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ast
import json
import runpy
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[4] / "plugins"
MODULES = sorted(PLUGINS.glob("modules/*.py"))


def test_a_python_that_is_too_old_gets_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 18))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(PLUGINS / "module_utils/_python.py"))
    result = json.loads(capsys.readouterr().out)
    assert (ended.value.code, result["failed"]) == (1, True)
    assert "needs Python 3.9 or later on the host" in result["msg"]
    assert "is Python 3.8. Set ansible_python_interpreter to" in result["msg"]


@pytest.mark.parametrize("version", [(3, 9, 0), (3, 14, 1)])
def test_a_newer_one_does_not(version: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    runpy.run_path(str(PLUGINS / "module_utils/_python.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_module_checks_python_before_it_loads_anything_else(module: Path) -> None:
    imports = (node for node in ast.parse(module.read_text()).body if isinstance(node, ast.ImportFrom))
    own = [
        node
        for node in imports
        if "module_utils" in str(node.module) and "ansible.module_utils" not in str(node.module)
    ]
    assert [name.name for name in own[0].names] == ["_python"]
