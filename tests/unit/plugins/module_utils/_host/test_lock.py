# SPDX-License-Identifier: GPL-3.0-or-later
"""One task at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import WaitTimeout
from ansible_collections.keystone.virtiofs.plugins.module_utils._host import lock


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCK_TIMEOUT", 0)
    monkeypatch.setattr(lock, "_directory", lambda: tmp_path)


def test_one_task_at_a_time_and_the_other_is_named() -> None:
    with (
        lock.exclusive("host"),
        pytest.raises(WaitTimeout, match=rf"process {os.getpid()}\) has held the lock host"),
        lock.exclusive("host"),
    ):
        pass
    with lock.exclusive("host"):
        pass


def test_locks_of_different_names_are_independent() -> None:
    long = ("domain:" + "é" * 100, "domain:" + "é" * 99 + "x")
    with lock.exclusive(long[0]), lock.exclusive(long[1]):
        pass
    with lock.exclusive("domain:a/b"), lock.exclusive("domain:a"), lock.exclusive("host"), lock.exclusive("mounts"):
        pass


def test_only_the_owner_can_open_a_lock(tmp_path: Path) -> None:
    with lock.exclusive("host"):
        assert (tmp_path / "host.lock").stat().st_mode & 0o777 == 0o600


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "host.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"), lock.exclusive("host"):
        pass
    assert not (tmp_path / "elsewhere").exists()
