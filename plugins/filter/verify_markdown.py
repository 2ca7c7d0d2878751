# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Turn the report of a verification into Markdown."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_markdown
short_description: The report of a verification as Markdown
description:
  - A page with a table of the checks, for wikis and issues. Below the table comes the fix for each failed check.
author:
  - The Keystone authors
options:
  _input:
    description:
      - The report, with C(domain), C(host), C(time), and the C(results) that the role P(keystone.virtiofs.verify#role)
        leaves in C(verify_results).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the results as Markdown
  ansible.builtin.debug:
    msg: >-
      {{ {'domain': 'test-vm', 'host': 'localhost', 'time': now(utc=true).isoformat(), 'results': verify_results}
         | keystone.virtiofs.verify_markdown }}
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SHOWN = {"pass": "pass", "fail": "**FAIL**", "not_applicable": "n/a"}
# What Markdown or HTML would take for something else than text.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def markdown(report: Mapping[str, Any]) -> str:
    results = report["results"]
    outcomes = [result["result"] for result in results]
    failed = [result for result in results if result["result"] == "fail"]
    passed, skipped = outcomes.count("pass"), outcomes.count("not_applicable")
    lines = [
        f"# Verification of {_text(report['domain'])} on {_text(report['host'])}",
        "",
        f"{passed} passed, {len(failed)} failed, {skipped} not applicable, {_text(report['time'])}",
        "",
        "| check | where | expected | found | result |",
        "|---|---|---|---|---|",
        *(_row(result) for result in results),
        *(["", "## What to do", ""] if failed else []),
        *(f"- {_text(result['id'])}: {_text(result['fix'])}" for result in failed),
    ]
    return "\n".join(lines) + "\n"


def _row(result: Mapping[str, Any]) -> str:
    cells = [_text(result[key]) for key in ("id", "where", "expectation", "found")]
    return f"| {' | '.join(cells)} | {_SHOWN[result['result']]} |"


def _text(value: object) -> str:
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"verify_markdown": markdown}
