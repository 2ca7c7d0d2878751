# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts that a hostile guest, or a careless inventory, may put anywhere."""

from __future__ import annotations

import os
import socket
from pathlib import Path

TEXTS: list[str] = [
    *("", " ", "\t", "\n", "\r", "\r\n", "\x00", "\x07", "\x1b", "\x7f", "\x85", "\x9b", "\xa0", "\xad", "\ufeff"),
    *("\u061c", "\u200b", "\u200e", "\u200f", "\u2028", "\u2029", "\u202e", "\u2066", "\u2069", "\ud800", "\udfff"),
    *("\x1b[2J", "\x1b]0;title\x07", "\x1b[8m", "\x9b31m", "a\rb", "a\x08b", "\u202ecod.exe", "ok\x1b[1A\x1b[2K"),
    *("-", "--", "-h", "--help", "-oProxyCommand=id", "-e", "-f/etc/shadow", "--option=x"),
    *(
        "$(id)",
        "`id`",
        "${HOME}",
        "$HOME",
        ";id",
        "|id",
        "&id",
        "&&id",
        "||id",
        ">x",
        "<x",
        "(id)",
        "!id",
        "*",
        "?",
        "~",
    ),
    *("'", '"', "\\", "'; id; '", '"; id; "', "\\\n", "a b", "a\tb", "a\nb", "#x", "%h", "%d%n", "%s%s%s%n"),
    *("..", ".", "/", "//", "../..", "../../etc/passwd", "/etc/passwd", "/proc/self/environ", "/dev/zero", "a/../b"),
    *(
        "{{ 7 * 7 }}",
        "{% raw %}",
        "{{ lookup('pipe', 'id') }}",
        "{#",
        "!unsafe",
        "!!python/object:os.system",
        "[]",
        "{}",
    ),
    *("<b>", "<script>alert(1)</script>", "&lt;", "&#27;", "]]>", "<!ENTITY x SYSTEM 'file:///etc/passwd'>", "<!--"),
    *("|", "| a | b |", "```", "[x](javascript:alert(1))", "![](http://192.0.2.1/x)", "# heading", "---", "- item"),
    *("null", "None", "true", "False", "0", "-1", "1e999", "NaN", "Infinity", "0x10", "1_000", "٣", "१२", "Ⅷ"),
    *("A" * 100, "A" * 5000, "é" * 300, "🙂" * 100, "a\u0301" * 200, "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d"),
    *(
        "json:{}",
        "nbd://192.0.2.1/x",
        "ssh://x",
        "file:///etc/passwd",
        "fat:rw:/etc",
        "http://192.0.2.1/",
        "qemu+ssh://x/",
    ),
]


def label(value: object) -> str:
    """A name for a test's parameter that is plain and short."""
    return ascii(value)[:40]


def _nested(depth: int) -> object:
    value: object = "x"
    for _level in range(depth):
        value = [value]
    return value


# Values of every kind for an option of whichever type. TREE stands for a directory with files of odd kinds (tree).
TREE = "@TREE@"
NUMBERS: list[object] = [
    *(float("inf"), float("-inf"), float("nan"), 1e300, 0.5, -0.0, -1, 0, 1, 2, 3, 63, 1000),
    *(2**16, 2**31 - 1, 2**31, 2**32, 2**30, 2**63, 2**64, 10**30),
    *("1e999999999", "1e-999999999", "1e5", "Infinity", "-Infinity", "NaN", "sNaN", "-0", "+1", "٣", "0x10", "1_0"),
    "9" * 400,
]
NAMES: list[object] = [
    *("", " ", "\n", "a\nb", "\x00", "a\x00b", "\x1b[2J", "\ud800", "a\udfffb", "\uffff", "\u00a0", "a\u00a0b"),
    *("\u2028", "a\u2028b", "\u202ea", "-", "--help", "-x", "..", ".", "../../etc/passwd", "a/b", "a//b"),
    *("{{ 7 * 7 }}", "{% raw %}", "%s%n%d", "%", "\\", "\\040", "'\"<>&", "]]>", "a,b=c", "a=b", "a:b", "#a"),
    *("$HOME", "~", "~nosuch/x", "$(id)", "x" * 36, "x" * 37, "x" * 200, "x" * 256, "x" * 5000),
    *("é" * 100, "é" * 150, "🙂" * 20, "x" * 200_000, "x" * 3_000_000),
]
_FILES = [
    *("new", "file", "folder", "fifo", "socket", "loop", "dangling", "file/below", "loop/below", "a b", "a\nb"),
    *("a\x00b", "a\ud800b", "a\u2028b", "a,b=c", "a:b", "-x", "%41", "é" * 100, "x" * 255, "x" * 256, "é" * 200),
    *("/".join(["x" * 200] * 30), "./folder", "folder/../new", "y" * 100, "/folder//", "../../../../../../etc"),
]
PATHS: list[object] = ["/", *(f"{TREE}/{name}" for name in _FILES), f"//{TREE}/folder", "folder", "./folder", "new"]
STRUCTURES: list[object] = [
    *([], {}, [[]], [None], [{}], [""], {"": ""}, {"a": 1}, {"a": {"b": [1]}}, ["a", "a"], [1.5], [float("inf")]),
    *(_nested(50), True, "yes", "maybe", "[]", "{}", "a=b", '{"a": 1}', ["\ud800"], {"\ud800": "\x00"}),
]
VALUES: list[object] = [*NUMBERS, *NAMES, *PATHS, *STRUCTURES]


def tree(root: Path) -> None:
    """Files of odd kinds."""
    (root / "folder").mkdir(parents=True)
    (root / "file").write_bytes(bytes(2**20))
    os.mkfifo(root / "fifo")
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "socket"))
