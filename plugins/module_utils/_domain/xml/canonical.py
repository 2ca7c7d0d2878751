# SPDX-License-Identifier: GPL-3.0-or-later
"""What an XML document says, without how it is written.

XML's own canonical form (C14N) refuses namespaces that are not absolute URIs, which some tools use in <metadata>.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from .places import Element


def digest(root: Element) -> str:
    """A hash that ignores comments, blanks between elements, prefixes of namespaces and the order of attributes."""
    return hashlib.sha256(json.dumps(canonical(root)).encode()).hexdigest()


def canonical(element: Element) -> list[Any]:
    """[name, attributes, text or [name, ...], ...]; names of another namespace are written as {namespace}name."""
    content: list[Any] = []
    _add_text(content, element.text)
    for child in element:
        if isinstance(child.tag, str):  # neither a comment nor a processing instruction
            content.append(canonical(child))
        _add_text(content, child.tail)
    if any(isinstance(part, list) for part in content):
        content = [part for part in content if isinstance(part, list) or part.strip()]
    return [element.tag, sorted(element.attrib.items()), *content]


def _add_text(content: list[Any], text: str | None) -> None:
    """Texts that only a comment divides are one."""
    if text and content and isinstance(content[-1], str):
        content[-1] += text
    elif text:
        content.append(text)
