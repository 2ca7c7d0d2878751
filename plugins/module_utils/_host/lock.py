# SPDX-License-Identifier: GPL-3.0-or-later
"""One task at a time may choose ports, write fstab and define domains on a host."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .._errors import WaitTimeout
from .._waiting import wait_until

# Longer than a guest gets by default to power off, several times over.
LOCK_TIMEOUT = 600


@contextmanager
def exclusive() -> Iterator[None]:
    """Hold the lock of this host; raises WaitTimeout when another task does not finish within LOCK_TIMEOUT seconds."""
    # A directory that only this user can enter: in /run/lock another user could hold the lock indefinitely.
    parent = Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR") or Path.home())
    directory = parent / "keystone-virtiofs"
    directory.mkdir(mode=0o700, exist_ok=True)
    with (directory / "lock").open("a") as handle:
        wait_until(lambda: _try_lock(handle.fileno()), LOCK_TIMEOUT, _lock_is_held)
        yield


def _try_lock(descriptor: int) -> bool | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return True


def _lock_is_held() -> WaitTimeout:
    return WaitTimeout(
        f"another task of this collection has held the lock on this host for {LOCK_TIMEOUT} s",
        fix="Wait for it to finish or stop it, then run the task again.",
    )
