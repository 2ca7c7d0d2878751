# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filter makes of hostile answers; tests/unit/roles/test_verify_script.py has those of the real script."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.filter.verify_observations import observe
from ansible_collections.keystone.virtiofs.tests.unit import hostile

CHECKS = [{"id": name} for name in ("first", "second", "third")]
MALFORMED = {"stderr": "the answer to this check is malformed"}
MISSING = {"stderr": "the answer does not contain this check"}
GOOD = {"rc": 0, "stdout": "fine", "stderr": ""}
MOST = base64.b64encode(b"x" * 262144).decode()


def line(check_id: str) -> str:
    return f"keystone-verify {check_id} 0 {base64.b64encode(b'fine').decode()} \r\n"


def observed(stdout: str) -> list[dict[str, Any]]:
    found = observe(CHECKS, {"stdout": stdout, "rc": 0}, 9)
    assert [observation.pop("id") for observation in found] == ["first", "second", "third"]
    return found


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("0  ", {"rc": 0, "stdout": "", "stderr": ""}),
        ("255 eA== eQ==", {"rc": 255, "stdout": "x", "stderr": "y"}),
        ("1 =two words= =x=", {"rc": 1, "stdout": "two words", "stderr": "x"}),
        ("0 =eA=== =eA=", MALFORMED),
        *((f"0 {text} ", MALFORMED) for text in ("==", "=x", "x=y=", "=x=y=", "=a\tb=", "=a\x1bb=", "=é=")),
        (f"0 ={'x' * 262145}= ", MALFORMED),
        ("0 //4= ", {"rc": 0, "stdout": "\ufffd\ufffd", "stderr": ""}),
        (f"0 {MOST} ", {"rc": 0, "stdout": "x" * 262144, "stderr": ""}),
        ("timed-out", {"timedout": {"period": 9}}),
        *((said, MALFORMED) for said in ("", "0", "0 ", "0 eA==", "0 eA== eQ== ", "0 eA== eQ== eg==", "timed-out ")),
        *((f"{status} eA== ", MALFORMED) for status in ("", "-1", "+1", "1000", "x", "0x1", "٣", "1.0")),
        *((f"0 {text} ", MALFORMED) for text in ("e", "eA", "eA=", "=", "eA==eA==", "e A", "eA==\t", "eA_-", "{{1}}")),
        (f"0 {MOST}eA== ", MALFORMED),
        (f"0  {'eHh4' * 10**6}", MALFORMED),
    ],
    ids=hostile.label,
)
def test_a_line_is_read_strictly(said: str, expected: dict[str, Any]) -> None:
    found = observed(f"{line('first')}keystone-verify second {said}\n{line('third')}")
    assert (found[0], found[1]) == (GOOD, expected)
    after = {"stdout": "not applicable: not run, because second did not end"} if "timedout" in expected else GOOD
    assert found[2] == after


@pytest.mark.parametrize("name", ["Second", "second\t", "", " second", "third", "second=", "__class__"])
def test_a_check_without_a_line_fails(name: str) -> None:
    assert observed(f"{line('first')}{line(name)}")[1] == MISSING


def test_a_check_with_two_lines_fails() -> None:
    assert observed(line("first") + line("second") * 2 + line("third")) == [GOOD, MALFORMED, GOOD]


def test_a_check_that_ended_as_its_time_did_has_timed_out() -> None:
    found = observed(f"{line('first')}{line('second')}keystone-verify second timed-out\n")
    assert found[1] == {"timedout": {"period": 9}}


@pytest.mark.parametrize("text", [text for text in hostile.TEXTS if "\n" not in text], ids=hostile.label)
def test_other_lines_are_ignored(text: str) -> None:
    found = observed(f"{text}\n{line('first')}{text}\n{text}{line('second')}{line('third')}\n{text}")
    assert (found[0], found[2]) == (GOOD, GOOD)
    assert found[1] == (MISSING if text.strip("\n") else GOOD)


@pytest.mark.parametrize(
    "answer",
    [
        {"unreachable": True, "msg": "no route to host"},
        {"stdout": "This account is not available.\n", "rc": 1},
        {"stdout": "", "stderr": "sh: not found", "rc": 127},
    ],
)
def test_what_is_not_from_the_script_is_each_checks_observation(answer: dict[str, Any]) -> None:
    assert observe(CHECKS, answer, 9) == [{**answer, **check} for check in CHECKS]


def test_without_an_answer_in_time_no_check_is_run() -> None:
    first, *others = observe(CHECKS, {"timedout": {"period": 18}, "failed": True}, 9)
    assert first == {"timedout": {"period": 18}, "failed": True, "id": "first"}
    assert {other["stdout"] for other in others} == {"not applicable: not run, because first did not end"}
