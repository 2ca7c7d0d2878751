# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest does when the host's store changes. molecule/store shows it with real mounts and a real Nix."""

from __future__ import annotations

import sqlite3
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[3] / "nix/modules/keystone-store-watch"
OLD, NEW, OWN = (f"{letter * 32}-{name}" for letter, name in (("a", "old"), ("b", "new"), ("c", "own")))


class Watch:
    """The program, with a record instead of mounts and Nix."""

    def __init__(self, directory: Path) -> None:
        loader = SourceFileLoader("keystone_store_watch", str(PROGRAM))
        specification = spec_from_loader(loader.name, loader)
        assert specification is not None
        self.program: Any = module_from_spec(specification)
        loader.exec_module(self.program)
        self.share, self.store = directory / "share", directory / "store"
        self.share.mkdir()
        self.store.mkdir()
        self.program.DATABASE = directory / "db.sqlite"
        self.done: list[str] = []
        self.program.remount = lambda store: self.done.append("remount")
        self.program.verify = lambda: self.done.append("verify")

    def lists(self, *names: str) -> None:
        """The guest's database."""
        database = sqlite3.connect(self.program.DATABASE)
        database.execute("create table if not exists ValidPaths (path text)")
        database.executemany("insert into ValidPaths values (?)", [[f"/nix/store/{name}"] for name in names])
        database.commit()
        database.close()


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(tmp_path)


@pytest.mark.parametrize(
    ("before", "now", "valid", "visible", "done"),
    [
        ({OLD}, {OLD}, [OLD], [], []),
        ({OLD}, set(), [OLD], [], ["remount", "verify"]),
        ({OLD}, set(), [], [], []),  # the guest has not used the path
        ({OLD}, {OLD, NEW}, [OLD], [NEW], []),
        ({OLD}, {OLD, NEW}, [OLD], [], ["remount"]),  # the guest has looked for the path before
        ({OLD}, {NEW}, [OLD, OWN], [NEW], ["remount", "verify"]),
        ({OLD, OWN}, {OLD}, [OLD, OWN], [], ["remount", "verify"]),  # at its start: any path may be gone
    ],
)
def test_a_change(
    watch: Watch, before: set[str], now: set[str], valid: list[str], visible: list[str], done: list[str]
) -> None:
    watch.lists(*valid)
    for name in visible:
        (watch.store / name).touch()
    watch.program.follow(watch.store, before, now)
    assert watch.done == done


def test_before_nix_has_a_database(watch: Watch) -> None:
    assert watch.program.valid() == set()


def test_names_that_are_no_store_paths_do_not_count(watch: Watch) -> None:
    for name in (OLD, ".links", "lost+found", f"{OLD}.lock"):
        (watch.share / name).touch()
    assert watch.program.listed(watch.share) == {OLD}
