# SPDX-License-Identifier: GPL-3.0-or-later
"""Images and block devices."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import DiskImage
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import HostError, InvalidInput
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import disks

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
with_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


@with_qemu_img
class TestImages:
    @pytest.mark.parametrize("image_format", ["qcow2", "raw"])
    def test_create_read_grow(self, tmp_path: Path, image_format: str) -> None:
        path = str(tmp_path / "new folder/disk,1.img")
        assert disks.read_image(path) is None
        disks.create_image(path, image_format, 8, None)
        assert disks.read_image(path) == DiskImage(8, image_format)
        disks.grow_image(path, image_format, 16)
        assert disks.read_image(path) == DiskImage(16, image_format)

    def test_over_another_image(self, tmp_path: Path) -> None:
        base, top = str(tmp_path / "base.img"), str(tmp_path / "top.qcow2")
        disks.create_image(base, "raw", 8, None)
        disks.create_image(top, "qcow2", None, base)
        assert disks.read_image(top) == DiskImage(8, "qcow2", backing=base)

    def test_over_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match=r"backing image .*/base.img of disk .* does not exist"):
            disks.create_image(str(tmp_path / "top.qcow2"), "qcow2", None, str(tmp_path / "base.img"))
        assert list(tmp_path.iterdir()) == []

    def test_a_failure_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(HostError, match=r"qemu-img create .* failed"):
            disks.create_image(str(tmp_path / "disk"), "qcow2", 2**60, None)
        assert list(tmp_path.iterdir()) == []

    def test_nothing_is_shrunk(self, tmp_path: Path) -> None:
        path = str(tmp_path / "disk")
        disks.create_image(path, "qcow2", 16, None)
        with pytest.raises(HostError, match="shrink"):
            disks.grow_image(path, "qcow2", 8)
        assert disks.read_image(path) == DiskImage(16, "qcow2")

    def test_only_files_are_removed(self, tmp_path: Path) -> None:
        file, folder = tmp_path / "disk", tmp_path / "folder"
        file.touch()
        folder.mkdir()
        for path in (file, file, folder):
            disks.remove_image(str(path))
        assert list(tmp_path.iterdir()) == [folder]


def test_a_directory_is_no_disk(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f"disk {tmp_path} is a directory"):
        disks.read_image(str(tmp_path))


@pytest.fixture
def loop_device(tmp_path: Path, private_mounts: None) -> Iterator[str]:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(8 * 2**20)
    made = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no loop device: {made.stderr}")
    yield made.stdout.strip()
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


@as_root
def test_a_block_device_in_use_is_no_disk(loop_device: str, tmp_path: Path) -> None:
    assert disks.read_image(loop_device) == DiskImage(8, "raw", is_block_device=True)
    subprocess.run(["mkfs.ext4", "-q", loop_device], check=True)
    subprocess.run(["mount", loop_device, tmp_path], check=True)
    try:
        with pytest.raises(InvalidInput, match=f"disk {loop_device} is a block device in use"):
            disks.read_image(loop_device)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="qemu-img is not installed"):
        disks.create_image(str(tmp_path / "disk"), "raw", 1, None)
