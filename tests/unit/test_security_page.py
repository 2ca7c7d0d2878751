# SPDX-License-Identifier: GPL-3.0-or-later
"""Every threat of docs/security.md names its proof, and the proof exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs/security.md").read_text()
TESTS = {path.name: path for path in (CHECKOUT / "tests/unit").rglob("test_*.py")}


def rows() -> list[list[str]]:
    table = PAGE.partition("## Threats")[2].partition("\n## ")[0]
    lines = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_threat_has_a_proof(row: list[str]) -> None:
    proofs = re.findall(r"`([^`]+)`", row[2])
    assert proofs
    for proof in proofs:
        name, _colons, function = proof.partition("::")
        if name.startswith("test_"):
            assert f"def {function}(" in TESTS[name].read_text() if function else name in TESTS
        elif "/" in name:
            assert (CHECKOUT / name).exists()
        else:
            assert (CHECKOUT / "molecule" / name / "molecule.yml").exists(), name
