# SPDX-License-Identifier: GPL-3.0-or-later
"""Every Nix file of the project is one that Nix can read."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

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
    # REUSE-IgnoreStart
    assert "# SPDX-License-Identifier: GPL-3.0-or-later" in (CHECKOUT / file).read_text()
    # REUSE-IgnoreEnd


PAGES = [*sorted((CHECKOUT / "docs").glob("*.md")), *sorted(CHECKOUT.glob("*/*/README.md")), CHECKOUT / "nix/README.md"]
BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(CHECKOUT)}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```nix\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE))
]


@pytest.mark.parametrize("block", BLOCKS)
def test_an_example_parses(block: str, tmp_path: Path) -> None:
    example = tmp_path / "example.nix"
    text = block if block.lstrip().startswith("{") else f"{{ {block} }}"
    example.write_text(f"with {{ }};\n{text}")  # names of the surrounding configuration
    result = parse(str(example))
    assert result.returncode == 0, result.stderr
