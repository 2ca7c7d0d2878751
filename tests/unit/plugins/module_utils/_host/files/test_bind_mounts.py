# SPDX-License-Identifier: GPL-3.0-or-later
"""Read-only bind mounts and their lines in fstab, with real mounts."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import HostError
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import bind_mounts, state, wrappers
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import fstab as fstab_module

FSTAB = "# /etc/fstab: my comments\n\nUUID=1 / ext4 defaults 0 1\n  # indented\n/dev/sr0\t/media\tiso9660 noauto 0 0\n"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")


@pytest.fixture
def fstab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "etc/fstab"
    file.parent.mkdir()
    file.write_text(FSTAB)
    monkeypatch.setattr(fstab_module, "FSTAB", file)
    return file


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
        self, tmp_path: Path, fstab: Path, source: Path, target: str
    ) -> None:
        bind_mounts.bind_read_only(str(source), target)
        assert binds(tmp_path) == {target: True}
        assert Path(target, "file").read_text() == "content"
        with pytest.raises(OSError, match="Read-only") as caught:
            Path(target, "new").touch()
        assert caught.value.errno == errno.EROFS
        (source / "new").touch()
        assert Path(target, "new").exists()

    def test_it_comes_back_after_a_reboot(self, tmp_path: Path, fstab: Path, source: Path, target: str) -> None:
        bind_mounts.bind_read_only(str(source), target)
        subprocess.run(["umount", target], check=True)
        assert binds(tmp_path) == {target: False}
        subprocess.run(["mount", "--fstab", fstab, target], check=True)
        assert binds(tmp_path) == {target: True}

    def test_again_is_no_change(self, fstab: Path, source: Path, target: str) -> None:
        bind_mounts.bind_read_only(str(source), target)
        before = fstab.read_text()
        bind_mounts.bind_read_only(str(source), target)
        assert fstab.read_text() == before
        subprocess.run(["umount", target], check=True)
        assert not Path(target).is_mount()

    def test_a_half_made_one_is_completed(self, tmp_path: Path, fstab: Path, source: Path, target: str) -> None:
        Path(target).mkdir(parents=True)
        subprocess.run(["mount", "--bind", source, target], check=True)  # writable, not in fstab
        assert binds(tmp_path) == {target: False}
        bind_mounts.bind_read_only(str(source), target)
        assert binds(tmp_path) == {target: True}

    def test_fstab_is_as_before_when_it_is_undone(self, tmp_path: Path, fstab: Path, source: Path, target: str) -> None:
        bind_mounts.bind_read_only(str(source), target)
        assert fstab.read_text().startswith(FSTAB)
        bind_mounts.unbind(target)
        assert fstab.read_text() == FSTAB
        assert binds(tmp_path) == {}
        assert (source / "file").exists()

    def test_what_is_undone_may_be_half_there(self, fstab: Path, source: Path, target: str) -> None:
        bind_mounts.bind_read_only(str(source), target)
        subprocess.run(["umount", target], check=True)
        bind_mounts.unbind(target)
        assert not Path(target).exists()

    def test_a_line_without_an_end_is_ended(self, fstab: Path, source: Path, target: str) -> None:
        fstab.write_text("/dev/sda1 / ext4 defaults 0 1")
        bind_mounts.bind_read_only(str(source), target)
        assert len(fstab.read_text().splitlines()) == 2

    def test_a_host_without_fstab_gets_one(self, tmp_path: Path, fstab: Path, source: Path, target: str) -> None:
        fstab.unlink()
        bind_mounts.bind_read_only(str(source), target)
        assert binds(tmp_path) == {target: True}
        assert fstab.stat().st_mode & 0o777 == 0o644

    def test_a_failing_write_leaves_fstab_whole(
        self, fstab: Path, source: Path, target: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_arguments: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fchmod", full)
        with pytest.raises(OSError, match="No space"):
            bind_mounts.bind_read_only(str(source), target)
        assert fstab.read_text() == FSTAB
        assert not Path(target).is_mount()

    def test_a_source_that_is_gone_says_what_failed(self, fstab: Path, tmp_path: Path, target: str) -> None:
        with pytest.raises(HostError, match=r"cannot mount .*/gone: No such file"):
            bind_mounts.bind_read_only(str(tmp_path / "gone"), target)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_fstab_keeps_its_owner_and_mode(fstab: Path, mode: int) -> None:
    fstab.chmod(mode)
    if os.geteuid() == 0:
        os.chown(fstab, 0, 4)
    before = fstab.stat()
    fstab_module.add_bind("/source", "/target", "ro")
    after = fstab.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino


@pytest.mark.parametrize(
    "name", ["a b", "a\u00a0b", "a\u3000b", "a\u2028b", "a\u0085b", "a\rb", "\udcff", "#x", "a\\040b"]
)
def test_a_name_survives_fstab(fstab: Path, name: str) -> None:
    """A separator of Unicode is a letter like any other, for libmount and for the kernel."""
    fstab_module.add_bind(name, f"/{name}", "ro")
    assert (name, f"/{name}") in fstab_module.entries()
    fstab_module.remove(f"/{name}")
    assert fstab.read_text() == FSTAB


def test_no_binds_without_a_state(tmp_path: Path) -> None:
    assert binds(tmp_path) == {}
    assert wrappers.list_wrappers(str(tmp_path), "vm", "/virtiofsd") == {}
    assert not state.has_state(str(tmp_path), "vm")


@pytest.fixture
def written_by_nixos(fstab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the collection's own, on a host whose fstab is a link."""
    fstab.rename(tmp_path / "static")
    fstab.symlink_to(tmp_path / "static")
    monkeypatch.setattr(fstab_module, "OWN_TABLE", tmp_path / "own")
    monkeypatch.setattr(fstab_module, "OWN_SERVICE", tmp_path / "keystone-mounts.service")
    return tmp_path / "own"


def test_a_fstab_that_another_tool_writes_is_left_alone(
    fstab: Path, written_by_nixos: Path, tmp_path: Path, source: Path
) -> None:
    with pytest.raises(HostError, match="another tool writes it") as caught:
        bind_mounts.bind_read_only(str(source), str(tmp_path / "state/domains/vm/ro/x"))
    assert "keystone-mounts.service" in caught.value.fix
    assert (fstab.read_text(), written_by_nixos.exists()) == (FSTAB, False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_on_nixos_a_service_mounts_what_another_file_lists(
    fstab: Path, written_by_nixos: Path, tmp_path: Path, source: Path
) -> None:
    fstab_module.OWN_SERVICE.touch()
    target = tmp_path / "state/domains/vm/ro/x"
    bind_mounts.bind_read_only(str(source), str(target))
    assert fstab.read_text() == FSTAB
    assert (str(source), str(target)) in fstab_module.entries()
    subprocess.run(["umount", target], check=True)
    try:
        # The command of the service, after a reboot.
        subprocess.run(["mount", "--all", "--fstab", written_by_nixos], check=True)
        with pytest.raises(OSError, match="Read-only file system"):
            (target / "file").touch()
    finally:
        bind_mounts.unbind(str(target))
    assert [entry for entry in fstab_module.entries() if entry[1] == str(target)] == []
