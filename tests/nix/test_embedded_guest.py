# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded test guest's files are what the guest module evaluates to."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible_collections.keystone.virtiofs.tests.nix.support import CHECKOUT

FILES = CHECKOUT / "roles/test_guest/files/evaluated"


def contents(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def write(folder: Path, module: str) -> dict[str, str]:
    subprocess.run([CHECKOUT / "scripts/test-guest-files", folder, module], check=True)
    return contents(folder)


def test_its_files_are_fresh(tmp_path: Path) -> None:
    assert contents(FILES) == write(tmp_path, "{ }"), "run make generate"


def test_another_guest_has_other_files(tmp_path: Path) -> None:
    module = '{ keystone.virtualization.guest.virtiofs.shareName = "other"; }'
    assert contents(FILES) != write(tmp_path, module)
