# SPDX-License-Identifier: GPL-3.0-or-later
"""Plain English: no text of the project uses a word of wording.txt, which has a better one for each."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("wording.txt")
# Written by others, by machines, or for another project; recorded; and the list itself.
OTHERS = re.compile(
    r"LICENSE|CODE_OF_CONDUCT\.md$|flake\.lock$|docs/(images|benchmark)/|.*\.patch$|"
    r"tests/unit/(fixtures|golden)/|tests/unit/roles/seed_checklist\.md$|tests/unit/(test_wording\.py|wording\.txt)$"
)


def better_words() -> dict[re.Pattern[str], str]:
    """The list. Two words may be on two lines of a text or comment."""
    pairs = (line.split(" = ") for line in LIST.read_text().splitlines() if not line.startswith("#"))
    return {
        re.compile(words.replace(" ", r"(?: |\n *#? ?)"), re.IGNORECASE | re.MULTILINE): better
        for words, better in pairs
    }


WORDS = better_words()


def texts() -> list[Path]:
    """The project's own text files."""
    command = ["git", "grep", "--cached", "-Il", "", "--", "."]
    names = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [CHECKOUT / name for name in names if not OTHERS.match(name) and (CHECKOUT / name).is_file()]


def findings(name: str, text: str) -> list[str]:
    return [
        f"{name}:{text.count(chr(10), 0, found.start()) + 1}: {' '.join(found[0].split())!r} -> {better}"
        for words, better in WORDS.items()
        for found in words.finditer(text)
    ]


def test_no_text_uses_a_word_of_the_list() -> None:
    found = [line for path in texts() for line in findings(path.relative_to(CHECKOUT).as_posix(), path.read_text())]
    assert not found, f"{len(found)} findings:\n" + "\n".join(found)


def test_words_are_found_wherever_they_stand() -> None:
    text = "# Told which, since it\n# must. He is\n# no VM.\n- name: Look up\nTwo years since then, there is no VM.\n"
    assert sorted(line.split(" -> ")[0] for line in findings("x", text)) == [
        "x:1: ', since'",
        "x:1: 'Told'",
        "x:2: 'is # no'",
        "x:4: 'name: Look'",
    ]
