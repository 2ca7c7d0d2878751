# SPDX-License-Identifier: GPL-3.0-or-later
"""scripts/setup, with a stand-in for pip that fails when another one runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PIP = """#!/bin/sh
mkdir busy && sleep 0.2 && rmdir busy
"""
IDENTITY = """
[ -x /usr/bin/python3 ] && PATH=/usr/bin:$PATH
echo "$(python3 --version) $PWD" >.venv/identity
"""


def test_two_at_once_take_turns(tmp_path: Path) -> None:
    for name in ("scripts/setup", "requirements.txt", "tests/requirements.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(CHECKOUT / name, tmp_path / name)
    pip = tmp_path / ".venv/bin/python"
    pip.parent.mkdir(parents=True)
    pip.write_text(PIP)
    pip.chmod(0o755)
    subprocess.run(["sh", "-ec", IDENTITY], cwd=tmp_path, check=True)

    runs = [subprocess.Popen([tmp_path / "scripts/setup", mode]) for mode in ("run", "test")]
    assert [run.wait(timeout=60) for run in runs] == [0, 0]
    assert (tmp_path / ".venv/requirements.txt.sha256").exists()
    assert (tmp_path / ".venv/tests/requirements.txt.sha256").exists()
