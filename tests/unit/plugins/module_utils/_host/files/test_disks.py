# SPDX-License-Identifier: GPL-3.0-or-later
"""Images and block devices."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import DiskImage
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import HostError, InvalidInput
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import disks, qcow2, writing

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
        disks.create_image(top, "qcow2", None, base, "raw")
        assert disks.read_image(top) == DiskImage(8, "qcow2", base, "raw")
        assert disks.backing_chain(top, "qcow2") == [base]
        assert disks.backing_chain(top, "raw") == []

    def test_nothing_below_a_backing_image_is_opened(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        base = image(tmp_path, header(b"fifo", extensions=RAW_BASE))
        disks.create_image(str(tmp_path / "top"), "qcow2", None, base, "qcow2")
        assert disks.read_image(str(tmp_path / "top")) == DiskImage(1, "qcow2", base, "qcow2")

    def test_the_last_sector_of_a_backing_image_is_kept(self, tmp_path: Path) -> None:
        base = image(tmp_path, b"", 2**20 + 100)
        disks.create_image(str(tmp_path / "top"), "qcow2", None, base, "raw")
        head = (tmp_path / "top").read_bytes()[24:32]
        assert int.from_bytes(head, "big") == 2**20 + 512

    def test_a_file_with_several_names_is_shared(self, tmp_path: Path) -> None:
        base = image(tmp_path, b"", 2**20)
        (tmp_path / "other").hardlink_to(base)
        assert disks.read_image(base) == DiskImage(1, "raw", is_shared=True)

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


HEADER = struct.Struct(">4sIQIIQIIQQIIQQQQII")


def header(backing: bytes = b"", features: int = 0, version: int = 3, extensions: bytes = b"") -> bytes:
    """A qcow2 header of 1 MiB, as a guest could write it into its raw disk."""
    fields = (
        b"QFI\xfb",
        version,
        4096 if backing else 0,
        len(backing),
        16,
        2**20,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        features,
        0,
        0,
        4,
    )
    return (HEADER.pack(*fields, 104) + extensions).ljust(4096, b"\0") + backing


RAW_BASE = struct.pack(">II8s", 0xE2792ACA, 3, b"raw")


def image(tmp_path: Path, content: bytes, size: int = 4 * 2**20) -> str:
    file = tmp_path / "image"
    file.write_bytes(content)
    os.truncate(file, size)
    file.chmod(0o600)
    return str(file)


@pytest.mark.parametrize(
    ("content", "known", "expected"),
    [
        (b"", None, DiskImage(4, "raw")),
        (header(), None, DiskImage(1, "")),
        (header(), "raw", DiskImage(4, "raw")),
        (header(), "qcow2", DiskImage(1, "qcow2")),
        (
            header(features=4),
            "qcow2",
            DiskImage(1, "qcow2", flaw="keeps its data in another file, which its header names"),
        ),
        (header(features=4), "raw", DiskImage(4, "raw")),
        (
            header(b"/etc/shadow"),
            "qcow2",
            DiskImage(
                1, "qcow2", "/etc/shadow", flaw="has the backing file /etc/shadow, whose format its header does not say"
            ),
        ),
        (header(b"/etc/shadow", extensions=RAW_BASE), "qcow2", DiskImage(1, "qcow2", "/etc/shadow", "raw")),
        (header(version=2, features=4), "qcow2", DiskImage(1, "qcow2")),
        (b'# Disk DescriptorFile\nversion=1\nRW 8 FLAT "/etc/shadow" 0\n', None, DiskImage(4, "raw")),
        (b"KDMV", None, DiskImage(4, "raw")),
        (b"conectix", None, DiskImage(4, "raw")),
        (b"<<< Oracle VM VirtualBox Disk Image >>>", None, DiskImage(4, "raw")),
    ],
)
def test_a_header_is_not_believed(tmp_path: Path, content: bytes, known: str | None, expected: DiskImage) -> None:
    assert disks.read_image(image(tmp_path, content), known) == expected


def test_a_relative_backing_file_is_next_to_the_image(tmp_path: Path) -> None:
    found = disks.read_image(image(tmp_path, header(b"base.img")), "qcow2")
    assert found is not None
    assert found.backing == f"{tmp_path}/base.img"


@pytest.mark.parametrize("name", [b'json:{"driver":"file","filename":"/etc/shadow"}', b"file:/etc/shadow", b"nbd:x:1"])
def test_a_backing_file_that_is_not_a_path_is_a_flaw(tmp_path: Path, name: bytes) -> None:
    path = image(tmp_path, header(name, extensions=RAW_BASE))
    found = disks.read_image(path, "qcow2")
    assert found is not None
    assert found.flaw.endswith("which is not a path")
    assert disks.backing_chain(path, "qcow2") == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not a qcow2 image"),
        (b"QFI\xfb", "unknown version 0"),
        (header(version=9), "unknown version 9"),
        (header(b"x" * 2000), "is damaged"),
        (header(b"x").replace((4096).to_bytes(8, "big"), (2**63).to_bytes(8, "big")), "is damaged"),
        (header(b"x").replace((4096).to_bytes(8, "big"), (2**64 - 1).to_bytes(8, "big")), "is damaged"),
        (header(b"a\0b"), "is damaged"),
    ],
)
def test_an_image_that_is_not_qcow2(tmp_path: Path, content: bytes, problem: str) -> None:
    with pytest.raises(InvalidInput, match=problem):
        disks.read_image(image(tmp_path, content), "qcow2")


@given(st.binary(max_size=256), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_any_header_is_parsed_or_refused(content: bytes, number: int, features: int) -> None:
    for data in (content, b"QFI\xfb" + content, header(extensions=content), header(b"x", features, extensions=content)):
        with contextlib.suppress(InvalidInput):
            found = qcow2.parse(lambda offset, count, data=data: data[offset : offset + count])  # type: ignore[misc]
            assert found.backing_format in ("", "raw", "qcow2")


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("fifo", "neither a file"),
        ("null", "neither"),
        ("socket", "disk .*"),
        ("link", "link to"),
    ],
)
def test_what_is_no_disk_is_refused_at_once(tmp_path: Path, kind: str, problem: str) -> None:
    path = tmp_path / "disk"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    else:
        path.symlink_to("/dev/null" if kind == "null" else tmp_path / "not-mounted")
    for known in (None, "raw", "qcow2"):
        with pytest.raises(InvalidInput, match=problem):
            disks.read_image(str(path), known)
    assert path.is_symlink() or path.exists()


@as_root
def test_the_collection_knows_the_format_of_what_it_created(tmp_path: Path) -> None:
    path = str(tmp_path / "disk")
    disks.create_image(path, "raw", 4)
    with Path(path).open("r+b") as guest:
        guest.write(header(b"/etc/shadow"))
    assert disks.read_image(path) == DiskImage(4, "raw")


def test_a_new_image_never_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_text("mine")
    with pytest.raises(HostError, match="was created by another tool"):
        disks.create_image(str(path), "raw", 1)
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_user_who_replaces_the_scratch_directory_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory of a disk may belong to a user of the host, who may rename what is in it."""
    victim, images = tmp_path / "victim", tmp_path / "images"
    victim.write_text("mine")
    images.mkdir()
    qemu_img = disks._qemu_img

    def qemu_img_after_the_exchange(*arguments: str, **options: Any) -> None:
        (scratch,) = images.iterdir()
        scratch.rename(images / "aside")
        scratch.mkdir()
        (scratch / "image").symlink_to(victim)
        qemu_img(*arguments, **options)

    monkeypatch.setattr(disks, "_qemu_img", qemu_img_after_the_exchange)
    disks.create_image(str(images / "disk"), "qcow2", 1)
    assert victim.read_text() == "mine"
    assert not (images / "disk").is_symlink()
    assert disks.read_image(str(images / "disk")) == DiskImage(1, "qcow2")


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_a_scratch_directory_of_another_user_is_not_used(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    if kind == "link":
        (tmp_path / "link").symlink_to(made)
        made = tmp_path / "link"
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_options: str(made))
    with pytest.raises(OSError if kind == "link" else HostError, match=r"Not a directory|was replaced while"):
        disks.create_image(str(tmp_path / "disk"), "raw", 1)
    assert not (tmp_path / "disk").exists()


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    left, used = tmp_path / ".keystone-new-disk-leftleft", tmp_path / ".keystone-new-disk-usedused"
    for directory in (left, used):
        directory.mkdir()
        (directory / "image").touch()
    with writing._held(used):
        disks.create_image(str(tmp_path / "disk"), "raw", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == [used.name, "disk"]


def test_links_and_files_named_like_leftovers_are_left_alone(tmp_path: Path) -> None:
    """The owner of a disk's directory can plant them; a link once made the creation of the disk fail."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").touch()
    (tmp_path / ".keystone-new-disk-linklink").symlink_to(secret)
    (tmp_path / ".keystone-new-disk-dangling").symlink_to("nowhere")
    (tmp_path / ".keystone-new-disk-filefile").touch()
    os.mkfifo(tmp_path / ".keystone-new-disk-fifofifo")
    before = sorted(path.name for path in tmp_path.iterdir())
    disks.create_image(str(tmp_path / "disk"), "raw", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "disk"])
    assert (secret / "file").exists()


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
        disks.create_image(str(tmp_path / "disk"), "qcow2", 1, None)
