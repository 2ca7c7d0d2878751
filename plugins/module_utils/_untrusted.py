# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that a guest may have chosen. Each is parsed strictly where it enters, or refused.

A guest says what it wants through its agent, its ssh server, its DHCP lease and every byte of its disks. None of it may
reach a command line, a configuration file or a terminal in a form that anything there would interpret.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import unicodedata
from typing import Any

MOST_ADDRESSES = 16
"""How many addresses of one guest are looked at."""

HOST_KEY_TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
)
# The largest key in use, RSA with 16384 bits, has about 2,100 bytes.
_HOST_KEY_BYTES = 4096

# Nix's base 32 leaves out e, o, t and u; a name has at most 211 characters (nix: src/libstore/path.cc).
_STORE_PATH = re.compile(r"/nix/store/[0-9abcdfghijklmnpqrsvwxyz]{32}-[0-9A-Za-z+?=_-][0-9A-Za-z+.?=_-]{0,210}")

_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")

# Control characters, and those that are not seen: marks of direction, joiners, tags; lone surrogates, which cannot be
# encoded; other line separators.
_UNPRINTABLE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
_REFUSED_BY_XML = (0xFFFE, 0xFFFF)


class _Printable(dict[int, int]):
    """What each character is shown as. Filled as characters are met."""

    def __missing__(self, code: int) -> int:
        is_shown = unicodedata.category(chr(code)) not in _UNPRINTABLE and code not in _REFUSED_BY_XML
        self[code] = code if is_shown else 0xFFFD
        return self[code]


_SHOWN = _Printable({ord(character): ord(character) for character in "\t\n"})


def printable(text: str) -> str:
    """The text with U+FFFD in place of everything that a terminal, XML or HTML would interpret, hide or refuse."""
    return text.translate(_SHOWN)


def address(text: Any) -> str | None:
    """An IP address at which another machine can be reached, in its canonical form; None for anything else.

    The loopback interface is not another machine: a guest must not send its host's ssh client to the host itself.
    """
    if not isinstance(text, str) or "%" in text:
        return None
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    plain = getattr(found, "ipv4_mapped", None) or found
    if plain.is_loopback or plain.is_unspecified or plain.is_multicast or plain.is_link_local:
        return None
    return str(plain)


def ssh_host_key(text: Any) -> str | None:
    """``TYPE BASE64`` of the first line of a public key file; None unless it is one key of a known type."""
    if not isinstance(text, str) or not text.isascii():
        return None
    words = text.partition("\n")[0].split(" ")
    if len(words) < 2 or words[0] not in HOST_KEY_TYPES or len(words[1]) > _HOST_KEY_BYTES:
        return None
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (ValueError, binascii.Error):
        return None
    name = words[0].encode()
    is_key = blob.startswith(len(name).to_bytes(4, "big") + name) and len(blob) > len(name) + 8
    return f"{words[0]} {words[1]}" if is_key else None


def uuid(text: Any) -> str | None:
    """A UUID as libvirt writes it; None for anything else."""
    if isinstance(text, str) and _UUID.fullmatch(text):
        return text.lower()
    return None


def store_path(text: Any) -> str | None:
    """A path directly in the Nix store; None for anything else, paths below one included."""
    if isinstance(text, str) and _STORE_PATH.fullmatch(text):
        return text
    return None
