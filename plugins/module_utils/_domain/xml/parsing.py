# SPDX-License-Identifier: GPL-3.0-or-later
"""Text to XML."""

from __future__ import annotations

import re

from ..._errors import InvalidInput
from .places import Element, etree

# The text is Unicode already, so what it declares about its bytes holds no longer.
_DECLARATION = re.compile(r"\A\ufeff?(<\?xml\s[^>]*\?>)?")


def parse(text: str, origin: str) -> Element:
    """The root of a well-formed document.

    Namespaces in <metadata> may be undeclared or not a URI: libvirt accepts them, lxml by itself does not.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_blank_text=True, recover=True)
    try:
        root = etree.fromstring(_DECLARATION.sub("", text, count=1).encode(), parser)
    except UnicodeEncodeError:
        raise InvalidInput(
            f"the XML from {origin} is not valid Unicode", fix="Save the file as UTF-8, or correct the xml option."
        ) from None
    except etree.XMLSyntaxError as error:
        raise _malformed(origin, str(error)) from None
    fatal = next((entry for entry in parser.error_log if entry.level == etree.ErrorLevels.FATAL), None)
    if fatal is not None:
        raise _malformed(origin, f"{fatal.message}, line {fatal.line}, column {fatal.column}")
    return root


def _malformed(origin: str, problem: str) -> InvalidInput:
    return InvalidInput(f"the XML from {origin} is malformed: {problem}", fix="Correct the xml option.")
