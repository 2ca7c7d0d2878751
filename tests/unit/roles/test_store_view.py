# SPDX-License-Identifier: GPL-3.0-or-later
"""keystone-store-view with a real Nix store and real mounts, in directories of the test."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from functools import partial
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/host/files/keystone-store-view"
# A directory, a symbolic link, a file that refers to both, and a path that nothing refers to.
PATHS = """
rec {
  library = builtins.path { name = "library"; path = %s/library; };
  link = builtins.path { name = "link"; path = %s/link; };
  system = builtins.toFile "system" "refers to ${library} and ${link}";
  other = builtins.path { name = "other"; path = %s/library; };
}
"""
DOMAIN = "web"


class Host:
    """The program with all its paths below a directory, and a Nix store there."""

    def __init__(self, root: Path) -> None:
        self.domain = root / "domains" / DOMAIN
        self.store = self.domain / "view/store"
        loader = SourceFileLoader("keystone_store_view", str(PROGRAM))
        specification = spec_from_loader(loader.name, loader)
        assert specification is not None
        self.program: Any = module_from_spec(specification)
        loader.exec_module(self.program)
        self.program.STORE, self.program.LOCK = root / "nix/store", root / "run/lock"
        self.program.ROOTS, self.program.DOMAINS = root / "roots", root / "domains"
        (root / "library/folder").mkdir(parents=True)
        (root / "library/folder/file").write_text("contents")
        (root / "link").symlink_to("elsewhere")
        (root / "paths.nix").write_text(PATHS % (root, root, root))
        self.library, self.link, self.system, self.other = (
            self.add(root / "paths.nix", name) for name in ("library", "link", "system", "other")
        )

    def add(self, expression: Path, name: str) -> str:
        command = ["nix-instantiate", "--eval", "--read-write-mode", expression, "-A", name]
        path: str = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
        return path

    def run(self, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sys.argv", ["keystone-store-view", *arguments])
        self.program.main()

    def names(self) -> set[str]:
        return {path.name for path in self.store.iterdir()} if self.store.exists() else set()

    def is_protected(self, place: Path) -> bool:
        """Read-only, without setuid programs and devices."""
        protected: int = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV
        return os.statvfs(place).f_flag & protected == protected

    def place(self, path: str) -> Path:
        """Where the view has a store path."""
        return self.store / Path(path).name


@pytest.fixture
def host(tmp_path: Path, private_mounts: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("NIX_REMOTE", str(tmp_path))
    host = Host(tmp_path)
    yield host
    for point in reversed(host.program.read_mount_points()):
        if tmp_path in point.parents:
            host.program.unmount(point)


@pytest.fixture
def run(host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the program; the lines that it prints."""

    def run_program(*arguments: str) -> list[str]:
        host.run(*arguments, monkeypatch=monkeypatch)
        return capsys.readouterr().out.splitlines()

    return run_program


def base_names(*paths: str) -> set[str]:
    return {Path(path).name for path in paths}


def test_a_view_has_the_closure_and_nothing_else(host: Host, run: Any) -> None:
    printed = run("show", DOMAIN, host.system)
    assert len(printed) == 3
    assert host.names() == base_names(host.system, host.library, host.link)
    assert (host.place(host.library) / "folder/file").read_text() == "contents"
    assert host.place(host.link).readlink() == Path("elsewhere")
    assert run("show", DOMAIN, host.system) == []


def test_nothing_in_a_view_can_be_written(host: Host, run: Any) -> None:
    run("show", DOMAIN, host.system)
    assert all(host.is_protected(place) for place in (host.store, host.place(host.library), host.place(host.system)))
    for write in (
        (host.store / "new").touch,
        (host.place(host.library) / "new").touch,
        partial(host.place(host.system).write_text, "other"),
        host.place(host.link).unlink,
    ):
        with pytest.raises(OSError, match="Read-only file system"):
            write()


def test_nothing_is_mounted_below_the_names_where_mounts_are_shared(host: Host, run: Any, tmp_path: Path) -> None:
    """As on every host with systemd; a copy of a mount there would be writable."""
    subprocess.run(["mount", "--bind", "--make-shared", tmp_path, tmp_path], check=True)
    run("show", DOMAIN, host.system)
    names = host.store.with_name("names")
    assert [point for point in host.program.read_mount_points() if names in point.parents] == []
    assert host.names() == base_names(host.system, host.library, host.link)


def test_trimming_keeps_the_closure(host: Host, run: Any) -> None:
    run("show", DOMAIN, host.system, host.other)
    removed = {f"- {host.program.STORE / Path(path).name}" for path in (host.system, host.link, host.other)}
    assert set(run("trim", DOMAIN, host.library)) == removed
    assert host.names() == base_names(host.library)
    assert run("trim", DOMAIN, host.library) == []


def test_a_dry_run_predicts(host: Host, run: Any) -> None:
    predicted = run("--dry-run", "show", DOMAIN, host.system)
    assert not host.domain.exists()
    assert run("show", DOMAIN, host.system) == predicted
    assert run("--dry-run", "trim", DOMAIN, host.library) == run("trim", DOMAIN, host.library)
    assert run("--dry-run", "remove", DOMAIN) == [f"- {host.domain / 'view'}"]
    assert host.names() == base_names(host.library)


def test_removal_leaves_nothing(host: Host, run: Any) -> None:
    run("show", DOMAIN, host.system)
    run("remove", DOMAIN)
    assert list(host.program.DOMAINS.iterdir()) == []
    assert not any(host.program.DOMAINS in point.parents for point in host.program.read_mount_points())
    assert run("remove", DOMAIN) == []


def test_removal_leaves_the_rest_of_the_domains_directory(host: Host, run: Any) -> None:
    run("show", DOMAIN, host.system)
    (host.domain / "boot").mkdir()
    run("remove", DOMAIN)
    assert [path.name for path in host.domain.iterdir()] == ["boot"]


@pytest.mark.parametrize("existing", [["view"], ["view/names"], ["view/store"], ["view/names", "view/store"]])
def test_an_incomplete_view_can_be_removed_and_completed(host: Host, run: Any, existing: list[str]) -> None:
    for name in existing:
        (host.domain / name).mkdir(parents=True)
    run("remove", DOMAIN)
    assert not host.domain.exists()
    for name in existing:
        (host.domain / name).mkdir(parents=True)
    run("show", DOMAIN, host.library)
    assert host.names() == base_names(host.library)


def test_an_interrupted_run_leaves_nothing_writable(host: Host, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_target: Path) -> None:
        raise KeyboardInterrupt

    finish = host.program.make_read_only
    for path in (host.library, host.system):  # interrupted at the first mount, then at a later one
        monkeypatch.setattr(host.program, "make_read_only", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run("show", DOMAIN, path)
        monkeypatch.setattr(host.program, "make_read_only", finish)
        run("show", DOMAIN, path)
        assert host.is_protected(host.place(path))
        assert host.is_protected(host.store)


def test_views_are_restored_from_the_gc_roots(host: Host, run: Any) -> None:
    run("show", DOMAIN, host.system, host.other)
    roots = host.program.ROOTS / DOMAIN
    (roots / "system").mkdir(parents=True)
    (roots / "system/wanted").symlink_to(host.other)
    (roots / Path(host.system).name).symlink_to(host.system)
    host.program.unmount(host.store)
    assert host.names() == set()
    run("restore")
    assert host.names() == base_names(host.system, host.library, host.link)
    assert host.is_protected(host.place(host.library))


def test_mounts_at_odd_names_are_read_past(host: Host, run: Any, tmp_path: Path) -> None:
    """Users of the host choose the names of their FUSE mounts; each of these once read as several lines or as none."""
    for number, name in enumerate((b"\xff", b"\xc2\x85", b"\x0b", b"a\nb", b"a b", b"a\\b")):
        odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
        odd.mkdir()
        host.program.bind_read_only(tmp_path, odd)
        run("show", DOMAIN, (host.library, host.system)[number % 2])
        assert odd in host.program.read_mount_points()
    assert host.names() == base_names(host.library, host.system, host.link)


@pytest.mark.parametrize("domain", ["", ".", "..", "../web", "/etc"])
def test_a_domain_whose_name_is_no_directorys_is_refused(
    host: Host, domain: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        host.run("remove", domain, monkeypatch=monkeypatch)
    assert "cannot be the name of a directory" in capsys.readouterr().err


def test_waiting_for_another_run_has_a_limit_and_names_it(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.program, "LOCK_TIMEOUT", 0)
    holder = rf"process {os.getpid()} has held .*lock for 0 s"
    with host.program.one_at_a_time(), pytest.raises(SystemExit, match=holder):
        host.run("restore", monkeypatch=monkeypatch)
    host.run("restore", monkeypatch=monkeypatch)


def test_another_user_cannot_open_the_lock(host: Host) -> None:
    with host.program.one_at_a_time():
        assert host.program.LOCK.stat().st_mode & 0o777 == 0o600
