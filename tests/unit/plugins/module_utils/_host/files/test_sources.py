# SPDX-License-Identifier: GPL-3.0-or-later
"""Sources and logs."""

from __future__ import annotations

import os
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


def test_the_way_to_a_path_names_every_entry_that_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real/inner").mkdir(parents=True)
    (tmp_path / "relative").symlink_to("real/inner")
    (tmp_path / "absolute").symlink_to(tmp_path / "relative")
    above = [str(tmp_path), *map(str, tmp_path.parents)][:-1]

    def way(text: str) -> set[str]:
        found = sources.way_to(f"{tmp_path}/{text}")
        assert found[-1] == sources.real_path(f"{tmp_path}/{text}")
        return {Path(entry).relative_to(tmp_path).as_posix() for entry in found if entry not in above}

    assert way("real/inner") == {"real", "real/inner"}
    assert way("relative") == {"relative", "real", "real/inner"}
    assert way("absolute/new") == {"absolute", "relative", "real", "real/inner", "real/inner/new"}
    assert way("real/inner/../../other") == {"real", "real/inner", "other"}
    assert way("./real//inner/.") == {"real", "real/inner"}
    (tmp_path / "loop").symlink_to("loop")
    assert way("loop") == {"loop"}


def test_what_is_missing_and_what_only_libvirt_can_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    assert sources.is_missing(f"{tmp_path}/none")
    assert sources.is_missing(f"{tmp_path}/file/below")
    assert sources.is_missing(f"{tmp_path}/loop")
    assert not sources.is_missing(f"{tmp_path}/file")
    assert sources.is_missing(f"{tmp_path}/file", directory=True)
    assert not sources.is_missing(str(tmp_path), directory=True)

    def refuse(path: str) -> os.stat_result:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(sources.os, "stat", refuse)  # a user in group libvirt is not root
    assert not sources.is_missing("/var/lib/private/disk.qcow2")
    assert not sources.is_missing("/var/lib/private/source", directory=True)
    sources.require_log("/var/log/libvirt/qemu/serial.log")
