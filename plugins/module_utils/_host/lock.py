# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks of a host: operations that must not overlap, and who holds the lock.

``domain:NAME`` serialises tasks that change one domain. ``host`` is held only while ports are chosen and definitions
written, never while a program runs on a guest's bytes. ``nosuid`` is held while a source of several domains is mounted
or unmounted, ``mounts`` while the table of mounts is replaced. They are taken in this order, so that no two tasks wait
for each other. ``store-images:DIRECTORY`` is held alone, while an image is made, and so is
``networks``, while a network is created, started or removed.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from .._errors import WaitTimeout
from .._waiting import wait_until

# Seconds; longer than a guest gets by default to power off, several times over.
LOCK_TIMEOUT = 600


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold a lock; raises WaitTimeout, which names the holder, after LOCK_TIMEOUT seconds."""
    descriptor = os.open(_file(name), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        wait_until(lambda: _try_lock(descriptor), LOCK_TIMEOUT, lambda: _timeout_error(name, descriptor))
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _file(name: str) -> Path:
    plain = quote(name, safe="")
    unique = plain if len(plain) < 200 else hashlib.sha256(name.encode()).hexdigest()
    return _directory() / f"{unique}.lock"


def _directory() -> Path:
    """Only this user can enter it: elsewhere another user could hold a lock indefinitely."""
    parent = Path("/run") if os.geteuid() == 0 else Path(os.environ.get("XDG_RUNTIME_DIR") or Path.home())
    directory = parent / "keystone-virtiofs"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def _try_lock(descriptor: int) -> bool | None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    return True


def _timeout_error(name: str, descriptor: int) -> WaitTimeout:
    holder = os.pread(descriptor, 20, 0).decode(errors="replace") or "unknown"
    return WaitTimeout(
        f"another task of this collection (process {holder}) has held the lock {name} for {LOCK_TIMEOUT} s",
        fix="Wait for that process to finish or stop it, then run the task again.",
    )
