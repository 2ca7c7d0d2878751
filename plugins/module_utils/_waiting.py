# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for a condition, with a limit and a message."""

from __future__ import annotations

import time
from typing import Callable, TypeVar

from ._errors import WaitTimeout

T = TypeVar("T")

POLL_INTERVAL = 0.2


def wait_until(condition: Callable[[], T | None], timeout: float, timeout_error: Callable[[], WaitTimeout]) -> T:
    """The first value of ``condition`` that is not None; raises ``timeout_error()`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value is not None:
            return value
        if time.monotonic() >= deadline:
            raise timeout_error()
        time.sleep(POLL_INTERVAL)
