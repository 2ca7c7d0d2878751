# SPDX-License-Identifier: GPL-3.0-or-later
"""Writable sources that are mounted at themselves, with real mounts."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._errors import HostError, InvalidInput, WaitTimeout
from ansible_collections.keystone.virtiofs.plugins.module_utils._host import lock
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import mount_table, mounting, nosuid
from ansible_collections.keystone.virtiofs.plugins.module_utils._mounts import mount_at, parse_mountinfo, read_mounts

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount"),
    pytest.mark.usefixtures("private_mounts"),
]


@pytest.fixture
def source(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "pro ject"
    path.mkdir()
    yield str(path)
    while has_mount(path):
        subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def state(tmp_path: Path) -> str:
    (tmp_path / "state/domains").mkdir(parents=True)
    return str(tmp_path / "state")


def has_mount(path: object) -> bool:
    """os.path.ismount does not see a directory that is mounted at itself."""
    return mount_at(read_mounts(), str(path)) is not None


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


def test_setuid_programs_and_devices_of_a_guest_are_plain_files(table: Path, source: str, state: str) -> None:
    assert setuid_works(source)
    nosuid.mount_nosuid(state, "vm", source)
    assert not setuid_works(source)
    os.mknod(f"{source}/zero", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    with pytest.raises(OSError, match="Permission denied"):
        Path(source, "zero").open("rb").close()
    assert nosuid.list_nosuid(state, "vm") == {source: True}
    nosuid.unmount_nosuid(state, "vm", source)
    assert setuid_works(source)


def test_nothing_is_left(table: Path, source: str, state: str) -> None:
    for _round in range(2):
        nosuid.mount_nosuid(state, "vm", source)
    assert mount_table.entries() == {(source, source)}
    assert nosuid.is_nosuid(source)
    assert not nosuid.is_nosuid_by_itself(source)
    for _round in range(2):
        nosuid.unmount_nosuid(state, "vm", source)
    assert (table.exists(), list(Path(state, "domains").iterdir())) == (False, [])
    assert not has_mount(source)


def test_the_mount_stays_for_another_domain(table: Path, source: str, state: str) -> None:
    for domain in ("a", "b"):
        nosuid.mount_nosuid(state, domain, source)
    nosuid.unmount_nosuid(state, "a", source)
    assert nosuid.is_nosuid(source)
    assert nosuid.list_nosuid(state, "a") == {}
    nosuid.unmount_nosuid(state, "b", source)
    assert not nosuid.is_nosuid(source)


def test_a_directory_below_has_a_mount_of_its_own(table: Path, source: str, state: str) -> None:
    below = Path(source, "below")
    below.mkdir()
    nosuid.mount_nosuid(state, "a", source)
    assert not nosuid.is_nosuid_by_itself(str(below))
    nosuid.mount_nosuid(state, "b", str(below))
    assert nosuid.list_nosuid(state, "b") == {str(below): True}
    nosuid.unmount_nosuid(state, "b", str(below))
    assert not has_mount(below)


def test_a_domain_that_comes_while_another_goes_waits(
    table: Path, source: str, state: str, monkeypatch: pytest.MonkeyPatch
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
    assert not has_mount(source)


def test_it_comes_back_after_a_reboot(source: str, state: str, boot: Callable[[], int]) -> None:
    nosuid.mount_nosuid(state, "vm", source)
    mounting.unmount_once(source)
    assert nosuid.list_nosuid(state, "vm") == {source: False}
    for _round in range(2):
        assert boot() == 0
        assert nosuid.list_nosuid(state, "vm") == {source: True}
    mounting.unmount_once(source)
    assert not has_mount(source)


def test_no_link_leads_a_mount_to_another_directory_at_boot(
    tmp_path: Path, source: str, state: str, boot: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The owner of a directory above the source can put a link there, and could replace it while the service runs."""
    system, other = tmp_path / "system", tmp_path / "other"
    for directory in (system, other):
        directory.mkdir()
    moved = tmp_path / "work"
    moved.mkdir()
    project = moved / "project"
    project.mkdir()
    nosuid.mount_nosuid(state, "vm", str(project))
    nosuid.mount_nosuid(state, "vm", str(other))
    for mounted in (project, other):
        mounting.unmount_once(str(mounted))
    moved.rename(tmp_path / "w2")
    moved.symlink_to(system)
    (system / "project").mkdir()
    assert boot() == 1
    assert f"cannot mount '{project}' at '{project}': Too many levels of symbolic links" in capsys.readouterr().err
    assert not has_mount(system / "project")
    assert has_mount(other)
    mounting.unmount_once(str(other))


def test_a_path_that_is_replaced_before_the_mount_leads_nowhere(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory that was opened is mounted where it was, wherever its name leads meanwhile."""
    above, system = tmp_path / "above", tmp_path / "system"
    for directory in (above / "etc", system / "etc"):
        directory.mkdir(parents=True)
    call = mounting._call

    def call_after_the_exchange(number: int, *arguments: object) -> int:
        if number == mounting._MOVE_MOUNT:
            above.rename(tmp_path / "aside")
            above.symlink_to(system)
        return call(number, *arguments)

    monkeypatch.setattr(mounting, "_call", call_after_the_exchange)
    mounting.bind(str(above / "etc"), str(above / "etc"), mounting.NOSUID)
    assert [has_mount(path / "etc") for path in (system, tmp_path / "aside")] == [False, True]
    mounting.unmount_once(str(tmp_path / "aside/etc"))


def test_a_link_leads_to_no_other_mount_that_is_then_removed(tmp_path: Path, source: str) -> None:
    above, other = tmp_path / "above", tmp_path / "other"
    (other / "directory").mkdir(parents=True)
    above.symlink_to(other)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", other / "directory"], check=True)
    with pytest.raises(HostError, match="Too many levels of symbolic links") as caught:
        mounting.unmount_once(str(above / "directory"))
    assert "only root can change these directories" in caught.value.fix
    assert has_mount(other / "directory")
    with pytest.raises(HostError, match="not a mount point any more"):
        mounting.unmount_once(str(other))
    subprocess.run(["umount", other / "directory"], check=True)


def test_a_mount_of_the_administrators_stays(table: Path, source: str, state: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev", "tmpfs", source], check=True)
    assert nosuid.is_nosuid_by_itself(source)
    nosuid.unmount_nosuid(state, "vm", source)
    assert has_mount(source)


def test_mounts_below_the_source_are_not_hidden(table: Path, source: str, state: str) -> None:
    below = Path(source, "below")
    below.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", below], check=True)
    with pytest.raises(InvalidInput, match="has other file systems mounted below it") as caught:
        nosuid.mount_nosuid(state, "vm", source)
    assert "nosuid to false" in caught.value.fix
    assert not table.exists()
    subprocess.run(["umount", below], check=True)


def test_a_directory_that_was_replaced_by_a_link_is_noticed(tmp_path: Path, source: str) -> None:
    (tmp_path / "target").mkdir()
    Path(source).rmdir()
    Path(source).symlink_to("/etc")
    with pytest.raises(HostError, match="Too many levels of symbolic links"):
        mounting.bind(source, str(tmp_path / "target"), mounting.READ_ONLY)
    assert not has_mount(tmp_path / "target")
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
    assert not has_mount(tmp_path)


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
    kind: str, options: str, is_lasting: bool, table: Path, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = f"1 0 0:1 / / rw - ext4 x rw\n2 1 0:2 / /srv/project rw,nosuid,nodev - {kind} x {options}\n"
    monkeypatch.setattr(nosuid, "read_mounts", lambda: parse_mountinfo(lines.encode()))
    assert nosuid.is_nosuid_by_itself("/srv/project") == is_lasting
    if not is_lasting:
        with pytest.raises(InvalidInput, match="source /srv/project is on a file system that another user"):
            nosuid.mount_nosuid(state, "vm", "/srv/project")
        assert (table.exists(), list(Path(state, "domains").iterdir())) == (False, [])


def test_a_directory_without_a_mount_in_a_chroot(monkeypatch: pytest.MonkeyPatch) -> None:
    line = b"1 0 0:1 / /proc rw,nosuid,nodev - proc x rw\n"
    monkeypatch.setattr(nosuid, "read_mounts", lambda: parse_mountinfo(line))
    assert not nosuid.is_nosuid("/srv/project")
    assert not nosuid.is_nosuid_by_itself("/srv/project")
