# SPDX-License-Identifier: GPL-3.0-or-later
"""Wrappers of virtiofsd, run for real."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import wrappers


def arguments(wrapper: Path) -> list[str]:
    command = [wrapper, "--fd=3", "-o", "source=/a b"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_a_wrapper_passes_its_flags_on(tmp_path: Path, daemon: Path) -> None:
    state = tmp_path / ".local/share/keystone-virtiofs"
    wrapper = state / "domains/vm/bin/virtiofsd,cache=metadata,inode-file-handles=prefer"
    flags = {"inode-file-handles": "prefer", "cache": "metadata"}
    wrappers.write_wrapper(str(wrapper), str(daemon), flags)
    wrappers.write_wrapper(str(wrapper), str(daemon), flags)
    assert arguments(wrapper) == ["--fd=3", "-o", "source=/a b", "--cache=metadata", "--inode-file-handles=prefer"]
    for virtiofsd, is_current in ((str(daemon), True), ("/opt/other/virtiofsd", False)):
        found = wrappers.list_wrappers(str(state), "vm", virtiofsd)
        assert found == {str(wrapper): is_current}


@pytest.mark.parametrize("stable", [True, False])
def test_a_wrapper_outlives_the_hosts_garbage_collection(
    stable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wrappers, "STABLE_BIN", tmp_path)
    if stable:
        (tmp_path / "virtiofsd").touch()
    wrappers.write_wrapper(str(tmp_path / "bin/w"), "/nix/store/abc-virtiofsd/bin/virtiofsd", {"cache": "metadata"})
    text = (tmp_path / "bin/w").read_text()
    assert (str(tmp_path / "virtiofsd") in text, "/nix/store" in text) == (stable, not stable)
