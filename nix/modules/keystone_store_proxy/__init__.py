# SPDX-License-Identifier: GPL-3.0-or-later
"""A read-only view of this host's Nix database for one guest, in Nix's worker protocol."""

from __future__ import annotations

import sys

PASSED_SOCKET = 3  # the first that systemd passes


def log(text: str) -> None:
    """To the journal, on one line, because guests choose parts of the text."""
    print(text.encode("unicode_escape").decode()[:1000], file=sys.stderr, flush=True)
