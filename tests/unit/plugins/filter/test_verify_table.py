# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.keystone.virtiofs.plugins.filter.verify_table import table


def outcome(name: str, result: str, found: str = "it is there", fix: str = "put it there") -> dict[str, str]:
    return {"id": name, "expectation": "it is there", "found": found, "result": result, "fix": fix}


def test_columns_are_aligned_and_results_shown() -> None:
    lines = table([outcome("a", "pass"), outcome("longer_name", "fail", "nothing"), outcome("b", "not_applicable")])
    assert lines == [
        "CHECK        EXPECTED     FOUND        RESULT",
        "---------------------------------------------",
        "a            it is there  it is there  pass",
        "longer_name  it is there  nothing      FAIL",
        "b            it is there  it is there  n/a",
        "---------------------------------------------",
        "1 of 3 checks passed, 1 failed, 1 not applicable",
        "longer_name: put it there",
    ]


def test_all_passed_needs_no_fix() -> None:
    assert table([outcome("a", "pass")])[-1] == "1 of 1 checks passed"


@pytest.mark.parametrize("width", [80, 110])
@pytest.mark.parametrize("found", ["word " * 100, "x" * 500, ""])
def test_no_line_is_wider_than_allowed(width: int, found: str) -> None:
    lines = table([outcome("a_check", "fail", found, fix="do this " * 50)], width)
    assert max(len(line) for line in lines) <= width


def test_long_cells_are_cut_after_three_lines() -> None:
    lines = table([outcome("a_check", "pass", "word " * 100)])
    rows = lines[2 : lines.index(lines[1], 2)]
    assert len(rows) == 3
    assert rows[-1].endswith("...")
