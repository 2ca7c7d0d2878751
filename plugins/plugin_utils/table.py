# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables for the terminal."""

from __future__ import annotations

import os
import re
from itertools import zip_longest
from textwrap import wrap
from typing import TYPE_CHECKING

from ansible.utils.display import Display

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = "  "
MOST_LINES = 3
CUT = " ..."
# Ansible shows a line of a list in JSON with eight spaces, quotes and a comma.
_AROUND_A_LINE = 11
_FEWEST_COLUMNS = 79  # as in Ansible


def width_of_terminal() -> int:
    stated = os.environ.get("COLUMNS", "")
    columns = int(stated) if re.fullmatch("[0-9]{2,4}", stated) else Display().columns
    return max(int(columns), _FEWEST_COLUMNS) - _AROUND_A_LINE


def render(rows: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    """The lines of a table, whose first row has the headings. Long cells are wrapped, and cut after three lines."""
    lines = [line for row in rows for line in _row(row, widths)]
    rule = "-" * max(len(line) for line in lines)
    return [lines[0], rule, *lines[1:], rule]


def _row(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    wrapped = [wrap(cell, width, max_lines=MOST_LINES, placeholder=CUT) for cell, width in zip(cells, widths)]
    return [
        GAP.join(part.ljust(width) for part, width in zip(line, widths)).rstrip()
        for line in zip_longest(*wrapped, fillvalue="")
    ]
