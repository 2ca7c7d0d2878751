# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Format the results of a verification."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_report
short_description: Format the results of a verification as a summary, as a table, as JUnit XML or as Markdown
version_added: 1.0.0
description:
  - Takes the fact C(verify_results) that the role P(keystone.virtiofs.verify#role) sets.
author:
  - keystone contributors (@ncrmro)
requirements:
  - junitparser (Python library, on the controller) for V(junit)
positional: _input, format
options:
  _input:
    description:
      - Results, each with C(id), C(where), C(expectation), C(found), C(result) and C(fix), and the C(time) of a result
        of an earlier verification.
    type: list
    elements: dict
    required: true
  format:
    description:
      - V(summary) is for the terminal. It describes each failed check and its fix, counts the other results, and names
        the checks that are not applicable.
      - V(table) is for the terminal, too. Long cells are wrapped, and cut after three lines. The count of results and
        the fix for each failed check follow the table.
      - V(junit) is JUnit XML for CI systems, which show each check as a test case. A check that is not applicable is
        a skipped test case.
      - V(markdown) is a page for wikis and issues, with a table and the fix for each failed check.
    type: str
    choices: [summary, table, junit, markdown]
    required: true
  domain:
    description:
      - Name of the domain, for the heading of V(junit) and V(markdown).
    type: str
    default: ""
  host:
    description:
      - Name of the domain's host, for the heading of V(junit) and V(markdown).
    type: str
    default: ""
  time:
    description:
      - Time of the verification, for the heading of V(junit) and V(markdown).
    type: str
    default: ""
  width:
    description:
      - Maximum number of characters in a line of V(summary) and V(table). By default as many as Ansible shows in a line
        of a list on this terminal.
    type: int
"""

EXAMPLES = r"""
- name: Show the results
  ansible.builtin.debug:
    msg: "{{ (verify_results | keystone.virtiofs.verify_report('summary')).splitlines() }}"

- name: Save the results for CI
  ansible.builtin.copy:
    content: >-
      {{ verify_results | keystone.virtiofs.verify_report('junit', domain='test-vm', host='localhost',
         time=now(utc=true).isoformat()) }}
    dest: test-vm.xml
    mode: "0644"
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description: The summary, the table, the XML document or the Markdown page.
  type: str
"""

import re
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

from ansible_collections.keystone.virtiofs.plugins.plugin_utils.table import (
    CUT,
    GAP,
    MOST_LINES,
    render,
    width_of_terminal,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Result = Mapping[str, Any]

_HEADINGS = ("CHECK", "EXPECTED", "FOUND", "RESULT")
_IN_TABLE = {"pass": "pass", "fail": "FAIL", "not_applicable": "n/a"}
_IN_MARKDOWN = {**_IN_TABLE, "fail": "**FAIL**"}
_INDENT = len("  expected: ")
# Characters that Markdown or HTML would not take as text.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&])")


def format_results(
    results: Sequence[Result],
    format: str,  # noqa: A002  the option's name
    domain: str = "",
    host: str = "",
    time: str = "",
    width: int | None = None,
) -> str:
    if format in ("summary", "table"):
        lines = summary if format == "summary" else table
        return "\n".join(lines(results, width or width_of_terminal()))
    if format == "junit":
        return junit(results, domain, host, time)
    if format == "markdown":
        return markdown(results, domain, host, time)
    raise AnsibleFilterError(f"verify_report: format is {format!r}; use summary, table, junit or markdown")


# --- summary ---


def summary(results: Sequence[Result], width: int) -> list[str]:
    descriptions = [line for result in _failed(results) for line in [*_failure(result, width), ""]]
    return [*descriptions, _count(results), *wrap(_not_applicable(results), width, subsequent_indent="  ")]


def _failure(result: Result, width: int) -> list[str]:
    parts = (("expected", result["expectation"]), ("found", result["found"]), ("fix", result["fix"]))
    return [f"FAIL {result['id']}", *(line for name, text in parts for line in _part(name, text, width))]


def _part(name: str, text: str, width: int) -> list[str]:
    # A fix is always whole, unlike what was found.
    limits = {} if name == "fix" else {"max_lines": MOST_LINES, "placeholder": CUT}
    indent = " " * _INDENT
    return wrap(text, width, initial_indent=f"  {name}:".ljust(_INDENT), subsequent_indent=indent, **limits)


# --- table ---


def table(results: Sequence[Result], width: int) -> list[str]:
    rows = [_HEADINGS, *((r["id"], r["expectation"], r["found"], _IN_TABLE[r["result"]]) for r in results)]
    return [*render(rows, _widths(rows, width)), _count(results), *_fixes(results, width)]


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """The first and last column as wide as their content; the two with prose share the rest."""
    first, last = (max(len(row[column]) for row in rows) for column in (0, -1))
    rest = width - first - last - len(GAP) * (len(_HEADINGS) - 1)
    expected = min(rest // 2, max(len(row[1]) for row in rows))
    found = min(rest - expected, max(len(row[2]) for row in rows))
    return [first, expected, found, last]


def _not_applicable(results: Sequence[Result]) -> str:
    names = [result["id"] for result in results if result["result"] == "not_applicable"]
    return f"not applicable: {', '.join(names)}" if names else ""


def _count(results: Sequence[Result]) -> str:
    outcomes = [result["result"] for result in results]
    parts = [f"{outcomes.count('pass')} of {len(outcomes)} checks passed{_earlier(results)}"]
    parts += [f"{outcomes.count('fail')} failed"] if "fail" in outcomes else []
    parts += [f"{outcomes.count('not_applicable')} not applicable"] if "not_applicable" in outcomes else []
    return ", ".join(parts)


def _earlier(results: Sequence[Result]) -> str:
    times = sorted(result["time"] for result in results if result["result"] == "pass" and "time" in result)
    return f" ({len(times)} of them at {times[0]}, and not repeated)" if times else ""


def _fixes(results: Sequence[Result], width: int) -> list[str]:
    return [line for r in _failed(results) for line in wrap(f"{r['id']}: {r['fix']}", width, subsequent_indent="  ")]


def _failed(results: Sequence[Result]) -> list[Result]:
    return [result for result in results if result["result"] == "fail"]


# --- JUnit XML ---


def junit(results: Sequence[Result], domain: str, host: str, time: str) -> str:
    try:
        from junitparser import JUnitXml, TestSuite
    except ImportError as error:
        raise AnsibleFilterError("JUnit XML needs the Python library junitparser: pip install junitparser") from error
    suite = TestSuite(domain)
    suite.hostname = host
    suite.timestamp = time
    suite.add_testcases([_test_case(result) for result in results])
    document = JUnitXml("keystone.virtiofs.verify")
    document.add_testsuite(suite)
    document.update_statistics()
    return str(document.tostring().decode())


def _test_case(result: Result) -> Any:
    from junitparser import Failure, Skipped, TestCase

    case = TestCase(str(result["id"]), classname=str(result["where"]))
    case.system_out = f"expected: {result['expectation']}\nfound: {result['found']}"
    if result["result"] == "fail":
        case.result = [Failure(f"{result['found']}; {result['fix']}", "verify")]
    elif result["result"] == "not_applicable":
        case.result = [Skipped(str(result["found"]))]
    return case


# --- Markdown ---


def markdown(results: Sequence[Result], domain: str, host: str, time: str) -> str:
    failed = _failed(results)
    lines = [
        f"# Verification of {_code(domain)} on {_code(host)}",
        "",
        f"{_count(results)}, {_text(time)}",
        "",
        "| check | where | expected | found | result |",
        "|---|---|---|---|---|",
        *(_markdown_row(result) for result in results),
        *(["", "## Fixes", ""] if failed else []),
        *(f"- {_text(result['id'])}: {_text(result['fix'])}" for result in failed),
    ]
    return "\n".join(lines) + "\n"


def _markdown_row(result: Result) -> str:
    cells = [*(_text(result[key]) for key in ("id", "where", "expectation")), _code(result["found"])]
    return f"| {' | '.join(cells)} | {_IN_MARKDOWN[result['result']]} |"


def _code(value: object) -> str:
    """A code span, which is not searched for addresses and names of users: what the guest and others chose."""
    text = " ".join(str(value).split())
    # A table ends a cell at a bar unless a backslash is before it, and that one must not be escaped itself.
    text = re.sub(r"(?<=\\)\|", " |", text).replace("|", r"\|")
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"`{text}`" if text else ""


def _text(value: object) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"verify_report": format_results}
