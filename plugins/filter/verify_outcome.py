# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Judge what was observed against what was expected."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_outcome
short_description: Judge the observations of a verification
version_added: 1.0.0
description:
  - Compares each check with its observation. A check passes if its command ended with status 0 and the output
    contains its pattern. If a check does not apply to a machine, its command prints
    C(not applicable), followed by a colon and the reason.
  - A check that fails is not applicable if one of the checks that it needs has failed.
  - Made for the role P(keystone.virtiofs.verify#role).
author:
  - keystone contributors (@ncrmro)
positional: _input, observations, not_run, earlier
options:
  _input:
    description:
      - The checks, each with C(id), C(where), C(expectation), C(pattern) and C(fix), and optionally C(needs), the
        ids of earlier checks without which it cannot pass.
    type: list
    elements: dict
    required: true
  observations:
    description:
      - Results of tasks, each with C(stdout) and C(rc), and with the check's id as C(id) or, from a loop over
        checks, as C(item.id).
    type: list
    elements: dict
    required: true
  not_run:
    description:
      - Reason for checks without an observation, returned as their C(found).
    type: str
    default: not run
  earlier:
    description:
      - The report of an earlier verification that still applies, with C(time) and C(results). A check without an
        observation has its result from here, if there is one.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Evaluate the observations
  ansible.builtin.set_fact:
    results: "{{ checks | keystone.virtiofs.verify_outcome(observed.results) }}"
"""

RETURN = r"""
_value:
  description: For each check, in the same order, its C(id), C(where), C(expectation), C(found), C(result) (V(pass),
    V(fail) or V(not_applicable)) and C(fix), and the C(time) of a result of an earlier verification.
  type: list
  elements: dict
"""

import re
from typing import TYPE_CHECKING, Any

from ansible_collections.keystone.virtiofs.plugins.module_utils._untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


_SHORT_OUTPUT = 5
_NOT_APPLICABLE = "not applicable: "
# What a guest prints is cut to this many characters in all and in a line, and matched line by line, so that no pattern
# takes long on it.
_GUEST_OUTPUT = 32768
_GUEST_LINE = 500


def judge(
    checks: Iterable[Mapping[str, Any]],
    observations: Iterable[Mapping[str, Any]],
    not_run: str = "not run",
    earlier: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    observed = {_check_id(observation): observation for observation in observations}
    known = {result["id"]: {"time": earlier["time"], **result} for result in earlier["results"]} if earlier else {}
    causes: dict[str, str] = {}  # by failed check; of a check that fails by itself, its own id
    results = []
    for check in checks:
        result = _judge(check, observed.get(check["id"]), known.get(check["id"]), not_run)
        cause = next((causes[need] for need in check.get("needs", []) if need in causes), None)
        if result["result"] == "fail":
            causes[check["id"]] = cause or check["id"]
        if cause and (result["result"] == "fail" or "time" in result):
            result = _outcome(check, "not_applicable", f"depends on {cause}, which failed")
        results.append(result)
    return results


def _check_id(observation: Mapping[str, Any]) -> str:
    return str(observation["id"] if "id" in observation else observation["item"]["id"])


def _judge(
    check: Mapping[str, Any], observation: Mapping[str, Any] | None, known: Mapping[str, Any] | None, not_run: str
) -> dict[str, Any]:
    if observation is not None and not observation.get("skipped"):
        return _outcome(check, *_compare(check["pattern"], observation, check["where"] == "guest"))
    if known is not None:
        return {**_outcome(check, known["result"], known["found"]), "time": known["time"]}
    return _outcome(check, "not_applicable", not_run)


def _outcome(check: Mapping[str, Any], result: str, found: str) -> dict[str, Any]:
    return {**{key: check[key] for key in ("id", "where", "expectation", "fix")}, "found": found, "result": result}


def _compare(pattern: str, observation: Mapping[str, Any], is_guests: bool) -> tuple[str, str]:
    if observation.get("unreachable"):
        return "fail", f"cannot be reached: {_one_line(observation.get('msg', ''))}"
    if observation.get("timedout"):
        return "fail", f"did not end within {observation['timedout']['period']} s"
    # A command run through ssh with a terminal ends its lines with CR LF.
    output = str(observation.get("stdout", "")).replace("\r", "")
    if is_guests:
        output = "\n".join(line[:_GUEST_LINE] for line in output[:_GUEST_OUTPUT].split("\n"))
    matching = _matching_line(pattern, output) if is_guests else _matching_lines(pattern, output)
    status = observation.get("rc", 0)
    if status == 0 and output.startswith(_NOT_APPLICABLE):
        return "not_applicable", _one_line(output[len(_NOT_APPLICABLE) :])
    if matching is not None and status == 0:
        return "pass", _one_line(matching)
    said = _one_line(_said(output) or observation.get("stderr") or "no output")
    return "fail", f"{said} (exit status {status})" if status else said


def _matching_line(pattern: str, output: str) -> str | None:
    return next((line for line in output.split("\n") if re.search(pattern, line)), None)


def _matching_lines(pattern: str, output: str) -> str | None:
    """The whole lines of a match, which may span several."""
    match = re.search(pattern, output, re.MULTILINE)
    if not match:
        return None
    end = output.find("\n", match.end())
    return output[output.rfind("\n", 0, match.start()) + 1 : end if end >= 0 else None]


def _said(output: str) -> str:
    """The last line of a short output; no single line of a long one (mount, dumpxml) is meaningful."""
    lines = [line for line in output.splitlines() if line.strip()]
    if len(lines) > _SHORT_OUTPUT:
        return f"not found in {len(lines)} lines of output"
    return lines[-1] if lines else ""


def _one_line(text: str) -> str:
    return " ".join(printable(text[:_GUEST_OUTPUT]).split())


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"verify_outcome": judge}
