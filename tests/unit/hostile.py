# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts that a hostile guest, or a careless inventory, may put anywhere."""

from __future__ import annotations

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
