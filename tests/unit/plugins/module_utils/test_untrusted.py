# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest says, by table; and for any text: nothing leaves a parser that must not."""

from __future__ import annotations

import base64
import ipaddress
import re
import struct
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.keystone.virtiofs.plugins.module_utils import _untrusted
from ansible_collections.keystone.virtiofs.tests.unit import hostile

KEY_BLOB = struct.pack(">I", 11) + b"ssh-ed25519" + struct.pack(">I", 32) + bytes(range(32))
KEY = f"ssh-ed25519 {base64.b64encode(KEY_BLOB).decode()}"
STORE = "/nix/store/00000000000000000000000000000000"

GOOD_ADDRESSES = ["192.168.122.3", "10.0.2.15", "8.8.8.8", "2001:db8::1", "fd00::abcd"]
BAD_ADDRESSES = [
    *hostile.TEXTS,
    *("127.0.0.1", "127.1.2.3", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "224.0.0.1", "ff02::1"),  # noqa: S104
    *("fe80::1", "169.254.1.1", "fe80::1%eth0", "fe80::1%eth0;x", "2001:db8::1%x"),
    *("1.2.3.4\n", " 1.2.3.4", "1.2.3.4 ", "1.2.3.4\nX", "1.2.3", "01.2.3.4", "1.2.3.4/24", "1.2.3.4:22", "[::2]"),
    *("$(id)", "`id`", "-oProxyCommand=id", "127.0.0.1$(id)", "1.2.3.4;id", "1.2.3.4|id", "%h", "~root", "web"),
    *("١٢٧.0.0.1", "1.2.3.4\x00", "1.2.3.4\u2028", "0x7f.1", "2130706433", "1.2.3.256", "::g"),
    *(None, 2130706433, b"1.2.3.4", ["1.2.3.4"], {"ip": "1.2.3.4"}, True, 1.5),
]
BAD_KEYS = [
    *hostile.TEXTS,
    *(f"@cert-authority *,* {KEY}", f"@revoked * {KEY}", f"* {KEY}", f"web {KEY}", f"#{KEY}", f" {KEY}"),
    *("ssh-ed25519", "ssh-ed25519 ", "ssh-ed25519  AAAA", "ssh-ed25519 !!!!", "ssh-ed25519 AAAA", "ssh-dss AAAA"),
    *(KEY.replace("ssh-ed25519 ", "ssh-rsa "), KEY.replace(" ", "\t"), KEY.replace(" ", "\u00a0"), f"\n{KEY}"),
    *(KEY + "\u00e9", "ssh-ed25519 " + "A" * 5000, "ssh-ed25519 " + KEY.split()[1] + "*", KEY.upper()),
    *(None, 7, KEY.encode(), [KEY], {"key": KEY}),
]
GOOD_PATHS = [f"{STORE}-x", f"{STORE}-nixos-system-web-26.05.20260101.abcdef0", f"{STORE}-a+b?c=d_e-f.g"]
BAD_PATHS = [
    *hostile.TEXTS,
    *(
        "/srv/project",
        "/nix/store",
        "/nix/store/",
        f"{STORE}",
        f"{STORE}-",
        f"{STORE}-x/bin",
        f"{STORE}-x/",
        f"{STORE}-x\n",
    ),
    *(
        f"{STORE}-../../etc",
        f"{STORE}-.hidden",
        f"/nix/store/../{STORE}-x",
        f"/nix/store//{STORE[11:]}-x",
        f" {STORE}-x",
    ),
    *(
        f"{STORE[:-1]}e-x",
        f"{STORE[:-1]}-x",
        f"{STORE}0-x",
        f"{STORE}-x y",
        f"{STORE}-$(id)",
        f"{STORE}-x;id",
        f"{STORE}-x#y",
    ),
    *(f"{STORE}-" + "x" * 212, f"{STORE}-é", f"{STORE}-x\u2028", f"path:{STORE}-x", f"{STORE}-x?dir=/etc/../x/", "."),
    *(None, 7, f"{STORE}-x".encode(), [f"{STORE}-x"]),
]


@pytest.mark.parametrize("text", GOOD_ADDRESSES)
def test_good_addresses(text: str) -> None:
    assert _untrusted.address(text) == text


@pytest.mark.parametrize("text", BAD_ADDRESSES, ids=hostile.label)
def test_bad_addresses(text: object) -> None:
    assert _untrusted.address(text) is None


@pytest.mark.parametrize("text", [KEY, f"{KEY} root@web", f"{KEY}\n", f"{KEY} c\n@cert-authority * {KEY}\n"])
def test_good_keys(text: str) -> None:
    assert _untrusted.ssh_host_key(text) == KEY


@pytest.mark.parametrize("text", BAD_KEYS, ids=hostile.label)
def test_bad_keys(text: object) -> None:
    assert _untrusted.ssh_host_key(text) is None


@pytest.mark.parametrize("text", GOOD_PATHS)
def test_good_store_paths(text: str) -> None:
    assert _untrusted.store_path(text) == text


@pytest.mark.parametrize("text", BAD_PATHS, ids=hostile.label)
def test_bad_store_paths(text: object) -> None:
    assert _untrusted.store_path(text) is None


ANY_TEXT = st.text() | st.sampled_from([text for text in hostile.TEXTS if isinstance(text, str)])


@given(ANY_TEXT)
def test_an_address_is_only_what_ipaddress_writes(text: str) -> None:
    found = _untrusted.address(text)
    assert found is None or found == str(ipaddress.ip_address(found))
    assert found is None or re.fullmatch(r"[0-9a-f:.]+", found)


@given(st.text(alphabet="0123456789abcdef:.%/ \n$-", max_size=30))
def test_nothing_like_an_address_brings_anything_else_along(text: str) -> None:
    found = _untrusted.address(text)
    assert found is None or re.fullmatch(r"[0-9a-f:.]+", found)


@given(ANY_TEXT)
def test_a_key_is_two_plain_words(text: str) -> None:
    for candidate in (text, f"{KEY}{text}", f"{text}{KEY}", f"ssh-rsa {text}"):
        found = _untrusted.ssh_host_key(candidate)
        assert found is None or re.fullmatch(r"[a-z0-9-]+ [A-Za-z0-9+/]+={0,2}", found)


@given(ANY_TEXT)
def test_a_store_path_stays_in_the_store(text: str) -> None:
    for candidate in (text, f"{STORE}-{text}", f"/nix/store/{text}"):
        found = _untrusted.store_path(candidate)
        assert found is None or (found.count("/") == 3 and re.fullmatch(r"[0-9A-Za-z+.?=_/-]+", found))


@given(st.text(alphabet=st.characters()) | st.text(alphabet="a\ufffd\ufffe\uffff"))
def test_printable_text_moves_no_cursor_and_turns_nothing_around(text: str) -> None:
    shown = _untrusted.printable(text)
    assert len(shown) == len(text)
    categories = {unicodedata.category(character) for character in shown if character not in "\n\t"}
    assert not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not set(shown) & {"\ufffe", "\uffff"}, "XML refuses them"


@pytest.mark.parametrize("hidden", ["\u200b", "\ufeff", "\u2060", "\xad", "\U000e0041", "\u202e", "\u061c", "\x9b"])
def test_what_is_not_seen_is_replaced(hidden: str) -> None:
    assert _untrusted.printable(f"a{hidden}b") == "a\ufffdb"


def test_plain_text_is_not_touched() -> None:
    text = "Größe 5\u00a0MiB, 日本語 \t\n🙂"
    assert _untrusted.printable(text) == text
