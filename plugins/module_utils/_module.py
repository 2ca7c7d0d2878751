# SPDX-License-Identifier: GPL-3.0-or-later
"""AnsibleModule with what it lacks: a fix in every failure, a refusal of values that break it, one way to the end."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule

from ._errors import VirtiofsError
from ._untrusted import printable

# Ansible converts a number with an exponent for as long as that takes, which can be indefinitely.
_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,20}(\.[0-9]{1,20})?\s*", re.ASCII)
# Neither XML nor an argument of a program can hold these: NUL, and what stands for bytes that are not UTF-8.
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")

_FIX = "Correct the option that the message names; ansible-doc describes its values."


class Module(AnsibleModule):  # type: ignore[misc]  # ansible has no types
    """A module of this collection."""

    params: dict[str, Any]

    def _load_params(self) -> None:
        super()._load_params()
        found = unfit_values(self.argument_spec, self.params)
        if found:
            self.params = {}  # whatever they are, secrets included, they are not returned
            self.fail_json(msg="; ".join(found[:3]))

    def run(self, work: Callable[[], dict[str, Any]]) -> None:
        """Do the work, and end with its result or its error."""
        try:
            result = work()
        except VirtiofsError as error:
            self.fail_json(exception=error, **error.as_result())
        self.exit_json(**result)

    def fail_json(self, msg: Any, **values: Any) -> None:
        """End with what failed, always with the values of a VirtiofsError: Ansible's own messages lack a fix."""
        if "problem" not in values:
            error = VirtiofsError(str(msg).rstrip("."), fix=values.get("fix", _FIX))
            values.update(error.as_result())
        # ansible-core returns exceptions since 2.19; before, it adds the traceback itself with -vvv.
        if "exception" not in inspect.signature(AnsibleModule.fail_json).parameters:
            values.pop("exception", None)
        super().fail_json(**{"msg": msg, **values})


def unfit_values(spec: Mapping[str, Any], values: Mapping[str, Any], within: str = "") -> list[str]:
    """What is wrong with values on which Ansible's own validation fails without a message, or never ends."""
    found = []
    for option, value in values.items():
        label, entry = printable(f"{within}{option}")[:200], spec.get(option, {})
        if value is None:
            continue
        if any(map(_NO_TEXT.search, _texts([option, value]))):
            found.append(f"{label}: the text is not valid Unicode, or contains a NUL character")
        elif "int" in (entry.get("type"), entry.get("elements")):
            found += [
                f"{label}: {_short(item)} is not a whole number" for item in _items(value) if _is_unfit_number(item)
            ]
        elif entry.get("options"):
            found += _unfit_parts(entry, value, label)
    return found


def _unfit_parts(entry: Mapping[str, Any], value: Any, label: str) -> list[str]:
    """What is wrong with a dictionary of options, or with a list of such dictionaries."""
    parts = value if entry["type"] == "list" else [value]
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        kind = "a list of dictionaries" if entry["type"] == "list" else "a dictionary"
        return [f"{label}: {_short(value)} is not {kind}"]
    return [problem for part in parts for problem in unfit_values(entry["options"], part, f"{label}.")]


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_unfit_number(value: Any) -> bool:
    if isinstance(value, str):
        return not _NUMBER.fullmatch(value)
    return isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value))


def _short(value: Any) -> str:
    return repr(value)[:100]


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for item in value.items() for text in _texts(list(item)))
    elif isinstance(value, list):
        yield from (text for item in value for text in _texts(item))
