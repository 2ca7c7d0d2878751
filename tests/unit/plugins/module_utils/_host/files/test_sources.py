# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources and logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import InvalidInput
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import sources


def test_sources(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "link").symlink_to(tmp_path)
    for good in (tmp_path, tmp_path / "link"):
        sources.require_directory(str(good))
    for name, problem in (
        ("missing", "does not exist"),
        ("dangling", "does not exist"),
        ("file", "is not a directory"),
        ("file/below", "does not exist"),
        ("loop", "is a symlink loop"),
        ("loop/below", "is a symlink loop"),
    ):
        with pytest.raises(InvalidInput, match=f"source {tmp_path}/{name} ({problem})") as caught:
            sources.require_directory(str(tmp_path / name))
        assert caught.value.fix
