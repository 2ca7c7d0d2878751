# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys

import pytest
from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display
from junitparser import JUnitXml
from markdown_it import MarkdownIt

from ansible_collections.keystone.virtiofs.plugins.filter.verify_report import format_results
from ansible_collections.keystone.virtiofs.plugins.plugin_utils import table

RUN = {"domain": "test-vm", "host": "localhost", "time": "2026-11-22T12:00:00+00:00"}


def outcome(name: str, result: str, found: str = "it is there", fix: str = "put it there") -> dict[str, str]:
    return {
        "id": name,
        "where": "guest",
        "expectation": "it is there",
        "found": found,
        "result": result,
        "fix": fix,
    }


EACH = [outcome("a", "pass"), outcome("longer_name", "fail", "nothing"), outcome("b", "not_applicable")]


def test_another_format_is_refused_with_those_that_exist() -> None:
    with pytest.raises(AnsibleFilterError, match="'yaml'; use summary, table, junit or markdown"):
        format_results(EACH, "yaml")


class TestSummary:
    def test_failures_come_first_with_their_fix_and_the_rest_is_counted(self) -> None:
        assert format_results(EACH, "summary", width=60).split("\n") == [
            "FAIL longer_name",
            "  expected: it is there",
            "  found:    nothing",
            "  fix:      put it there",
            "",
            "1 of 3 checks passed, 1 failed, 1 not applicable",
            "not applicable: b",
        ]

    def test_without_failures_it_is_one_line(self) -> None:
        assert format_results([outcome("a", "pass")] * 30, "summary") == "30 of 30 checks passed"

    def test_results_of_an_earlier_verification_are_counted(self) -> None:
        kept = [{**outcome("a", "pass"), "time": "9:00"}, {**outcome("a", "not_applicable"), "time": "8:00"}]
        assert format_results([outcome("b", "pass"), *kept, kept[0]], "summary").split("\n") == [
            "3 of 4 checks passed (2 of them at 9:00, and not repeated), 1 not applicable",
            "not applicable: a",
        ]

    def test_what_was_found_is_cut_but_no_fix_is(self) -> None:
        lines = format_results([outcome("a", "fail", "word " * 100, "word " * 100)], "summary", width=40).split("\n")
        assert max(map(len, lines)) <= 40
        assert lines[4].endswith("...")
        assert " ".join(lines).count("word") > 100

    @pytest.mark.parametrize("kind", ["summary", "table"])
    def test_the_width_follows_the_terminal(self, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("COLUMNS", raising=False)
        widths = []
        for columns in (100, 200):
            monkeypatch.setattr(Display(), "columns", columns)
            lines = format_results([outcome("a", "fail", "word " * 100, "word " * 100)], kind).split("\n")
            widths.append(max(map(len, lines)))
            assert columns - 20 < widths[-1] <= columns - 11
        assert widths[0] < widths[1]

    @pytest.mark.parametrize(("stated", "width"), [("150", 139), ("50", 68), ("5", 89), ("many", 89)])
    def test_the_width_can_be_stated(self, stated: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Display(), "columns", 100)
        monkeypatch.setenv("COLUMNS", stated)
        assert table.width_of_terminal() == width


class TestTable:
    def test_columns_are_aligned_and_results_shown(self) -> None:
        assert format_results(EACH, "table").split("\n") == [
            "CHECK        EXPECTED     FOUND        RESULT",
            "---------------------------------------------",
            "a            it is there  it is there  pass",
            "longer_name  it is there  nothing      FAIL",
            "b            it is there  it is there  n/a",
            "---------------------------------------------",
            "1 of 3 checks passed, 1 failed, 1 not applicable",
            "longer_name: put it there",
        ]

    def test_all_passed_needs_no_fix(self) -> None:
        assert format_results([outcome("a", "pass")], "table").endswith("\n1 of 1 checks passed")

    @pytest.mark.parametrize("width", [80, 110])
    @pytest.mark.parametrize("found", ["word " * 100, "x" * 500, ""])
    def test_no_line_is_wider_than_allowed(self, width: int, found: str) -> None:
        shown = format_results([outcome("a_check", "fail", found, fix="do this " * 50)], "table", width=width)
        assert max(len(line) for line in shown.split("\n")) <= width

    def test_long_cells_are_cut_after_three_lines(self) -> None:
        lines = format_results([outcome("a_check", "pass", "word " * 100)], "table").split("\n")
        rows = lines[2 : lines.index(lines[1], 2)]
        assert len(rows) == 3
        assert rows[-1].endswith("...")


class TestJUnit:
    def test_the_document_says_what_the_results_say(self) -> None:
        results = [outcome("a", "pass"), outcome("b", "fail", "<x/> & y", "start it"), outcome("c", "not_applicable")]
        (suite,) = JUnitXml.fromstring(format_results(results, "junit", **RUN).encode())
        assert (suite.name, suite.hostname, suite.timestamp) == tuple(RUN.values())
        assert (suite.tests, suite.failures, suite.skipped, suite.errors) == (3, 1, 1, 0)
        passed, failed, skipped = suite
        assert [case.name for case in suite] == ["a", "b", "c"]
        assert passed.is_passed
        assert [result.message for result in failed.result] == ["<x/> & y; start it"]
        assert skipped.is_skipped
        assert failed.system_out == "expected: it is there\nfound: <x/> & y"

    def test_without_the_library_the_error_names_the_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "junitparser", None)
        with pytest.raises(AnsibleFilterError, match="pip install junitparser"):
            format_results(EACH, "junit")


class TestMarkdown:
    def test_the_page(self) -> None:
        assert format_results(EACH, "markdown", **RUN).split("\n") == [
            "# Verification of `test-vm` on `localhost`",
            "",
            "1 of 3 checks passed, 1 failed, 1 not applicable, 2026-11-22T12:00:00+00:00",
            "",
            "| check | where | expected | found | result |",
            "|---|---|---|---|---|",
            "| a | guest | it is there | `it is there` | pass |",
            r"| longer\_name | guest | it is there | `nothing` | **FAIL** |",
            "| b | guest | it is there | `it is there` | n/a |",
            "",
            "## Fixes",
            "",
            r"- longer\_name: put it there",
            "",
        ]

    @pytest.mark.parametrize(
        "found",
        [
            *("<driver type='virtiofs'/>", "a | b", "`x` *y* _z_ [l](m) \\", "two\nlines", "# no", "``", "`", "x`"),
            *("https://example.org www.example.org a@example.org", "@user #1", "&copy; &#64;user", "| @user |", "\\"),
        ],
    )
    def test_what_was_found_stays_text(self, found: str) -> None:
        page = format_results([outcome("a", "pass", found)], "markdown", **RUN)
        tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(page)
        cells = [token.children or [] for token in tokens if token.type == "inline"]
        spans = [cell[0].content for cell in cells if len(cell) == 1 and cell[0].type == "code_inline"]
        assert " ".join(found.split()) in spans

    def test_a_bar_behind_a_backslash_does_not_end_the_cell(self) -> None:
        page = format_results([outcome("a", "pass", "\\| @user \\\\| @user")], "markdown", **RUN)
        assert r"| `\ \| @user \\ \| @user` | pass |" in page
