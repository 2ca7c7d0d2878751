# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory of a domain on the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import state, wrappers


def test_the_state_of_a_session_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert state.state_root(session=True) == "/home/me/.local/share/keystone-virtiofs"
    assert state.state_root(session=False) == "/var/lib/keystone-virtiofs"


def test_the_state_of_a_domain_is_removed(tmp_path: Path, daemon: Path) -> None:
    domains = tmp_path / "domains"
    for domain in ("vm", "other"):
        for part in ("ro", "boot"):
            (domains / domain / part).mkdir(parents=True)
        (domains / domain / "boot/abc-kernel").touch()
        for file in ("cidata/user-data", "seed/cidata.img", "ssh/ssh_host_ed25519_key"):
            (domains / domain / file).parent.mkdir()
            (domains / domain / file).touch()
        wrapper = domains / domain / "bin/virtiofsd,cache=metadata"
        wrappers.write_wrapper(str(wrapper), str(daemon), {"cache": "metadata"})
    assert state.has_state(str(tmp_path), "vm")
    state.remove_state(str(tmp_path), "vm")
    assert not state.has_state(str(tmp_path), "vm")
    state.remove_state(str(tmp_path), "vm")
    assert [path.name for path in domains.iterdir()] == ["other"]


def test_a_view_of_the_store_is_left_to_the_role(tmp_path: Path) -> None:
    for part in ("ro", "view/store"):
        (tmp_path / "domains/vm" / part).mkdir(parents=True)
    state.remove_state(str(tmp_path), "vm")
    assert (tmp_path / "domains/vm/view/store").is_dir()
    assert not state.has_state(str(tmp_path), "vm")


@pytest.mark.parametrize("name", ["ssh", "boot", "known_hosts", "guests", "domains", "database"])
def test_a_domain_may_be_named_like_a_part_of_the_tree(tmp_path: Path, name: str) -> None:
    for other in ("guests/ssh", "guests/known_hosts", "database", "domains"):
        (tmp_path / other).mkdir(parents=True)
    (tmp_path / "guests/ssh/other").touch()
    (tmp_path / "domains" / name / "ro").mkdir(parents=True)
    state.remove_state(str(tmp_path), name)
    assert not state.has_state(str(tmp_path), name)
    assert (tmp_path / "guests/ssh/other").exists()


def test_files_of_other_tools_are_not_removed(tmp_path: Path) -> None:
    kept = tmp_path / "domains/vm/ro/mine/file"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises(OSError, match="not empty"):
        state.remove_state(str(tmp_path), "vm")
    assert kept.exists()
