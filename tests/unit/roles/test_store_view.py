# SPDX-License-Identifier: GPL-3.0-or-later
"""keystone-store-view with a real Nix store and real mounts, in directories of the test."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
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


COMMANDS = [("show", DOMAIN, "system"), ("trim", DOMAIN, "library"), ("remove", DOMAIN)]


def run_and_kill(host: Host, effect: int, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run a command in a process that is killed before a side effect; False when it has ended before."""

    class Libc:
        """Counts system calls for mounts."""

        def __getattr__(self, name: str) -> Any:
            call = getattr(ctypes.CDLL(None, use_errno=True), name)
            return lambda *arguments: (count(), call(*arguments))[1]

    def count() -> None:
        nonlocal effect
        if effect == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        effect -= 1

    def see(event: str, arguments: tuple[Any, ...]) -> None:
        is_written = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if event in ("os.mkdir", "os.rmdir", "os.remove", "os.symlink") or is_written:
            count()

    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        host.program.LIBC = Libc()
        sys.addaudithook(see)
        host.run(*command, monkeypatch=monkeypatch)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or status == 0
    return os.WIFSIGNALED(status)


def state(host: Host) -> tuple[list[str], list[tuple[str, bool]]]:
    """Everything below the directory of the domains, the place of each mount, and whether it is protected."""
    points = [point for point in host.program.read_mount_points() if host.program.DOMAINS in point.parents]
    files = sorted(str(path) for path in host.program.DOMAINS.rglob("*") if "store" not in path.parts[:-2])
    return files, sorted((str(point), host.is_protected(point)) for point in points)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
@pytest.mark.parametrize("following", ["the same", "show", "remove"])
def test_a_killed_run_is_recovered_from(
    host: Host, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], following: str
) -> None:
    """Killed before each side effect, then followed by itself or by another command."""

    def real(words: tuple[str, ...]) -> tuple[str, ...]:
        return (*words[:2], *(getattr(host, word) for word in words[2:]))

    def begin() -> None:
        host.run("remove", DOMAIN, monkeypatch=monkeypatch)
        if command[0] != "show":
            host.run(*real(COMMANDS[0]), monkeypatch=monkeypatch)

    follow = {"the same": command, "show": COMMANDS[0], "remove": COMMANDS[2]}[following]
    begin()
    for words in (command, follow):
        host.run(*real(words), monkeypatch=monkeypatch)
    undisturbed = state(host)
    for effect in range(100):
        begin()
        if not run_and_kill(host, effect, real(command), monkeypatch):
            break
        assert all(protected for _point, protected in state(host)[1]), f"writable after a kill before effect {effect}"
        host.run(*real(follow), monkeypatch=monkeypatch)
        assert state(host) == undisturbed, f"killed before effect {effect}"
    assert effect > 3


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
