# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-only bind mounts and their lines in the table of mounts, with real mounts."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import HostError
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import (
    bind_mounts,
    mount_table,
    state,
    wrappers,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "so urce\\1"
    directory.mkdir()
    (directory / "file").write_text("content")
    return directory


@pytest.fixture
def target(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "state/domains/vm/ro/%2Fsource"
    yield str(path)
    while path.is_mount():
        subprocess.run(["umount", path], check=True)


def binds(tmp_path: Path) -> dict[str, bool]:
    return bind_mounts.list_binds(str(tmp_path / "state"), "vm")


@as_root
@pytest.mark.usefixtures("private_mounts")
class TestBindMounts:
    def test_the_source_is_seen_and_cannot_be_written(
        self, tmp_path: Path, table: Path, source: Path, target: str
    ) -> None:
        bind_mounts.bind_read_only(str(source), target)
        assert binds(tmp_path) == {target: True}
        assert Path(target, "file").read_text() == "content"
        with pytest.raises(OSError, match="Read-only") as caught:
            Path(target, "new").touch()
        assert caught.value.errno == errno.EROFS
        (source / "new").touch()
        assert Path(target, "new").exists()

    def test_it_comes_back_after_a_reboot(
        self, tmp_path: Path, boot: Callable[[], int], source: Path, target: str
    ) -> None:
        bind_mounts.bind_read_only(str(source), target)
        subprocess.run(["umount", target], check=True)
        assert binds(tmp_path) == {target: False}
        for _round in range(2):
            assert boot() == 0
            assert binds(tmp_path) == {target: True}
        subprocess.run(["umount", target], check=True)
        assert not Path(target).is_mount()

    def test_again_is_no_change(self, table: Path, source: Path, target: str) -> None:
        bind_mounts.bind_read_only(str(source), target)
        before = table.read_text()
        bind_mounts.bind_read_only(str(source), target)
        assert table.read_text() == before
        subprocess.run(["umount", target], check=True)
        assert not Path(target).is_mount()

    def test_a_half_made_one_is_completed(self, tmp_path: Path, table: Path, source: Path, target: str) -> None:
        Path(target).mkdir(parents=True)
        subprocess.run(["mount", "--bind", source, target], check=True)  # writable, not in the table
        assert binds(tmp_path) == {target: False}
        bind_mounts.bind_read_only(str(source), target)
        assert binds(tmp_path) == {target: True}

    def test_nothing_is_left_when_it_is_undone(self, tmp_path: Path, table: Path, source: Path, target: str) -> None:
        bind_mounts.bind_read_only(str(source), target)
        bind_mounts.unbind(target)
        assert not table.exists()
        assert binds(tmp_path) == {}
        assert (source / "file").exists()

    def test_what_is_undone_may_be_half_there(self, table: Path, source: Path, target: str) -> None:
        bind_mounts.bind_read_only(str(source), target)
        subprocess.run(["umount", target], check=True)
        bind_mounts.unbind(target)
        assert not Path(target).exists()

    def test_a_failing_write_leaves_the_table_whole(
        self, table: Path, source: Path, target: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_arguments: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        mount_table.add("/other", "/target", "ro")
        monkeypatch.setattr(os, "fchmod", full)
        with pytest.raises(OSError, match="No space"):
            bind_mounts.bind_read_only(str(source), target)
        assert mount_table.entries() == {("/other", "/target")}
        assert not Path(target).is_mount()

    def test_a_source_that_is_gone_says_what_failed(self, table: Path, tmp_path: Path, target: str) -> None:
        with pytest.raises(HostError, match=r"cannot open .*/gone to mount or unmount it: No such file"):
            bind_mounts.bind_read_only(str(tmp_path / "gone"), target)


@pytest.mark.parametrize(
    "name", ["a b", "a\u00a0b", "a\u3000b", "a\u2028b", "a\u0085b", "a\rb", "\udcff", "#x", "a\\040b"]
)
def test_a_name_survives_the_table(table: Path, name: str) -> None:
    """A separator of Unicode is a letter like any other for the kernel."""
    mount_table.add(name, f"/{name}", "ro")
    assert (name, f"/{name}") in mount_table.entries()
    mount_table.remove(f"/{name}")
    assert mount_table.entries() == set()


def test_a_host_that_would_lose_its_mounts_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount_table, "PROGRAM", tmp_path / "keystone-mounts")
    with pytest.raises(HostError, match="would lose the mount of the source at its next boot") as caught:
        mount_table.require_program()
    assert "role keystone.virtiofs.host" in caught.value.fix
    (tmp_path / "keystone-mounts").touch()
    mount_table.require_program()


def test_no_binds_without_a_state(tmp_path: Path) -> None:
    assert binds(tmp_path) == {}
    assert wrappers.list_wrappers(str(tmp_path), "vm", "/virtiofsd") == {}
    assert not state.has_state(str(tmp_path), "vm")
