# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and write a place in XML: ``a/b/@attribute``, or ``a/b`` for the text of an element. Needs lxml."""

from __future__ import annotations

import traceback
from functools import cache
from typing import Any

try:
    from lxml import etree
except ImportError:
    etree = None  # type: ignore[assignment]  # task.run stops before anything uses it
    LXML_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    LXML_IMPORT_ERROR = None

__all__ = ["LXML_IMPORT_ERROR", "Element", "drop", "ensure", "etree", "get", "put"]

Element = Any
"""lxml's element; lxml is imported when it is there, so its types cannot be named at run time."""


@cache  # places are the schema's: few, and each is read thousands of times
def _split(place: str) -> tuple[str, str | None]:
    path, _at, attribute = place.partition("@")
    return path.rstrip("/"), attribute or None


def get(parent: Element, place: str) -> str | None:
    """The text at a place, None when there is none."""
    path, attribute = _split(place)
    element = parent.find(path) if path else parent
    if element is None:
        return None
    text = element.get(attribute) if attribute else element.text
    return None if text is None else str(text)


def ensure(parent: Element, path: str) -> Element:
    """The element at a path, made when missing."""
    element = parent
    for name in path.split("/") if path else ():
        child = element.find(name)
        element = etree.SubElement(element, name) if child is None else child
    return element


def put(parent: Element, place: str, text: str | None) -> None:
    """Write a text at a place; None removes it, with elements that are then empty."""
    path, attribute = _split(place)
    if text is not None:
        element = ensure(parent, path)
        if attribute:
            element.set(attribute, text)
        else:
            element.text = text
        return
    element = parent.find(path) if path else parent
    if element is None:
        return
    if attribute:
        element.attrib.pop(attribute, None)
    else:
        element.text = None
    while element is not parent and not element.attrib and not len(element) and not (element.text or "").strip():
        empty, element = element, element.getparent()
        element.remove(empty)


def drop(parent: Element, path: str) -> None:
    """Remove every element at a path below its parent."""
    for element in parent.findall(path):
        element.getparent().remove(element)
