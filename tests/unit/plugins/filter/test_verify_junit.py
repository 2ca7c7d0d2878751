# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys

import pytest
from ansible.errors import AnsibleFilterError
from junitparser import JUnitXml

from ansible_collections.keystone.virtiofs.plugins.filter.verify_junit import junit

RESULTS = [
    {"id": name, "where": "host", "expectation": "runs", "found": "<x/> & y", "result": result, "fix": "start it"}
    for name, result in (("a", "pass"), ("b", "fail"), ("c", "not_applicable"))
]
REPORT = {"domain": "test-vm", "host": "localhost", "time": "2026-11-22T12:00:00+00:00", "results": RESULTS}


def test_the_document_says_what_the_results_say() -> None:
    (suite,) = JUnitXml.fromstring(junit(REPORT).encode())
    assert (suite.name, suite.hostname, suite.timestamp) == ("test-vm", "localhost", REPORT["time"])
    assert (suite.tests, suite.failures, suite.skipped, suite.errors) == (3, 1, 1, 0)
    passed, failed, skipped = suite
    assert [case.name for case in suite] == ["a", "b", "c"]
    assert passed.is_passed
    assert [result.message for result in failed.result] == ["<x/> & y; start it"]
    assert skipped.is_skipped
    assert failed.system_out == "expected: runs\nfound: <x/> & y"


def test_without_the_library_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "junitparser", None)
    with pytest.raises(AnsibleFilterError, match="pip install junitparser"):
        junit(REPORT)
