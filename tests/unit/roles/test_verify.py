# SPDX-License-Identifier: GPL-3.0-or-later
"""The data of the role verify: its checks cover the seed's checklist, have unique ids, are documented, and can fail."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROLE = Path(__file__).parents[3] / "roles" / "verify"
VARS: dict[str, Any] = {}
for file in (ROLE / "vars/main").glob("*.yml"):
    VARS |= yaml.safe_load(file.read_text())
CHECKS: list[dict[str, Any]] = VARS["_verify_checks"] + VARS["_verify_checks_absent"]
# What a task file adds to the commands of a machine.
ASKED_BY_TASKS = {value["id"] for value in VARS.values() if isinstance(value, dict) and "command" in value}
TASKS = "".join(file.read_text() for file in sorted((ROLE / "tasks").glob("*.yml")))
# A box to tick, what is expected of it, and the headings of the tests that needed a person.
LINE = re.compile(r"^(?:- \[ \] |  - (?=Expected: )|\d+\. \*\*)(.*?)(?:\*\*)?$", re.MULTILINE)
CHECKLIST = LINE.findall(Path(__file__).with_name("seed_checklist.md").read_text())
COVERAGE: dict[str, list[str]] = yaml.safe_load(Path(__file__).with_name("seed_checklist.yml").read_text())
FINDINGS = Path(__file__).parents[3] / "plugins/module_utils/_host/findings.py"
BREAKAGES = Path(__file__).parents[3] / "molecule/default/tasks"


def test_the_checklist_is_whole() -> None:
    """Five tests, 29 boxes and 5 expectations: counted in the original."""
    assert len(CHECKLIST) == 5 + 29 + 5


@pytest.mark.parametrize("line", CHECKLIST)
def test_a_line_of_the_checklist_has_its_checks(line: str) -> None:
    assert COVERAGE.get(line)


def test_what_covers_the_checklist_are_checks() -> None:
    assert COVERAGE.keys() == set(CHECKLIST)
    assert {check for checks in COVERAGE.values() for check in checks} <= {check["id"] for check in CHECKS}


def test_fixes_that_host_info_reports_exist() -> None:
    """A check may use the fix of a finding, which then names the packages of the host's distribution."""
    used = set(re.findall(r"_verify_host_fixes\.(\w+)", str(CHECKS)))
    assert used
    assert used <= set(re.findall(r'Finding\("(\w+)"', FINDINGS.read_text()))


def test_ids_are_unique() -> None:
    assert len({check["id"] for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check["id"])
class TestCheck:
    def test_has_what_it_needs(self, check: dict[str, Any]) -> None:
        assert {"id", "where", "expectation", "pattern", "fix"} <= check.keys()
        assert check.keys() <= {"id", "where", "expectation", "command", "writes", "pattern", "fix", "needs"}
        assert check["where"] in {"host", "guest"}

    def test_is_observed_by_its_command_or_by_a_task(self, check: dict[str, Any]) -> None:
        by_task = f"{{'id': '{check['id']}'}}" in TASKS or check["id"] in ASKED_BY_TASKS
        assert ("command" in check) != by_task

    def test_writes_in_the_guest_only(self, check: dict[str, Any]) -> None:
        assert check["where"] == "guest" or "writes" not in check

    def test_needs_earlier_checks(self, check: dict[str, Any]) -> None:
        """The filter verify_outcome knows only what came before."""
        earlier = itertools.takewhile(lambda other: other is not check, CHECKS)
        assert set(check.get("needs", [])) <= {other["id"] for other in earlier}

    def test_pattern_is_a_regular_expression(self, check: dict[str, Any]) -> None:
        re.compile(re.sub(r"\{\{.*?\}\}", "x", check["pattern"]))

    def test_pattern_does_not_match_silence(self, check: dict[str, Any]) -> None:
        """A check without a valid answer must fail."""
        assert not re.search(check["pattern"], "", re.MULTILINE)

    def test_is_seen_to_fail_in_a_scenario(self, check: dict[str, Any]) -> None:
        texts = [file.read_text() for file in BREAKAGES.glob("*.yml")]
        listed = [re.findall(r"(?:failing|dependent):( \[.*\]|(?:\n +- \w+)+)", text) for text in texts]
        assert check["id"] in re.findall(r"\w+", " ".join(itertools.chain(*listed)))

    def test_is_in_the_readme(self, check: dict[str, Any]) -> None:
        assert f"| `{check['id']}` | {check['where']} |" in (ROLE / "README.md").read_text()


def commands() -> list[dict[str, Any]]:
    files = (ROLE / "tasks").glob("*.yml")
    tasks = [task for file in files for task in yaml.safe_load(file.read_text())]
    tasks += [inner for task in tasks for part in ("block", "always") for inner in task.get(part, ())]
    return [task for task in tasks if "ansible.builtin.raw" in task]


@pytest.mark.parametrize("task", commands(), ids=lambda task: task["name"])
def test_a_command_has_a_limit_of_time(task: dict[str, Any]) -> None:
    """A guest that answers nothing, or fills what it shares with its host, would stop the playbook for good."""
    is_script = task["ansible.builtin.raw"] == "{{ _verify_script }}"  # which has a limit for its commands
    assert task["timeout"] == ("{{ _verify_script_timeout }}" if is_script else "{{ verify_check_timeout }}")
    # The other checks run, and the report says what was found. The last task leaves an error behind.
    assert task.get("ignore_errors", False) is (task["name"] != "Remove the path from the host's store")
