# SPDX-License-Identifier: GPL-3.0-or-later
"""Module store_image with a real Nix store and the real mkfs.erofs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.keystone.virtiofs.plugins.module_utils._host import limits, lock
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.store import image as images
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.store.closure import (
    StorePath,
    read_closure,
    roots_of,
)
from ansible_collections.keystone.virtiofs.plugins.module_utils._host.store.layers import update_of
from ansible_collections.keystone.virtiofs.plugins.modules import store_image

TOOLS = ("nix-store", "nix-instantiate", "mkfs.erofs", "fsck.erofs", "dump.erofs")
MISSING = [tool for tool in TOOLS if shutil.which(tool) is None]
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may set trusted attributes"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]

# Two files that refer to a directory.
PATHS = """
rec {
  library = builtins.path { name = "library"; path = %s; };
  system = builtins.toFile "system" "refers to ${library}";
  newer = builtins.toFile "newer" "refers to ${library}";
}
"""
Run = Callable[..., dict[str, Any]]


class Store:
    """A Nix store below a directory, with two versions of a system, and the library that both refer to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        source = root / "source"
        (source / "folder").mkdir(parents=True)
        (source / "folder/file").write_text("first\n")
        (source / "link").symlink_to("folder/file")
        (root / "paths.nix").write_text(PATHS % source)
        self.library, self.system, self.newer = (self._path(name) for name in ("library", "system", "newer"))

    def _path(self, name: str) -> str:
        expression = self.root / "paths.nix"
        path: str = json.loads(self.run("nix-instantiate", "--eval", "--read-write-mode", expression, "-A", name))
        return path

    def run(self, *command: str | Path, stdin: str = "") -> str:
        environment = {**os.environ, "NIX_REMOTE": str(self.root)}
        done = subprocess.run(command, env=environment, input=stdin, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def rebuild_library(self, contents: str) -> None:
        """Replace the contents of the library, as a build that is not reproducible does."""
        file = Path(f"{self.root}{self.library}/folder/file")
        file.chmod(0o644)
        file.write_text(contents)
        path, _hash, _size, *rest = self.run("nix-store", "--dump-db", self.library).split("\n")
        digest = self.run("nix-hash", "--type", "sha256", f"{self.root}{self.library}").strip()
        self.run("nix-store", "--delete", "--ignore-liveness", self.system, self.newer)
        shutil.copytree(f"{self.root}{self.library}", self.root / "rebuilt", symlinks=True)
        self.run("nix-store", "--delete", "--ignore-liveness", self.library)
        shutil.copytree(self.root / "rebuilt", f"{self.root}{self.library}", symlinks=True)
        self.run("nix-store", "--load-db", stdin="\n".join([path, digest, "1", *rest]))
        self._path("system")
        self._path("newer")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    root = tmp_path / "store"
    root.mkdir()
    return Store(root)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images/web-store.erofs"


@pytest.fixture
def run(
    store: Store, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Run the module on the image; its result."""
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(lock, "_directory", lambda: tmp_path / "locks")

    def run_module(*, check: bool = False, **options: Any) -> dict[str, Any]:
        arguments = {"path": str(path), "store_root": str(store.root), **options}
        arguments |= {"_ansible_check_mode": check, "_ansible_diff": True}
        with patch_module_args(arguments), pytest.raises(SystemExit):
            store_image.main()
        result: dict[str, Any] = json.loads(capsys.readouterr().out)
        return result

    return run_module


@pytest.fixture
def make(run: Run, store: Store) -> Run:
    """Run the module with the system's closure."""
    return lambda **options: run(store_paths=[store.system], **options)


def unpack(image: Path, folder: Path) -> dict[str, str]:
    """The contents of an image's files and links by their names."""
    subprocess.run(["fsck.erofs", f"--extract={folder}", image], stdout=subprocess.DEVNULL, check=True)
    names = sorted(file for file in folder.rglob("*") if file.is_symlink() or file.is_file())
    return {str(name.relative_to(folder)): name.read_text() for name in names}


@contextmanager
def mounted(*arguments: str | Path) -> Iterator[None]:
    """Mount something for the time of a test; the last argument is the place."""
    subprocess.run(["mount", *arguments], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", arguments[-1]], check=True)


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def test_an_image_holds_the_closure(make: Run, store: Store, path: Path, tmp_path: Path) -> None:
    result = make()
    assert (result["changed"], result["exists"], result["store_path_count"]) == (True, True, 2)
    assert result["size"] == path.stat().st_size
    library, system = Path(store.library).name, Path(store.system).name
    assert unpack(path, tmp_path / "unpacked") == {
        f"{library}/folder/file": "first\n",
        f"{library}/link": "first\n",
        system: f"refers to {store.library}",
    }
    assert files(path.parent) == ["web-store.erofs", "web-store.erofs.paths"]


def test_qemu_can_read_but_not_write_the_image(make: Run, path: Path) -> None:
    umask = os.umask(0o077)
    try:
        make()
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o444


def test_a_guest_finds_it_by_its_uuid(make: Run, path: Path) -> None:
    make()
    shown = subprocess.run(["blkid", "--probe", path], capture_output=True, text=True, check=True).stdout
    assert f'UUID="{images.UUID}"' in shown
    assert 'TYPE="erofs"' in shown


def test_directories_are_opaque(make: Run, monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    opaque: dict[str, bytes] = {}

    def see(tree: Path, *_: object) -> None:
        for copy in tree.iterdir():
            if "trusted.overlay.opaque" in os.listxattr(copy):
                opaque[copy.name] = os.getxattr(copy, "trusted.overlay.opaque")
        raise OSError("seen")

    monkeypatch.setattr(images, "_write", see)
    assert make()["failed"]
    assert opaque == {Path(store.library).name: b"y"}


@pytest.fixture
def staged(make: Run, store: Store, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, bool]]:
    """Make the image; for each file from which it is written, whether the file is the store's own and not a copy."""

    def make_and_see() -> dict[str, bool]:
        seen: dict[str, bool] = {}

        def see(tree: Path, *_: object) -> None:
            for file in (file for file in tree.rglob("*") if file.is_file() and not file.is_symlink()):
                name = str(file.relative_to(tree))
                seen[name.partition("-")[2]] = file.samefile(f"{store.root}/nix/store/{name}")
            raise OSError("seen")

        monkeypatch.setattr(images, "_write", see)
        assert "seen" in make()["msg"]
        return seen

    return make_and_see


def test_files_are_linked_and_not_copied(staged: Callable[[], dict[str, bool]]) -> None:
    assert staged() == {"library/folder/file": True, "system": True}


@pytest.mark.usefixtures("private_mounts")
def test_files_of_a_read_only_store_are_linked(staged: Callable[[], dict[str, bool]], store: Store) -> None:
    """NixOS mounts its store read-only on itself."""
    with mounted("--bind", "-o", "ro", store.root / "nix/store", store.root / "nix/store"):
        assert staged() == {"library/folder/file": True, "system": True}


@pytest.mark.usefixtures("private_mounts")
def test_files_of_another_file_system_are_copied(make: Run, path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    with mounted("-t", "tmpfs", "tmpfs", path.parent):
        assert make()["changed"]
        assert "first\n" in unpack(path, tmp_path / "unpacked").values()


@pytest.mark.usefixtures("private_mounts")
def test_what_a_mount_hides_is_not_in_the_image(make: Run, store: Store, path: Path, tmp_path: Path) -> None:
    """A store on a file system of its own, and older contents of the same paths below the mount."""
    directory, newer = store.root / "nix/store", tmp_path / "newer"
    shutil.copytree(directory, newer, symlinks=True)
    Path(f"{store.root}{store.library}/folder/file").write_text("hidden\n")
    with mounted("-t", "tmpfs", "tmpfs", directory):
        shutil.copytree(newer, directory, symlinks=True, dirs_exist_ok=True)
        make()
        assert "first\n" in unpack(path, tmp_path / "unpacked").values()


def test_a_second_run_changes_nothing(make: Run, path: Path) -> None:
    make()
    made = path.stat()
    result = make()
    assert (result["changed"], result["store_path_count"]) == (False, 2)
    assert path.stat().st_ino == made.st_ino


def test_guests_with_the_same_closure_share_one_file(make: Run, run: Run, path: Path) -> None:
    other = str(path.with_name("mail-store.erofs"))
    make()
    assert make(path=other)["changed"]
    assert Path(other).samefile(path)
    assert not make(path=other)["changed"]
    assert run(state="absent")["changed"]
    assert Path(other).stat().st_nlink == 1, "the other guest keeps its image, and is the last that has it"


def test_a_guest_with_another_closure_leaves_the_shared_file(make: Run, run: Run, store: Store, path: Path) -> None:
    other = path.with_name("mail-store.erofs")
    make()
    make(path=str(other))
    before = other.read_bytes()
    run(store_paths=[store.library])
    assert not other.samefile(path)
    assert other.read_bytes() == before


@pytest.mark.parametrize("forged", ["image", "list", "link", "victim"])
def test_a_file_that_another_user_can_have_written_is_not_shared(
    make: Run, path: Path, tmp_path: Path, forged: str
) -> None:
    """The directory may belong to a user of the host, who may put an image of any contents there."""
    evil, listed = path.with_name("evil.erofs"), path.with_name("evil.erofs.paths")
    make(path=str(evil))
    if forged in ("image", "list"):
        os.chown(evil if forged == "image" else listed, 1234, 1234)
    else:
        evil.unlink()
        victim = tmp_path / "victim"
        victim.write_bytes(b"secret" * 1000)
        evil.symlink_to(victim) if forged == "link" else evil.hardlink_to(victim)
    assert make()["changed"]
    assert path.stat().st_nlink == 1
    assert images.StoreImage(str(path)).has_uuid()


def test_a_guest_can_map_the_whole_image(make: Run, store: Store, path: Path) -> None:
    """Persistent memory has sections of 2 MiB, and a file whose end is next to its inode cannot be mapped."""
    make()
    assert path.stat().st_size % 2**21 == 0
    file = f"--path=/{Path(store.library).name}/folder/file"
    shown = subprocess.run(["dump.erofs", file, path], capture_output=True, text=True, check=True).stdout
    assert "Layout: 0 " in shown


def test_another_closure_makes_another_image(make: Run, run: Run, store: Store, path: Path, tmp_path: Path) -> None:
    make()
    with path.open("rb") as running:
        before = running.read()
        assert run(store_paths=[store.library])["changed"]
        running.seek(0)
        assert running.read() == before, "a running guest keeps the image that it was started with"
    assert unpack(path, tmp_path / "unpacked").keys() == {
        f"{Path(store.library).name}/{name}" for name in ("folder/file", "link")
    }


def test_a_path_with_other_contents_makes_another_image(make: Run, store: Store, path: Path, tmp_path: Path) -> None:
    make()
    store.rebuild_library("second\n")
    assert make()["changed"]
    assert unpack(path, tmp_path / "unpacked")[f"{Path(store.library).name}/folder/file"] == "second\n"
    assert not make()["changed"]


def test_check_mode_predicts_and_changes_nothing(make: Run, run: Run, store: Store, path: Path) -> None:
    predicted = make(check=True)
    assert (predicted["changed"], predicted["exists"], predicted["size"]) == (True, False, None)
    assert files(path.parent) == []
    made = make()
    assert predicted["diff"] == made["diff"]
    assert not make(check=True)["changed"]
    size = path.stat().st_size
    assert run(store_paths=[store.library], check=True)["changed"]
    assert run(state="absent", check=True)["changed"]
    assert (files(path.parent), path.stat().st_size) == (["web-store.erofs", "web-store.erofs.paths"], size)


def test_the_diff_has_paths_and_hashes(make: Run, run: Run, store: Store) -> None:
    [diff] = make()["diff"]
    assert diff["before"] == ""
    assert [line.split(" sha256:")[0] for line in diff["after"].splitlines()] == sorted([store.library, store.system])
    [removed] = run(state="absent")["diff"]
    assert (removed["before"], removed["after"]) == (diff["after"], "")


def test_absent_removes_the_image_and_its_list(make: Run, run: Run, path: Path) -> None:
    make()
    result = run(state="absent")
    assert (result["changed"], result["exists"], result["size"], result["store_path_count"]) == (True, False, None, 0)
    assert files(path.parent) == []
    assert not run(state="absent")["changed"]


def test_absent_removes_what_an_interrupted_run_has_left(run: Run, path: Path) -> None:
    (path.parent / ".keystone-new-web-store.erofs-abcdefgh/tree").mkdir(parents=True)
    (path.parent / ".keystone-new-web-store.erofs.paths-abcdefgh").touch()
    assert run(state="absent")["changed"]
    assert files(path.parent) == []


@pytest.mark.parametrize("step", ["_stage", "_write"])
def test_a_failure_keeps_the_previous_image(
    make: Run, run: Run, store: Store, path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    make()
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(images, step, fail)
    result = run(store_paths=[store.library])
    assert result["msg"].startswith(f"store image {path}: no space left on device. Use become")
    assert files(path.parent) == ["web-store.erofs", "web-store.erofs.paths"]
    assert path.read_bytes() == before
    assert not make()["changed"]


def test_a_user_who_replaces_the_scratch_directory_changes_nothing(
    make: Run, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory of an image may belong to a user of the host, who may rename what is in it."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    stage = images._stage

    def stage_after_the_exchange(*arguments: Any) -> None:
        (scratch,) = path.parent.glob(".keystone-new-*")
        scratch.rename(path.parent / "aside")
        scratch.mkdir()
        (scratch / "image").symlink_to(victim)
        (scratch / "tree").symlink_to(tmp_path)
        stage(*arguments)

    monkeypatch.setattr(images, "_stage", stage_after_the_exchange)
    make()
    assert victim.read_text() == "mine"
    assert not path.is_symlink()
    assert not make()["changed"]


def test_what_is_left_next_to_a_complete_image_is_removed(make: Run, path: Path) -> None:
    make()
    inode = path.stat().st_ino
    (path.parent / ".keystone-new-web-store.erofs-abcdefgh/tree").mkdir(parents=True)
    (path.parent / ".keystone-new-web-store.erofs.paths-abcdefgh").touch()
    assert (make(check=True)["changed"], make()["changed"], make()["changed"]) == (True, True, False)
    assert files(path.parent) == ["web-store.erofs", "web-store.erofs.paths"]
    assert path.stat().st_ino == inode


def test_an_interrupted_run_is_repeated(make: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path.parent / ".keystone-new-web-store.erofs-abcdefgh/tree").mkdir(parents=True)
    make()
    path.with_name("web-store.erofs.paths").unlink()
    assert make(check=True)["exists"]
    assert make()["changed"]
    assert files(path.parent) == ["web-store.erofs", "web-store.erofs.paths"]


def test_a_run_interrupted_before_the_list_is_repeated(
    make: Run, store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    make()
    with monkeypatch.context() as patch:
        patch.setattr(images.writing, "replace_file", interrupt)
        with pytest.raises(KeyboardInterrupt):
            images.StoreImage(str(path)).make({store.library: StorePath("hash", 1)}, str(store.root), 60)
    assert make()["changed"], "the image holds another closure than the list said before"


@pytest.mark.parametrize("state", ["present", "absent"])
def test_another_file_is_left_alone(make: Run, path: Path, state: str) -> None:
    path.parent.mkdir()
    path.write_bytes(b"a disk" + bytes(4096))
    result = make(state=state)
    assert f"path {path} exists and is not a store image" in result["msg"]
    assert path.read_bytes().startswith(b"a disk")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "store_paths is empty. List at least one path in /nix/store"),
        ({"store_paths": ["/run/current-system"]}, "store_paths: not below /nix/store: /run/current-system. List"),
        ({"store_paths": [f"/nix/store/{'0' * 32}-gone"]}, f"path '/nix/store/{'0' * 32}-gone' is not valid"),
    ],
)
def test_wrong_store_paths_are_refused(run: Run, path: Path, options: dict[str, Any], message: str) -> None:
    result = run(**options)
    assert result["failed"]
    assert message in result["msg"]
    assert not path.parent.exists()


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        ({"images": ["/srv/images"]}, "path {path} is not among the images that"),
        ({"sources": ["/nix/store"]}, "source {root} is not among the sources that"),
    ],
)
def test_the_limits_of_the_host_hold(
    make: Run, store: Store, path: Path, monkeypatch: pytest.MonkeyPatch, allowed: dict[str, list[str]], message: str
) -> None:
    file = path.parent.parent / "limits.json"
    file.write_text(json.dumps(allowed))
    monkeypatch.setattr(limits, "FILE", file)
    assert make()["msg"].startswith(message.format(path=path, system=store.system, root=store.root))
    assert not path.parent.exists()


def test_the_limits_hold_for_a_removal(run: Run, make: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make()
    file = path.parent.parent / "limits.json"
    file.write_text(json.dumps({"images": ["/srv/images"]}))
    monkeypatch.setattr(limits, "FILE", file)
    assert run(state="absent")["msg"].startswith(f"path {path} is not among the images that")
    assert path.exists()


def test_the_limits_hold_for_a_path_by_way_of_an_allowed_one(
    run: Run, store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = path.parent.parent / "limits.json"
    file.write_text(json.dumps({"sources": [str(store.root), store.system]}))
    monkeypatch.setattr(limits, "FILE", file)
    detour = f"{store.system}/../{Path(store.library).name}"
    assert f"source {detour} is not among the sources" in run(store_paths=[detour])["msg"]
    assert f"source {store.library} is not among the sources" in run(store_paths=[store.system])["msg"]


def test_a_command_that_takes_too_long_is_ended(make: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = path.parent.parent / "bin/mkfs.erofs"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nsleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    result = make(timeout=1)
    assert "mkfs.erofs --quiet" in result["msg"]
    assert "did not end within 1 s" in result["msg"]
    assert files(path.parent) == []


def test_one_task_at_a_time_makes_an_image(make: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "LOCK_TIMEOUT", 0)
    with lock.exclusive(f"store-images:{path.parent}"):
        assert f"has held the lock store-images:{path.parent} for 0 s" in make()["msg"]
    assert make()["changed"]


def test_a_missing_tool_is_named(make: Run, path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("nix-store", "cp", "unshare", "sh"):
        (tools / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tools))
    assert make()["msg"].startswith("mkfs.erofs is not installed. Install mkfs.erofs; the role keystone.virtiofs.host")
    assert files(path.parent) == []


@pytest.fixture
def update_path(path: Path) -> Path:
    return path.with_name("web-store-update.erofs")


@pytest.fixture
def renew(run: Run, update_path: Path) -> Run:
    """Run the module with the closure of one path and with an update, which may be large."""
    return lambda of, **options: run(
        store_paths=[of], **{"update_path": str(update_path), "update_limit": 90, **options}
    )


def names(image: Path, folder: Path) -> set[str]:
    return {name.partition("/")[0].partition("-")[2] for name in unpack(image, folder)}


def test_a_new_image_has_an_empty_update(
    renew: Run, store: Store, path: Path, update_path: Path, tmp_path: Path
) -> None:
    result = renew(store.system)
    assert (result["changed"], result["exists"], result["unused_roots"]) == (True, True, [])
    assert result["update_size"] == update_path.stat().st_size == 2**21
    assert names(path, tmp_path / "base") == {"library", "system"}
    assert names(update_path, tmp_path / "update") == set()
    shown = subprocess.run(["blkid", "--probe", update_path], capture_output=True, text=True, check=True).stdout
    assert f'UUID="{images.UPDATE_UUID}"' in shown
    assert not renew(store.system)["changed"]


def test_an_update_has_what_the_base_lacks(
    renew: Run, store: Store, path: Path, update_path: Path, tmp_path: Path
) -> None:
    renew(store.system)
    base = path.stat()
    predicted, result = renew(store.newer, check=True), renew(store.newer)
    assert predicted["diff"] == result["diff"]
    assert (result["changed"], result["store_path_count"], result["unused_roots"]) == (True, 2, [store.system])
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (base.st_ino, base.st_mtime_ns)
    assert names(update_path, tmp_path / "update") == {"newer"}
    assert not renew(store.newer)["changed"]


def test_an_update_that_is_too_large_becomes_a_new_base(
    renew: Run, store: Store, path: Path, update_path: Path, tmp_path: Path
) -> None:
    renew(store.system)
    renew(store.newer)
    result = renew(store.newer, update_limit=0)
    assert (result["changed"], result["unused_roots"]) == (True, [])
    assert names(path, tmp_path / "base") == {"library", "newer"}
    assert names(update_path, tmp_path / "update") == set()


def test_a_path_that_the_host_has_no_longer_is_not_kept(renew: Run, store: Store, path: Path, tmp_path: Path) -> None:
    renew(store.system)
    store.run("nix-store", "--delete", "--ignore-liveness", store.system)
    assert renew(store.newer)["unused_roots"] == []
    assert names(path, tmp_path / "base") == {"library", "newer"}


def test_a_path_that_the_host_no_longer_allows_is_not_kept(
    renew: Run, store: Store, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renew(store.system)
    file = tmp_path / "limits.json"
    file.write_text(json.dumps({"sources": [str(store.root), store.newer, store.library]}))
    monkeypatch.setattr(limits, "FILE", file)
    assert renew(store.newer)["unused_roots"] == []
    assert names(path, tmp_path / "base") == {"library", "newer"}


@pytest.mark.parametrize(
    "line", [b"--delete sha256:0 1\n", b"/nix/store/x sha256:0 1\n", b"/nix/store", b"\n", b"\xff\n", b"twice"]
)
def test_a_list_that_the_module_has_not_written_counts_for_nothing(
    renew: Run, store: Store, path: Path, tmp_path: Path, line: bytes
) -> None:
    renew(store.system)
    listed = path.with_name("web-store.erofs.paths")
    text = listed.read_bytes()
    listed.write_bytes(text * 2 if line == b"twice" else text + line)
    assert renew(store.newer)["unused_roots"] == []
    assert names(path, tmp_path / "base") == {"library", "newer"}


def test_a_list_that_another_user_can_have_written_counts_for_nothing(
    renew: Run, store: Store, path: Path, tmp_path: Path
) -> None:
    renew(store.system)
    os.chown(path.with_name("web-store.erofs.paths"), 1234, 1234)
    assert renew(store.newer)["unused_roots"] == []
    assert names(path, tmp_path / "base") == {"library", "newer"}


def test_the_roots_of_unused_paths_keep_them_all(store: Store, renew: Run, path: Path) -> None:
    renew(store.system)
    other = store.run("nix-store", "--add", store.root / "paths.nix").strip()
    # As many do, it refers to itself.
    *registered, _none = store.run("nix-store", "--dump-db", other).splitlines()
    store.run("nix-store", "--load-db", stdin="\n".join([*registered, "1", other, ""]))
    everything = {**(images.StoreImage(str(path)).contents() or {}), **read_closure([other], str(store.root))}
    assert roots_of(everything, str(store.root)) == sorted([store.system, other])
    changed = {**everything, store.library: StorePath("sha256:0", 1)}
    assert roots_of(changed, str(store.root)) is None, "the store has other contents"


def test_a_new_guest_takes_the_base_of_another(renew: Run, store: Store, path: Path, update_path: Path) -> None:
    renew(store.system)
    renew(store.newer)
    others = [path.with_name("mail-store.erofs"), path.with_name("mail-store-update.erofs")]
    result = renew(store.newer, path=str(others[0]), update_path=str(others[1]))
    assert result["unused_roots"] == [store.system]
    assert others[0].samefile(path)
    assert others[1].samefile(update_path)
    assert not renew(store.newer)["changed"]


def test_guests_share_base_and_update(renew: Run, store: Store, path: Path, update_path: Path) -> None:
    others = [path.with_name("mail-store.erofs"), path.with_name("mail-store-update.erofs")]
    for closure in (store.system, store.newer):
        renew(closure)
        renew(closure, path=str(others[0]), update_path=str(others[1]))
        assert others[0].samefile(path)
        assert others[1].samefile(update_path)


def test_a_base_is_no_update_of_another_guest(make: Run, store: Store, path: Path, update_path: Path) -> None:
    """A guest finds each by its UUID, whatever is in it."""
    make()
    update = images.StoreImage(str(update_path), images.UPDATE_UUID)
    update.make(images.StoreImage(str(path)).contents() or {}, str(store.root), 60)
    assert update.has_uuid()


def test_absent_removes_the_update(renew: Run, run: Run, store: Store, path: Path, update_path: Path) -> None:
    renew(store.system)
    result = run(state="absent", update_path=str(update_path))
    assert (result["changed"], result["exists"], result["update_size"]) == (True, False, None)
    assert files(path.parent) == []
    assert not run(state="absent", update_path=str(update_path))["changed"]


def test_an_update_is_not_written_over_another_file(renew: Run, store: Store, path: Path, update_path: Path) -> None:
    renew(store.system)
    wrong = renew(store.system, update_path=str(path.with_name("other.erofs")), path=str(update_path))
    assert wrong["msg"].startswith(f"path {update_path} exists and is not a store image")


@pytest.mark.parametrize("update", ["images/web-store.erofs", "images/web-store.erofs.paths", "link/web-store.erofs"])
def test_an_update_is_not_written_over_its_base(
    renew: Run, store: Store, path: Path, tmp_path: Path, update: str
) -> None:
    (tmp_path / "link").symlink_to(path.parent)
    wrong = renew(store.system, update_path=str(tmp_path / update))
    assert wrong["msg"].startswith(f"update_path {tmp_path / update} is a file of the other image. Choose another")
    assert files(path.parent) == []


@pytest.mark.parametrize(
    ("sizes", "wanted", "kept"),
    [
        ({"a": 70, "b": 30}, {"a": 70, "b": 30}, True),
        ({"a": 70, "b": 30}, {"a": 70, "b": 30, "c": 30}, True),
        ({"a": 70, "b": 30}, {"a": 70, "b": 30, "c": 50}, False),  # lacks too much
        ({"a": 70, "b": 21}, {"a": 70}, True),
        ({"a": 70, "b": 30}, {"a": 70}, False),  # holds too much in vain
        ({"a": 10, "b": 90}, {"a": 15, "b": 90}, True),  # a has other contents
        ({"a": 30, "b": 70}, {"a": 35, "b": 70}, False),
        ({}, {"a": 1}, False),
    ],
)
def test_a_base_is_kept_while_its_update_is_small(sizes: dict[str, int], wanted: dict[str, int], kept: bool) -> None:
    base, closure = ({name: StorePath(str(size), size) for name, size in of.items()} for of in (sizes, wanted))
    update = update_of(base, closure, 30)
    assert (update is not None) == kept
    below, above = (base, update) if update is not None else (closure, {})
    assert {**below, **above}.items() >= closure.items(), "the guest sees the closure"


def test_a_limit_of_nothing_keeps_no_other_base() -> None:
    base, closure = ({path: StorePath("", 0) for path in paths} for paths in ("ab", "a"))
    assert update_of(base, closure, 0) is None
    assert update_of(closure, closure, 0) == {}
