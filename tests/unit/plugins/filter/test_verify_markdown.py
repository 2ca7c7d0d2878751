# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from ansible_collections.keystone.virtiofs.plugins.filter.verify_markdown import markdown


def report(*results: tuple[str, str], found: str = "it is there") -> dict[str, object]:
    outcomes = [
        {"id": name, "where": "guest", "expectation": "it is there", "found": found, "result": result, "fix": "do so"}
        for name, result in results
    ]
    return {"domain": "test-vm", "host": "localhost", "time": "2026-11-22T12:00:00+00:00", "results": outcomes}


def test_the_page() -> None:
    page = markdown(report(("a", "pass"), ("b", "fail"), ("c", "not_applicable")))
    assert page == "\n".join(
        [
            "# Verification of test-vm on localhost",
            "",
            "1 passed, 1 failed, 1 not applicable, 2026-11-22T12:00:00+00:00",
            "",
            "| check | where | expected | found | result |",
            "|---|---|---|---|---|",
            "| a | guest | it is there | it is there | pass |",
            "| b | guest | it is there | it is there | **FAIL** |",
            "| c | guest | it is there | it is there | n/a |",
            "",
            "## What to do",
            "",
            "- b: do so",
            "",
        ]
    )


@pytest.mark.parametrize("found", ["<driver type='virtiofs'/>", "a | b", "`x` *y* _z_ [l](m) \\", "two\nlines", "# no"])
def test_what_was_found_stays_text(found: str) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown(report(("a", "pass"), found=found)))
    cells = [token for token in tokens if token.type == "inline"]
    texts = ["".join(part.content for part in cell.children or ()) for cell in cells]
    assert " ".join(found.split()) in texts
