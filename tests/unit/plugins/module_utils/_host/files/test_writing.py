# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are written aside, with real kills and a disk that is really full."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.keystone.virtiofs.plugins.module_utils._host.files import (
    leftovers,
    mount_table,
    wrappers,
    writing,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount and change owners")


def killed_in(function: str, work: Callable[[], object]) -> None:
    """Do the work in a process that dies at a function of os."""
    pid = os.fork()
    if pid == 0:
        setattr(os, function, lambda *_arguments: os.kill(os.getpid(), signal.SIGKILL))
        work()
        os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def test_a_new_file_has_the_mode_and_an_old_one_keeps_its_own(tmp_path: Path) -> None:
    file = tmp_path / "file"
    writing.replace_file(file, b"1", 0o755)
    assert file.stat().st_mode & 0o7777 == 0o755
    file.chmod(0o600)
    writing.replace_file(file, b"2", 0o755)
    assert (file.read_bytes(), file.stat().st_mode & 0o7777) == (b"2", 0o600)
    assert list(tmp_path.iterdir()) == [file]


@as_root
def test_an_old_file_keeps_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    os.chown(file, 1234, 4)
    file.chmod(0o2640)
    writing.replace_file(file, b"2", 0o644)
    found = file.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (1234, 4, 0o2640)


@pytest.mark.parametrize("name", ["n" * 255, "\U0001f4be" * 63])
def test_the_longest_names(tmp_path: Path, name: str) -> None:
    writing.replace_file(tmp_path / name, b"1", 0o644)
    with writing.scratch_directory(tmp_path / name) as directory:
        assert directory.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("function", ["write", "fsync"])
def test_what_a_kill_leaves_next_to_the_table_is_found_and_removed(tmp_path: Path, table: Path, function: str) -> None:
    mount_table.add("/other", "/target", "ro")
    before = table.read_text()
    killed_in(function, lambda: mount_table.add("/source", "/target", "ro"))
    assert table.read_text() == before
    assert len(list(table.parent.iterdir())) == 2
    leftovers.remove_leftovers(leftovers.find_leftovers(str(tmp_path), "vm", []))
    assert list(table.parent.iterdir()) == [table]


def test_what_a_kill_leaves_of_a_wrapper_is_no_wrapper(tmp_path: Path, table: Path) -> None:
    wrapper = tmp_path / "domains/vm/bin/virtiofsd,cache=none"
    killed_in("fsync", lambda: wrappers.write_wrapper(str(wrapper), "/virtiofsd", {"cache": "none"}))
    assert len(list(wrapper.parent.iterdir())) == 1
    assert wrappers.list_wrappers(str(tmp_path), "vm", "/virtiofsd") == {}
    leftovers.remove_leftovers(leftovers.find_leftovers(str(tmp_path), "vm", []))
    assert list((tmp_path / "domains").iterdir()) == []


def test_what_a_run_is_using_is_not_a_leftover(tmp_path: Path, table: Path) -> None:
    def found() -> list[str]:
        return leftovers.find_leftovers(str(tmp_path), "vm", [str(tmp_path / "disk")])

    table.parent.mkdir()
    temporary = table.parent / ".keystone-new-mounts-abcdefgh"
    temporary.touch()
    with writing.scratch_directory(tmp_path / "disk"), writing._held(temporary):
        assert found() == []
        (directory,) = tmp_path.glob(".keystone-new-disk-*")
        writing.remove_leftovers([temporary, directory])
        assert directory.exists()
    assert found() == [str(temporary)]
    assert temporary.exists()


def test_other_files_are_not_leftovers(tmp_path: Path, table: Path) -> None:
    table.parent.mkdir()
    (table.parent / "tmpabcdefgh").touch()
    (table.parent / ".keystone-new-mounts.bak-abcdefgh").touch()
    (table.parent / ".keystone-new-mounts-linklink").symlink_to(table)
    os.mkfifo(table.parent / ".keystone-new-mounts-fifofifo")
    (tmp_path / ".keystone-new-disk2-abcdefgh").mkdir()
    assert leftovers.find_leftovers(str(tmp_path), "vm", [str(tmp_path / "disk")]) == []


def test_directories_that_a_killed_run_has_made_or_emptied(tmp_path: Path, table: Path) -> None:
    root = tmp_path / "domains/vm"
    for part in ("ro", "nosuid", "boot"):
        (root / part).mkdir(parents=True)
    found = leftovers.find_leftovers(str(tmp_path), "vm", [])
    assert found == [f"{root}/nosuid", f"{root}/ro"]
    (root / "ro/new").mkdir()
    leftovers.remove_leftovers(found)
    assert sorted(path.name for path in root.iterdir()) == ["boot", "ro"]
    for name in ("ro/new", "ro", "boot"):
        (root / name).rmdir()
    assert leftovers.find_leftovers(str(tmp_path), "vm", []) == [str(root)]


@pytest.fixture
def full_disk(tmp_path: Path, private_mounts: None) -> Iterator[Callable[[int, int], Path]]:
    """A file system with this many free pages and inodes."""
    place = tmp_path / "full"
    place.mkdir()

    def mount(pages: int, inodes: int) -> Path:
        options = f"size={(pages + 1) * 4}k,nr_inodes={inodes + 2}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
        (place / "mounts").write_text("/a /b ro\n")
        return place

    yield mount
    subprocess.run(["umount", place], check=True)


@as_root
@pytest.mark.parametrize(("pages", "inodes"), [(0, 9), (9, 0), (1, 9)])
def test_a_full_disk_leaves_nothing(
    full_disk: Callable[[int, int], Path], pages: int, inodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = full_disk(pages, inodes)
    monkeypatch.setattr(mount_table, "TABLE", place / "mounts")
    before = sorted(place.iterdir())
    with pytest.raises(OSError, match="No space"):
        mount_table.add("/" + "x" * 5000, "/target", "ro")
    assert ((place / "mounts").read_text(), sorted(place.iterdir())) == ("/a /b ro\n", before)
    with pytest.raises(OSError, match="No space"):
        wrappers.write_wrapper(f"{place}/domains/vm/bin/virtiofsd,x", "/virtiofsd", {"x": "y" * 40000})
    assert not any(path.is_file() for path in place.rglob("domains/**/*"))
