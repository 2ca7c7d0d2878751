# SPDX-License-Identifier: GPL-3.0-or-later
"""Every Nix file of the project is one that Nix can read."""

from __future__ import annotations

import subprocess

import pytest

from ansible_collections.keystone.virtiofs.tests.nix.support import CHECKOUT

TRACKED = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.nix"]
FILES = subprocess.run(TRACKED, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.split()


def parse(*files: str) -> subprocess.CompletedProcess[str]:
    command = ["nix-instantiate", "--store", "dummy://", "--parse", *files]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("file", FILES)
def test_it_parses(file: str) -> None:
    assert parse(file).returncode == 0, parse(file).stderr
    assert "# SPDX-License-Identifier: GPL-3.0-or-later" in (CHECKOUT / file).read_text()
