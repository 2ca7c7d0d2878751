# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ansible_collections.keystone.virtiofs.plugins.filter.verify_outcome import judge
from ansible_collections.keystone.virtiofs.plugins.module_utils._untrusted import printable
from ansible_collections.keystone.virtiofs.tests.unit import hostile

CHECK = {
    "id": "share_mounted",
    "where": "guest",
    "expectation": "the share is mounted",
    "command": "mount",
    "pattern": "^nix-store-share on /ro type virtiofs",
    "fix": "mount it",
}
MOUNTED = "proc on /proc type proc (rw)\r\nnix-store-share on /ro type virtiofs (ro,relatime)\r\n"


@pytest.mark.parametrize(
    ("observed", "result", "found"),
    [
        pytest.param(
            {"rc": 0, "stdout": MOUNTED}, "pass", "nix-store-share on /ro type virtiofs (ro,relatime)", id="match"
        ),
        pytest.param({"rc": 0, "stdout": "a on b"}, "fail", "a on b", id="no-match"),
        pytest.param({"rc": 0, "stdout": "line\n" * 30}, "fail", "not found in 30 lines of output", id="long-output"),
        pytest.param({"rc": 1, "stdout": MOUNTED}, "fail", "(exit status 1)", id="match-but-status"),
        pytest.param({"rc": 127, "stdout": "", "stderr": "mount: not found"}, "fail", "mount: not found", id="stderr"),
        pytest.param({"rc": 0, "stdout": ""}, "fail", "no output", id="silent"),
        pytest.param({"rc": 0, "stdout": "not applicable: none\r\n"}, "not_applicable", "none", id="not-applicable"),
        pytest.param({"rc": 1, "stdout": "not applicable: no Nix"}, "fail", "no Nix", id="not-applicable-but-status"),
        pytest.param(
            {"unreachable": True, "msg": "timed out"}, "fail", "cannot be reached: timed out", id="unreachable"
        ),
        pytest.param({"timedout": {"period": 9}, "failed": True}, "fail", "did not end within 9 s", id="timeout"),
        pytest.param({"skipped": True}, "not_applicable", "not run", id="skipped"),
    ],
)
@pytest.mark.parametrize("named_by", [{"id": "share_mounted"}, {"item": CHECK}])
def test_judgement(observed: dict[str, Any], named_by: dict[str, Any], result: str, found: str) -> None:
    (outcome,) = judge([CHECK], [{**observed, **named_by}])
    assert outcome["result"] == result
    assert found in outcome["found"]


NEEDS = {"disk": [], "domain": ["disk"], "guest": ["network", "domain"], "network": [], "share": ["guest"]}


@pytest.mark.parametrize(
    ("failing", "outcomes"),
    [
        ([], {}),
        (["share"], {"share": "fail"}),
        (["domain", "guest", "share"], {"domain": "fail", "guest": "domain", "share": "domain"}),
        (["disk", "domain"], {"disk": "fail", "domain": "disk"}),
        (["disk", "share"], {"disk": "fail", "share": "fail"}),  # what is between passes
        (["disk", "network"], {"disk": "fail", "network": "fail"}),
    ],
)
def test_a_check_that_depends_on_a_failed_one_is_not_applicable(failing: list[str], outcomes: dict[str, str]) -> None:
    checks = [{**CHECK, "id": name, "needs": needs} for name, needs in NEEDS.items()]
    observations = [{"id": name, "stdout": "" if name in failing else MOUNTED} for name in NEEDS]
    for result in judge(checks, observations):
        expected = outcomes.get(result["id"], "pass")
        if expected in ("pass", "fail"):
            assert result["result"] == expected
        else:
            assert (result["result"], result["found"]) == ("not_applicable", f"depends on {expected}, which failed")


def test_pattern_over_several_lines_shows_whole_lines_as_one() -> None:
    check = {**CHECK, "where": "host", "pattern": r"<driver[\s\S]*?<target dir='x'/>"}
    xml = "<filesystem>\n  <driver type='virtiofs'/>\n  <target dir='x'/>\n</filesystem>\n"
    (outcome,) = judge([check], [{"id": CHECK["id"], "rc": 0, "stdout": xml}])
    assert outcome["found"] == "<driver type='virtiofs'/> <target dir='x'/>"


def test_line_ends_of_a_terminal_do_not_matter() -> None:
    check = {**CHECK, "pattern": r"\(ro,relatime\)$"}
    assert judge([check], [{"id": CHECK["id"], "rc": 0, "stdout": MOUNTED}])[0]["result"] == "pass"


def test_what_was_not_observed_is_not_applicable() -> None:
    assert judge([CHECK], [], "not run in check mode") == [
        {
            "id": "share_mounted",
            "where": "guest",
            "expectation": "the share is mounted",
            "fix": "mount it",
            "found": "not run in check mode",
            "result": "not_applicable",
        }
    ]


def test_what_was_not_observed_is_as_in_the_earlier_report() -> None:
    earlier = {"time": "9:00", "results": [{"id": CHECK["id"], "result": "pass", "found": "earlier", "fix": "another"}]}
    (kept,) = judge([CHECK], [], earlier=earlier)
    assert (kept["result"], kept["found"], kept["time"], kept["fix"]) == ("pass", "earlier", "9:00", CHECK["fix"])
    (seen,) = judge([CHECK], [{"id": CHECK["id"], "rc": 0, "stdout": MOUNTED}], earlier=earlier)
    assert "time" not in seen
    (failed, dependent) = judge(
        [{**CHECK, "id": "guest"}, {**CHECK, "needs": ["guest"]}], [{"id": "guest", "rc": 1}], earlier=earlier
    )
    assert (failed["result"], dependent["result"]) == ("fail", "not_applicable")
    assert dependent["found"] == "depends on guest, which failed"


def test_order_is_that_of_the_checks() -> None:
    checks = [{**CHECK, "id": name} for name in ("b", "a", "c")]
    observations = [{"id": name, "rc": 0, "stdout": MOUNTED} for name in ("a", "c", "b")]
    assert [outcome["id"] for outcome in judge(checks, observations)] == ["b", "a", "c"]


RW_STORE_USED = r"^\S+\s+\S+\s+[0-9.]*[1-9][0-9.]*[KMGT]?\s.*\s/rw$"


@pytest.mark.parametrize(
    "output",
    [
        "a " * 10**5,
        "a\n" * 10**5,
        "1" * 10**6,
        "a b " + "1" * 10**5,
        ("a b " + "1 " * 200 + "\n") * 100,
        " " * 10**6,
        "\n" * 10**6,
        "x" * 500 + "\n" + ("1." * 250 + " ") * 100,
    ],
    ids=hostile.label,
)
def test_a_pattern_is_quick_on_whatever_a_guest_prints(output: str) -> None:
    """Without the limits these take minutes; the test's own limit is generous."""
    check = {**CHECK, "pattern": RW_STORE_USED}
    with time_limit(20):
        (outcome,) = judge([check], [{"id": CHECK["id"], "rc": 0, "stdout": output}])
    assert outcome["result"] == "fail"
    assert len(outcome["found"]) < 40000


@pytest.mark.parametrize("text", hostile.TEXTS, ids=hostile.label)
def test_what_a_guest_prints_reaches_no_terminal(text: str) -> None:
    check = {**CHECK, "pattern": "^found"}
    for observed in ({"stdout": f"found {text}"}, {"stdout": text}, {"unreachable": True, "msg": text}):
        (outcome,) = judge([check], [{"id": CHECK["id"], "rc": 0, **observed}])
        assert outcome["found"] == printable(outcome["found"])
        assert not set(outcome["found"]) & set("\n\r\x1b\x9b\u202e\u2028")


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def too_late(_signal: int, _frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
