# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtiofsd that can be run."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host import lock


@pytest.fixture
def daemon(tmp_path: Path) -> Path:
    """A virtiofsd that prints its arguments, in a place that needs quoting."""
    file = tmp_path / "lib exec'/virtiofsd"
    file.parent.mkdir()
    file.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    file.chmod(0o755)
    return file


@pytest.fixture(autouse=True)
def _locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests have nothing to do with tasks that run on this host."""
    directory = tmp_path_factory.mktemp("locks")
    monkeypatch.setattr(lock, "_directory", lambda: directory)
