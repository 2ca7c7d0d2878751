# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read what the script of a verification has printed."""

from __future__ import annotations

DOCUMENTATION = r"""
name: verify_observations
short_description: Read what the script of a verification has printed
version_added: 1.0.0
description:
  - The script runs the commands of several checks, and prints a line for each. This filter returns the observations
    that P(keystone.virtiofs.verify_outcome#filter) judges.
  - The answer of a guest is hostile. A check whose line is missing, repeated or malformed is observed to fail. All
    other lines are ignored.
  - Without any line of the script, for example of a machine that cannot be reached, the task's result itself is the
    observation.
  - Checks after one that did not end are observed as not applicable.
  - Made for the role P(keystone.virtiofs.verify#role).
author:
  - keystone contributors (@ncrmro)
positional: _input, answer, timeout
options:
  _input:
    description:
      - The checks that the script was to run, in its order, each with C(id).
    type: list
    elements: dict
    required: true
  answer:
    description:
      - Result of the task that ran the script.
    type: dict
    required: true
  timeout:
    description:
      - Timeout in seconds that the script has set for its checks.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Record the observations
  ansible.builtin.set_fact:
    observations: "{{ checks | keystone.virtiofs.verify_observations(answer, 180) }}"
"""

RETURN = r"""
_value:
  description: For each check, in the same order, its C(id), and C(rc), C(stdout) and C(stderr), or C(timedout).
  type: list
  elements: dict
"""

import base64
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

# The script (_verify_script of the role) prints these words, and at most this many bytes of output, and of errors.
_MARK = "keystone-verify"
_TIMED_OUT = "timed-out"
_MOST_BYTES = 262144

_BASE64 = rf"[A-Za-z0-9+/=]{{0,{(_MOST_BYTES + 2) // 3 * 4}}}"
_PLAIN = rf"=[A-Za-z0-9 .,:;/_()%+@~-]{{1,{_MOST_BYTES}}}="
_ANSWER = re.compile(rf"([0-9]{{1,3}}) ({_PLAIN}|{_BASE64}) ({_PLAIN}|{_BASE64})")


def observe(checks: Iterable[Mapping[str, Any]], answer: Mapping[str, Any], timeout: int) -> list[dict[str, Any]]:
    lines = _lines(str(answer.get("stdout", "")))
    observations = []
    endless = None
    for check in checks:
        if endless:
            observation: Mapping[str, Any] = {"stdout": f"not applicable: not run, because {endless} did not end"}
        else:
            observation = _observation(lines[check["id"]], timeout) if lines else answer
        if "timedout" in observation:
            endless = check["id"]
        observations.append({**observation, "id": check["id"]})
    return observations


def _lines(text: str) -> defaultdict[str, list[str]]:
    """The script's lines, by check, without their mark."""
    lines = defaultdict(list)
    for line in text.split("\n"):
        # A terminal ends lines with CR LF.
        mark, _space, rest = line.rstrip("\r").partition(" ")
        check_id, _space, said = rest.partition(" ")
        if mark == _MARK:
            lines[check_id].append(said)
    return lines


def _observation(lines: Sequence[str], timeout: int) -> dict[str, Any]:
    if _TIMED_OUT in lines:
        return {"timedout": {"period": timeout}}
    if not lines:
        return {"stderr": "the answer does not contain this check"}
    try:
        (line,) = lines
        return _parse(line)
    except ValueError:
        return {"stderr": "the answer to this check is malformed"}


def _parse(line: str) -> dict[str, Any]:
    found = _ANSWER.fullmatch(line)
    if not found:
        raise ValueError
    return {"rc": int(found[1]), "stdout": _decode(found[2]), "stderr": _decode(found[3])}


def _decode(text: str) -> str:
    if re.fullmatch(_PLAIN, text):
        return text[1:-1].replace("~", "\n")
    return base64.b64decode(text, validate=True).decode(errors="replace")


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"verify_observations": observe}
