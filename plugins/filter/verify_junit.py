# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Turn the report of a verification into JUnit XML."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_junit
short_description: The report of a verification as JUnit XML
description:
  - For CI systems, which show it as the result of a test suite. Each check is a test case; what is not applicable is
    skipped.
author:
  - The Keystone authors
requirements:
  - junitparser (Python library, on the controller)
options:
  _input:
    description:
      - The report, with C(domain), C(host), C(time), and the C(results) that the role P(keystone.virtiofs.verify#role)
        leaves in C(verify_results).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Save the results for CI
  ansible.builtin.copy:
    content: >-
      {{ {'domain': 'test-vm', 'host': 'localhost', 'time': now(utc=true).isoformat(), 'results': verify_results}
         | keystone.virtiofs.verify_junit }}
    dest: test-vm.xml
    mode: "0644"
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description: The XML document.
  type: str
"""

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def junit(report: Mapping[str, Any]) -> str:
    try:
        from junitparser import JUnitXml, TestSuite
    except ImportError as error:
        raise AnsibleFilterError("JUnit XML needs the Python library junitparser: pip install junitparser") from error
    suite = TestSuite(str(report["domain"]))
    suite.hostname = str(report["host"])
    suite.timestamp = str(report["time"])
    suite.add_testcases([_case(result) for result in report["results"]])
    document = JUnitXml("keystone.virtiofs.verify")
    document.add_testsuite(suite)
    document.update_statistics()
    return str(document.tostring().decode())


def _case(result: Mapping[str, Any]) -> Any:
    from junitparser import Failure, Skipped, TestCase

    case = TestCase(str(result["id"]), classname=str(result["where"]))
    case.system_out = f"expected: {result['expectation']}\nfound: {result['found']}"
    if result["result"] == "fail":
        case.result = [Failure(f"{result['found']}; {result['fix']}", "verify")]
    elif result["result"] == "not_applicable":
        case.result = [Skipped(str(result["found"]))]
    return case


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"verify_junit": junit}
