# SPDX-License-Identifier: GPL-3.0-or-later
"""Bind mounts, fstab, wrappers and images, on real file systems."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._domain.model import DiskImage
from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import HostError, InvalidInput, WaitTimeout
from ansible_collections.keystone.virtiofs.plugins.module_utils._host import hostfs

CLONE_NEWNS = 0x20000
FSTAB = "# /etc/fstab: my comments\n\nUUID=1 / ext4 defaults 0 1\n  # indented\n/dev/sr0\t/media\tiso9660 noauto 0 0\n"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
with_qemu_img = pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")


@pytest.fixture(scope="module")
def private_mounts() -> None:
    """Mounts of these tests are seen by this process only, and end with it."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS):
        pytest.skip(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


@pytest.fixture
def fstab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "etc/fstab"
    file.parent.mkdir()
    file.write_text(FSTAB)
    monkeypatch.setattr(hostfs, "FSTAB", file)
    return file


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "so urce\\1"
    directory.mkdir()
    (directory / "file").write_text("content")
    return directory


@pytest.fixture
def target(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "state/vm/ro/%2Fsource"
    yield str(path)
    while path.is_mount():
        subprocess.run(["umount", path], check=True)


def binds(tmp_path: Path) -> dict[str, bool]:
    return hostfs.list_binds(str(tmp_path / "state"), "vm")


@as_root
@pytest.mark.usefixtures("private_mounts")
class TestBindMounts:
    def test_the_source_is_seen_and_cannot_be_written(
        self, tmp_path: Path, fstab: Path, source: Path, target: str
    ) -> None:
        hostfs.bind_read_only(str(source), target)
        assert binds(tmp_path) == {target: True}
        assert Path(target, "file").read_text() == "content"
        with pytest.raises(OSError, match="Read-only") as caught:
            Path(target, "new").touch()
        assert caught.value.errno == errno.EROFS
        (source / "new").touch()
        assert Path(target, "new").exists()

    def test_it_comes_back_after_a_reboot(self, tmp_path: Path, fstab: Path, source: Path, target: str) -> None:
        hostfs.bind_read_only(str(source), target)
        subprocess.run(["umount", target], check=True)
        assert binds(tmp_path) == {target: False}
        subprocess.run(["mount", "--fstab", fstab, target], check=True)
        assert binds(tmp_path) == {target: True}

    def test_again_is_no_change(self, fstab: Path, source: Path, target: str) -> None:
        hostfs.bind_read_only(str(source), target)
        before = fstab.read_text()
        hostfs.bind_read_only(str(source), target)
        assert fstab.read_text() == before
        subprocess.run(["umount", target], check=True)
        assert not Path(target).is_mount()

    def test_a_half_made_one_is_completed(self, tmp_path: Path, fstab: Path, source: Path, target: str) -> None:
        Path(target).mkdir(parents=True)
        subprocess.run(["mount", "--bind", source, target], check=True)  # writable, not in fstab
        assert binds(tmp_path) == {target: False}
        hostfs.bind_read_only(str(source), target)
        assert binds(tmp_path) == {target: True}

    def test_fstab_is_as_before_when_it_is_undone(self, tmp_path: Path, fstab: Path, source: Path, target: str) -> None:
        hostfs.bind_read_only(str(source), target)
        assert fstab.read_text().startswith(FSTAB)
        hostfs.unbind(target)
        assert fstab.read_text() == FSTAB
        assert binds(tmp_path) == {}
        assert (source / "file").exists()

    def test_what_is_undone_may_be_half_there(self, fstab: Path, source: Path, target: str) -> None:
        hostfs.bind_read_only(str(source), target)
        subprocess.run(["umount", target], check=True)
        hostfs.unbind(target)
        assert not Path(target).exists()

    def test_a_line_without_an_end_is_ended(self, fstab: Path, source: Path, target: str) -> None:
        fstab.write_text("/dev/sda1 / ext4 defaults 0 1")
        hostfs.bind_read_only(str(source), target)
        assert len(fstab.read_text().splitlines()) == 2

    def test_a_host_without_fstab_gets_one(self, tmp_path: Path, fstab: Path, source: Path, target: str) -> None:
        fstab.unlink()
        hostfs.bind_read_only(str(source), target)
        assert binds(tmp_path) == {target: True}
        assert fstab.stat().st_mode & 0o777 == 0o644

    def test_a_failing_write_leaves_fstab_whole(
        self, fstab: Path, source: Path, target: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_arguments: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(hostfs.os, "fchmod", full)
        with pytest.raises(OSError, match="No space"):
            hostfs.bind_read_only(str(source), target)
        assert fstab.read_text() == FSTAB
        assert not Path(target).is_mount()

    def test_a_source_that_is_gone_says_what_failed(self, fstab: Path, tmp_path: Path, target: str) -> None:
        with pytest.raises(HostError, match=r"mount --bind .*/gone .* failed"):
            hostfs.bind_read_only(str(tmp_path / "gone"), target)


def test_no_binds_without_a_state(tmp_path: Path) -> None:
    assert binds(tmp_path) == {}
    assert hostfs.list_wrappers(str(tmp_path), "vm", "/virtiofsd") == {}
    assert not hostfs.has_state(str(tmp_path), "vm")


# Wrappers.


@pytest.fixture
def daemon(tmp_path: Path) -> Path:
    """A virtiofsd that prints its arguments, in a place that needs quoting."""
    file = tmp_path / "lib exec'/virtiofsd"
    file.parent.mkdir()
    file.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    file.chmod(0o755)
    return file


def arguments(wrapper: Path) -> list[str]:
    command = [wrapper, "--fd=3", "-o", "source=/a b"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def test_a_wrapper_passes_its_flags_on(tmp_path: Path, daemon: Path) -> None:
    wrapper = tmp_path / "keystone-virtiofs/vm/bin/virtiofsd,cache=metadata,inode-file-handles=prefer"
    flags = {"inode-file-handles": "prefer", "cache": "metadata"}
    hostfs.write_wrapper(str(wrapper), str(daemon), flags)
    hostfs.write_wrapper(str(wrapper), str(daemon), flags)
    assert arguments(wrapper) == ["--fd=3", "-o", "source=/a b", "--cache=metadata", "--inode-file-handles=prefer"]
    for virtiofsd, is_current in ((str(daemon), True), ("/opt/other/virtiofsd", False)):
        found = hostfs.list_wrappers(str(tmp_path / "keystone-virtiofs"), "vm", virtiofsd)
        assert found == {str(wrapper): is_current}


@pytest.mark.parametrize("stable", [True, False])
def test_a_wrapper_outlives_the_hosts_garbage_collection(
    stable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostfs, "STABLE_BIN", tmp_path)
    if stable:
        (tmp_path / "virtiofsd").touch()
    hostfs.write_wrapper(str(tmp_path / "bin/w"), "/nix/store/abc-virtiofsd/bin/virtiofsd", {"cache": "metadata"})
    text = (tmp_path / "bin/w").read_text()
    assert (str(tmp_path / "virtiofsd") in text, "/nix/store" in text) == (stable, not stable)


def test_the_state_of_a_domain_goes(tmp_path: Path, daemon: Path) -> None:
    state = tmp_path / "keystone-virtiofs"
    for domain in ("vm", "other"):
        (state / domain / "ro").mkdir(parents=True)
        hostfs.write_wrapper(str(state / domain / "bin/virtiofsd,cache=metadata"), str(daemon), {"cache": "metadata"})
    hostfs.remove_state(str(state), "vm")
    hostfs.remove_state(str(state), "vm")
    assert [path.name for path in state.iterdir()] == ["other"]


def test_what_others_put_there_is_not_removed(tmp_path: Path) -> None:
    kept = tmp_path / "vm/ro/mine/file"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises(OSError, match="not empty"):
        hostfs.remove_state(str(tmp_path), "vm")
    assert kept.exists()


# Images.


@with_qemu_img
class TestImages:
    @pytest.mark.parametrize("image_format", ["qcow2", "raw"])
    def test_create_read_grow(self, tmp_path: Path, image_format: str) -> None:
        path = str(tmp_path / "new folder/disk,1.img")
        assert hostfs.read_image(path) is None
        hostfs.create_image(path, image_format, 8, None)
        assert hostfs.read_image(path) == DiskImage(8, image_format)
        hostfs.grow_image(path, image_format, 16)
        assert hostfs.read_image(path) == DiskImage(16, image_format)

    def test_over_another_image(self, tmp_path: Path) -> None:
        base, top = str(tmp_path / "base.img"), str(tmp_path / "top.qcow2")
        hostfs.create_image(base, "raw", 8, None)
        hostfs.create_image(top, "qcow2", None, base)
        assert hostfs.read_image(top) == DiskImage(8, "qcow2", backing=base)

    def test_over_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match=r"backing image .*/base.img of disk .* does not exist"):
            hostfs.create_image(str(tmp_path / "top.qcow2"), "qcow2", None, str(tmp_path / "base.img"))
        assert list(tmp_path.iterdir()) == []

    def test_a_failure_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(HostError, match=r"qemu-img create .* failed"):
            hostfs.create_image(str(tmp_path / "disk"), "qcow2", 2**60, None)
        assert list(tmp_path.iterdir()) == []

    def test_nothing_is_shrunk(self, tmp_path: Path) -> None:
        path = str(tmp_path / "disk")
        hostfs.create_image(path, "qcow2", 16, None)
        with pytest.raises(HostError, match="shrink"):
            hostfs.grow_image(path, "qcow2", 8)
        assert hostfs.read_image(path) == DiskImage(16, "qcow2")

    def test_only_files_are_removed(self, tmp_path: Path) -> None:
        file, folder = tmp_path / "disk", tmp_path / "folder"
        file.touch()
        folder.mkdir()
        for path in (file, file, folder):
            hostfs.remove_image(str(path))
        assert list(tmp_path.iterdir()) == [folder]


def test_a_directory_is_no_disk(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f"disk {tmp_path} is a directory"):
        hostfs.read_image(str(tmp_path))


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
    assert hostfs.read_image(loop_device) == DiskImage(8, "raw", is_block_device=True)
    subprocess.run(["mkfs.ext4", "-q", loop_device], check=True)
    subprocess.run(["mount", loop_device, tmp_path], check=True)
    try:
        with pytest.raises(InvalidInput, match=f"disk {loop_device} is a block device in use"):
            hostfs.read_image(loop_device)
    finally:
        subprocess.run(["umount", tmp_path], check=True)


# Sources, ports, logs.


def test_sources(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "link").symlink_to(tmp_path)
    for good in (tmp_path, tmp_path / "link"):
        hostfs.check_source(str(good))
    for name, problem in (
        ("missing", "does not exist"),
        ("dangling", "does not exist"),
        ("file", "is not a directory"),
        ("file/below", "does not exist"),
        ("loop", "is a loop of symbolic links"),
        ("loop/below", "is a loop of symbolic links"),
    ):
        with pytest.raises(InvalidInput, match=f"source {tmp_path}/{name} ({problem})") as caught:
            hostfs.check_source(str(tmp_path / name))
        assert caught.value.fix


def test_ports() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        server.listen()
        assert hostfs.is_port_taken("127.0.0.1", port)
        assert hostfs.is_port_taken("0.0.0.0", port)  # noqa: S104
    assert not hostfs.is_port_taken("127.0.0.1", port)
    assert not hostfs.is_port_taken("127.0.0.1", 65536)


@pytest.mark.parametrize(("greeting", "answers"), [(b"SSH-2.0-x\r\n", True), (b"HTTP/1.1", False), (b"", False)])
def test_ssh(greeting: bytes, answers: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with server.accept()[0] as connection:
                connection.sendall(greeting)

        thread = threading.Thread(target=greet)
        thread.start()
        port = server.getsockname()[1]
        assert hostfs.ssh_answers("127.0.0.1", port) is answers
        thread.join()
    assert not hostfs.ssh_answers("127.0.0.1", port)


def test_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    logs = tmp_path / "libvirt/qemu/log"
    logs.mkdir(parents=True)
    for name in ("a[b]-fs0-virtiofsd.log", "a[b]-fs10-virtiofsd.log", "ab-fs0-virtiofsd.log", "a[b].log"):
        (logs / name).touch()
    expected = [str(logs / "a[b]-fs0-virtiofsd.log"), str(logs / "a[b]-fs10-virtiofsd.log")]
    assert hostfs.virtiofsd_logs("a[b]", session=True) == expected


def test_the_state_of_a_session_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert hostfs.state_root(session=True) == "/data/keystone-virtiofs"
    assert hostfs.state_root(session=False) == "/var/lib/keystone-virtiofs"


def test_one_task_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostfs, "LOCK_TIMEOUT", 0)
    with hostfs.exclusive(), pytest.raises(WaitTimeout, match="another task of this collection"), hostfs.exclusive():
        pass
    with hostfs.exclusive():
        pass


def test_a_fstab_that_another_tool_writes_is_left_alone(fstab: Path, tmp_path: Path, source: Path) -> None:
    fstab.rename(tmp_path / "static")
    fstab.symlink_to(tmp_path / "static")
    with pytest.raises(HostError, match="another tool writes it"):
        hostfs.bind_read_only(str(source), str(tmp_path / "state/vm/ro/x"))
    assert fstab.read_text() == FSTAB


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="qemu-img is not installed"):
        hostfs.create_image(str(tmp_path / "disk"), "raw", 1, None)
