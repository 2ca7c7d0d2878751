# SPDX-License-Identifier: GPL-3.0-or-later
"""The data of the role verify: its checks are complete, told apart, and documented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLE = Path(__file__).parents[3] / "roles" / "verify"
CHECKS: list[dict[str, Any]] = yaml.safe_load((ROLE / "vars/main.yml").read_text())["verify_checks"]
TASKS = "".join(file.read_text() for file in sorted((ROLE / "tasks").glob("*.yml")))


def test_ids_are_unique() -> None:
    assert len({check["id"] for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check["id"])
class TestCheck:
    def test_has_what_it_needs(self, check: dict[str, Any]) -> None:
        assert {"id", "where", "expectation", "pattern", "fix"} <= check.keys()
        assert check.keys() <= {"id", "where", "expectation", "command", "writes", "pattern", "fix"}
        assert check["where"] in {"host", "guest"}

    def test_is_observed_by_its_command_or_by_a_task(self, check: dict[str, Any]) -> None:
        assert ("command" in check) != (f"{{'id': '{check['id']}'}}" in TASKS)

    def test_writes_in_the_guest_only(self, check: dict[str, Any]) -> None:
        assert check["where"] == "guest" or "writes" not in check

    def test_pattern_is_a_regular_expression(self, check: dict[str, Any]) -> None:
        re.compile(re.sub(r"\{\{.*?\}\}", "x", check["pattern"]))

    def test_is_in_the_readme(self, check: dict[str, Any]) -> None:
        assert f"| `{check['id']}` | {check['where']} |" in (ROLE / "README.md").read_text()
