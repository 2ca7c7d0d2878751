# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory of a domain on the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host import state, wrappers


def test_the_state_of_a_session_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert state.state_root(session=True) == "/data/keystone-virtiofs"
    assert state.state_root(session=False) == "/var/lib/keystone-virtiofs"


def test_the_state_of_a_domain_goes(tmp_path: Path, daemon: Path) -> None:
    root = tmp_path / "keystone-virtiofs"
    for domain in ("vm", "other"):
        (root / domain / "ro").mkdir(parents=True)
        wrappers.write_wrapper(str(root / domain / "bin/virtiofsd,cache=metadata"), str(daemon), {"cache": "metadata"})
    state.remove_state(str(root), "vm")
    state.remove_state(str(root), "vm")
    assert [path.name for path in root.iterdir()] == ["other"]


def test_what_others_put_there_is_not_removed(tmp_path: Path) -> None:
    kept = tmp_path / "vm/ro/mine/file"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises(OSError, match="not empty"):
        state.remove_state(str(tmp_path), "vm")
    assert kept.exists()
