# SPDX-License-Identifier: GPL-3.0-or-later
"""One task at a time."""

from __future__ import annotations

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import WaitTimeout
from ansible_collections.keystone.virtiofs.plugins.module_utils._host import lock


def test_one_task_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCK_TIMEOUT", 0)
    with lock.exclusive(), pytest.raises(WaitTimeout, match="another task of this collection"), lock.exclusive():
        pass
    with lock.exclusive():
        pass
