# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and write a place in XML: ``a/b/@attribute``, or ``a/b`` for the text of an element. Needs lxml.

What libvirt's XML cannot express is a pair of arguments, such as ("-device", "..."), on QEMU's command line.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from functools import cache
from typing import Any

try:
    from lxml import etree
except ImportError:
    etree = None  # type: ignore[assignment]  # task.run stops before anything uses it
    LXML_IMPORT_ERROR: str | None = traceback.format_exc()
else:
    LXML_IMPORT_ERROR = None

from ..._errors import InvalidInput

__all__ = [
    "LXML_IMPORT_ERROR",
    "QEMU_NAMESPACE",
    "Element",
    "add_arguments",
    "arguments",
    "drop",
    "drop_arguments",
    "ensure",
    "etree",
    "get",
    "get_number",
    "invalid_place",
    "is_empty",
    "put",
]

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
    text = element.get(attribute) if attribute else _whole_text(element)
    return None if text is None else str(text)


def _whole_text(element: Element) -> str | None:
    """The text as libvirt reads it: a comment divides it, but does not end it."""
    return element.xpath("string()") or None if len(element) else element.text


# As libvirt reads numbers: ASCII digits; more than 64 bits fit nowhere.
_NUMBER = re.compile(r"\s*([+-]?[0-9]{1,20})\s*")


def get_number(parent: Element, place: str) -> int | None:
    """The number at a place, None when there is none. Raises InvalidInput, which names the place, for other text."""
    text = get(parent, place)
    if text is None:
        return None
    match = _NUMBER.fullmatch(text)
    if not match:
        raise invalid_place(parent, place, text, "a number")
    return int(match[1])


def invalid_place(parent: Element, place: str, text: str, expected: str) -> InvalidInput:
    """The error for a text that does not belong where it is."""
    where = place if parent.tag == "domain" else f"{parent.tag}/{place}"
    return InvalidInput(
        f"the domain's XML has {text[:100]!r} at {where}, where {expected} belongs", fix="Correct the xml option."
    )


def is_empty(element: Element) -> bool:
    """An element that says nothing by itself: no attribute, no text, no element in it."""
    return not element.attrib and element.find("*") is None and not (get(element, "") or "").strip()


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
            _set_whole_text(element, text)
        return
    element = parent.find(path) if path else parent
    if element is None:
        return
    if attribute:
        element.attrib.pop(attribute, None)
    else:
        _set_whole_text(element, None)
    while element is not parent and is_empty(element):
        empty, element = element, element.getparent()
        element.remove(empty)


def _set_whole_text(element: Element, text: str | None) -> None:
    for child in list(element):  # comments, and the text behind them
        element.remove(child)
    element.text = text


def drop(parent: Element, path: str) -> None:
    """Remove every element at a path below its parent."""
    for element in parent.findall(path):
        element.getparent().remove(element)


QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
_ARG = f"{{{QEMU_NAMESPACE}}}arg"
_COMMANDLINE = f"{{{QEMU_NAMESPACE}}}commandline"


def arguments(root: Element) -> list[tuple[str, str]]:
    """Each argument on QEMU's command line with the one after it."""
    values = [argument.get("value") or "" for argument in root.iterfind(f"{_COMMANDLINE}/{_ARG}")]
    return list(zip(values, values[1:]))


def add_arguments(root: Element, *values: str) -> None:
    line = root.find(_COMMANDLINE)
    if line is None:
        line = etree.SubElement(root, _COMMANDLINE, nsmap={"qemu": QEMU_NAMESPACE})
    for value in values:
        etree.SubElement(line, _ARG, value=value)


def drop_arguments(root: Element, is_ours: Callable[[str, str], bool]) -> None:
    """Remove the pairs of arguments that are the collection's; all others are the user's."""
    line = root.find(_COMMANDLINE)
    if line is None:
        return
    elements = line.findall(_ARG)
    for option, value in zip(elements, elements[1:]):
        if is_ours(option.get("value") or "", value.get("value") or ""):
            line.remove(option)
            line.remove(value)
    if not len(line):
        root.remove(line)
