# SPDX-License-Identifier: GPL-3.0-or-later
"""Writable sources that are mounted at themselves, with real mounts."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import HostError, InvalidInput, WaitTimeout
from ansible_collections.keystone.virtiofs.plugins.module_utils._host import lock
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import fstab as fstab_module
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import mounting, nosuid
from ansible_collections.keystone.virtiofs.plugins.module_utils._mounts import parse_mountinfo

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount"),
    pytest.mark.usefixtures("private_mounts"),
]


@pytest.fixture
def fstab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "fstab"
    file.write_text("UUID=1 / ext4 defaults 0 1\n")
    monkeypatch.setattr(fstab_module, "FSTAB", file)
    return file


@pytest.fixture
def source(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "pro ject"
    path.mkdir()
    yield str(path)
    while os.path.ismount(path):
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def state(tmp_path: Path) -> str:
    (tmp_path / "state/domains").mkdir(parents=True)
    return str(tmp_path / "state")


def setuid_works(directory: str) -> bool:
    """A program with the setuid bit gives its owner's rights to another user."""
    program = Path(directory, "id")
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o4755)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(program), "-u"]
    for parent in program.parents:
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0\n"


def test_setuid_programs_and_devices_of_a_guest_are_plain_files(fstab: Path, source: str, state: str) -> None:
    assert setuid_works(source)
    nosuid.mount_nosuid(state, "vm", source)
    assert not setuid_works(source)
    os.mknod(f"{source}/zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    with pytest.raises(OSError, match="Permission denied"):
        Path(source, "zero").open("rb").close()
    assert nosuid.list_nosuid(state, "vm") == {source: True}
    nosuid.unmount_nosuid(state, "vm", source)
    assert setuid_works(source)


def test_a_source_that_fstab_mounts_is_refused(fstab: Path, source: str, state: str) -> None:
    """systemd would ignore a second line for the mount point, so the flags would be gone after a reboot."""
    line = f"UUID=2 {source} ext4 nofail 0 2\n".replace("pro ject", r"pro\040ject")
    fstab.write_text(fstab.read_text() + line)
    with pytest.raises(InvalidInput, match="is a file system of its own") as caught:
        nosuid.mount_nosuid(state, "vm", source)
    assert "Add nosuid,nodev to the options in /etc/fstab" in caught.value.fix
    assert not nosuid.list_nosuid(state, "vm")


def test_nothing_is_left(fstab: Path, source: str, state: str) -> None:
    before = fstab.read_text()
    for _round in range(2):
        nosuid.mount_nosuid(state, "vm", source)
    assert len(fstab.read_text().splitlines()) == 2
    assert nosuid.is_nosuid(source)
    assert not nosuid.is_nosuid_by_itself(source)
    for _round in range(2):
        nosuid.unmount_nosuid(state, "vm", source)
    assert (fstab.read_text(), list(Path(state, "domains").iterdir())) == (before, [])
    assert not os.path.ismount(source)


def test_the_mount_stays_for_another_domain(fstab: Path, source: str, state: str) -> None:
    for domain in ("a", "b"):
        nosuid.mount_nosuid(state, domain, source)
    nosuid.unmount_nosuid(state, "a", source)
    assert nosuid.is_nosuid(source)
    assert nosuid.list_nosuid(state, "a") == {}
    nosuid.unmount_nosuid(state, "b", source)
    assert not nosuid.is_nosuid(source)


def test_a_directory_below_has_a_mount_of_its_own(fstab: Path, source: str, state: str) -> None:
    below = Path(source, "below")
    below.mkdir()
    nosuid.mount_nosuid(state, "a", source)
    assert not nosuid.is_nosuid_by_itself(str(below))
    nosuid.mount_nosuid(state, "b", str(below))
    assert nosuid.list_nosuid(state, "b") == {str(below): True}
    nosuid.unmount_nosuid(state, "b", str(below))
    assert not os.path.ismount(below)


def test_a_domain_that_comes_while_another_goes_waits(
    fstab: Path, source: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would count on the mount that the other is about to remove."""
    nosuid.mount_nosuid(state, "a", source)
    unmount_once = mounting.unmount_once
    monkeypatch.setattr(lock, "LOCK_TIMEOUT", 0)

    def unmount_while_another_comes(target: str) -> None:
        with pytest.raises(WaitTimeout, match="has held the lock nosuid"):
            nosuid.mount_nosuid(state, "b", source)
        unmount_once(target)

    monkeypatch.setattr(mounting, "unmount_once", unmount_while_another_comes)
    nosuid.unmount_nosuid(state, "a", source)
    assert not os.path.ismount(source)


def test_it_comes_back_after_a_reboot(fstab: Path, source: str, state: str) -> None:
    nosuid.mount_nosuid(state, "vm", source)
    mounting.unmount_once(source)
    assert nosuid.list_nosuid(state, "vm") == {source: False}
    subprocess.run(["mount", "--fstab", fstab, source], check=True)
    assert nosuid.list_nosuid(state, "vm") == {source: True}


def test_a_mount_of_the_administrators_stays(fstab: Path, source: str, state: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev", "tmpfs", source], check=True)
    assert nosuid.is_nosuid_by_itself(source)
    nosuid.unmount_nosuid(state, "vm", source)
    assert os.path.ismount(source)


def test_mounts_below_the_source_are_not_hidden(fstab: Path, source: str, state: str) -> None:
    below = Path(source, "below")
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    with pytest.raises(InvalidInput, match="has other file systems mounted below it") as caught:
        nosuid.mount_nosuid(state, "vm", source)
    assert "nosuid to false" in caught.value.fix
    assert len(fstab.read_text().splitlines()) == 1
    subprocess.run(["umount", below], check=True)


def test_a_directory_that_was_replaced_by_a_link_is_noticed(tmp_path: Path, source: str) -> None:
    (tmp_path / "target").mkdir()
    Path(source).rmdir()
    Path(source).symlink_to("/etc")
    with pytest.raises(HostError, match="leads to /etc now: it was replaced"):
        mounting.bind(source, str(tmp_path / "target"), mounting.READ_ONLY)
    assert not os.path.ismount(tmp_path / "target")
    Path(source).unlink()


def test_what_is_mounted_later_below_a_source_does_not_appear(tmp_path: Path, source: str) -> None:
    target, below = tmp_path / "target", Path(source, "below")
    target.mkdir()
    below.mkdir()
    mounting.bind(source, str(target), mounting.READ_ONLY)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    with pytest.raises(OSError, match="Read-only file system"):
        (target / "below/x").touch()
    subprocess.run(["umount", below], check=True)
    mounting.unmount(str(target))


def test_a_kernel_that_cannot_mount_in_one_step_is_refused(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step by step, a killed run would leave a mount without its flags."""

    def missing(*_arguments: object) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(mounting, "_call", missing)
    with pytest.raises(HostError, match="Function not implemented") as caught:
        mounting.bind(source, str(tmp_path), mounting.READ_ONLY)
    assert "Linux 5.12" in caught.value.fix
    assert not os.path.ismount(tmp_path)


@pytest.mark.parametrize(
    ("kind", "options", "is_lasting"),
    [
        ("fuse.sshfs", "rw,user_id=0,group_id=0,allow_other", True),
        ("fuse.x", "rw,user_id=1000,group_id=1000,allow_other", False),
        ("fuse", "rw,user_id=1000,group_id=1000", False),
        ("ext4", "rw", True),
    ],
)
def test_a_mount_that_another_user_can_take_away_does_not_count(
    kind: str, options: str, is_lasting: bool, fstab: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = f"1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /srv/project rw,nosuid,nodev - {kind} x {options}\n"
    monkeypatch.setattr(nosuid, "read_mounts", lambda: parse_mountinfo(lines.encode()))
    assert nosuid.is_nosuid_by_itself("/srv/project") == is_lasting
    if not is_lasting:
        before = fstab.read_text()
        with pytest.raises(InvalidInput, match="source /srv/project is on a file system that another user"):
            nosuid.mount_nosuid(state, "vm", "/srv/project")
        assert (fstab.read_text(), list(Path(state, "domains").iterdir())) == (before, [])
