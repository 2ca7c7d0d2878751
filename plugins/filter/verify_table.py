# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Show the results of a verification as a table of text."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_table
short_description: The results of a verification as a table for the terminal
description:
  - Takes the fact C(verify_results) that the role P(keystone.virtiofs.verify#role) leaves. Long cells are wrapped,
    and cut after three lines. Below the table come the count and the fix for each failed check.
author:
  - The Keystone authors
positional: _input, width
options:
  _input:
    description:
      - Results, each with C(id), C(expectation), C(found), C(result) and C(fix).
    type: list
    elements: dict
    required: true
  width:
    description:
      - How many characters a line may have.
    type: int
    default: 110
"""

EXAMPLES = r"""
- name: Show the results
  ansible.builtin.debug:
    msg: "{{ verify_results | keystone.virtiofs.verify_table | join('\n') }}"
"""

RETURN = r"""
_value:
  description: The lines of the table.
  type: list
  elements: str
"""

from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_HEADINGS = ("CHECK", "EXPECTED", "FOUND", "RESULT")
_SHOWN = {"pass": "pass", "fail": "FAIL", "not_applicable": "n/a"}
_GAP = "  "
_MOST_LINES = 3


def table(results: Sequence[Mapping[str, Any]], width: int = 110) -> list[str]:
    rows = [_HEADINGS, *((r["id"], r["expectation"], r["found"], _SHOWN[r["result"]]) for r in results)]
    widths = _widths(rows, width)
    lines = [line for row in rows for line in _row(row, widths)]
    rule = "-" * max(len(line) for line in lines)
    return [lines[0], rule, *lines[1:], rule, _count(results), *_fixes(results, width)]


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """The first and last column as wide as their content; the two with prose share the rest."""
    first, last = (max(len(row[column]) for row in rows) for column in (0, -1))
    rest = width - first - last - len(_GAP) * (len(_HEADINGS) - 1)
    expected = min(rest // 2, max(len(row[1]) for row in rows))
    found = min(rest - expected, max(len(row[2]) for row in rows))
    return [first, expected, found, last]


def _row(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    wrapped = [wrap(cell, width, max_lines=_MOST_LINES, placeholder=" ...") for cell, width in zip(cells, widths)]
    return [
        _GAP.join(part.ljust(width) for part, width in zip(line, widths)).rstrip()
        for line in zip_longest(*wrapped, fillvalue="")
    ]


def _count(results: Sequence[Mapping[str, Any]]) -> str:
    outcomes = [result["result"] for result in results]
    parts = [f"{outcomes.count('pass')} of {len(outcomes)} checks passed"]
    parts += [f"{outcomes.count('fail')} failed"] if "fail" in outcomes else []
    parts += [f"{outcomes.count('not_applicable')} not applicable"] if "not_applicable" in outcomes else []
    return ", ".join(parts)


def _fixes(results: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    failed = [result for result in results if result["result"] == "fail"]
    return [line for r in failed for line in wrap(f"{r['id']}: {r['fix']}", width, subsequent_indent="  ")]


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"verify_table": table}
